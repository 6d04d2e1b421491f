#pragma once
#include <memory>
#include <string>
#include <vector>

#include <torch/torch.h>

#include "core/linear.hpp"

#include "fgvl/core/config_visitor.hpp"
#include "fgvl/core/tensor.hpp"
#include "fgvl/models/activation.hpp"
#include "models/dropout.hpp"

namespace fgvl::models {

/// Two linear maps with an activation between them, named `fc1` and `fc2` by every reference.
class Mlp final : public torch::nn::Module {
 public:
  Mlp(std::int64_t width, std::int64_t mlp_width, Activation activation);
  Tensor forward(const Tensor& tokens);

 private:
  Activation activation_;
  Linear widen_{nullptr}, narrow_{nullptr};
};

/// A pre-norm transformer block over whole sequences.
class TransformerBlock : public torch::nn::Module {
 public:
  /// `tokens` [N, L, D]; `mask` additive over keys or undefined. [N, L, D].
  virtual Tensor forward(const Tensor& tokens, const Tensor& mask, Dropout& dropout) = 0;
};
using TransformerBlocks = std::vector<std::shared_ptr<TransformerBlock>>;

/// block->forward(tokens, mask, dropout), by recompute() where `checkpointed`.
Tensor run_block(bool checkpointed, const std::shared_ptr<TransformerBlock>& block, const Tensor& tokens, const Tensor& mask, Dropout& dropout);

/// Under CLIP's parameter names: queries, keys and values are three maps.
class VitBlock final : public TransformerBlock {
 public:
  VitBlock(std::int64_t width, std::int64_t heads, std::int64_t mlp_width, Activation activation);
  Tensor forward(const Tensor& tokens, const Tensor& mask, Dropout& dropout) override;

 private:
  std::int64_t heads_;
  Linear query_{nullptr}, key_{nullptr}, value_{nullptr}, out_{nullptr};
  torch::nn::LayerNorm norm1_{nullptr}, norm2_{nullptr};
  std::shared_ptr<Mlp> mlp_;
};

struct QkvBlockOptions {
  std::int64_t width, heads, mlp_width;
  double norm_eps;
  double drop_path;  ///< probability that a sequence skips the attention, and again the MLP
};

/// Under timm's parameter names, which DeiT uses: queries, keys and values are one map; exact GELU.
class QkvBlock final : public TransformerBlock {
 public:
  explicit QkvBlock(const QkvBlockOptions& options);
  Tensor forward(const Tensor& tokens, const Tensor& mask, Dropout& dropout) override;

 private:
  QkvBlockOptions options_;
  Linear qkv_{nullptr}, out_{nullptr};
  torch::nn::LayerNorm norm1_{nullptr}, norm2_{nullptr};
  std::shared_ptr<Mlp> mlp_;
};

constexpr double kVitNormEps = 1e-5;

/// Stochastic depth of block `index` of `count`: rises linearly from 0 to `last` (arXiv 1603.09382).
double path_probability(double last, std::int64_t index, std::int64_t count);

/// "field: expected what, got a number".
inline std::string mismatch(const char* field, const std::string& what, std::int64_t got) { return std::string(field) + ": expected " + what + ", got " + std::to_string(got); }

/// What is wrong with the sizes of a vision transformer; "" where square patches fill the image, the heads share the width, and no more blocks are masked than there are.
template <class Options>
std::string size_problem(const Options& options) {
  if (options.patch_size <= 0 || options.image_size % options.patch_size != 0) return mismatch("image_size", "a multiple of patch_size " + std::to_string(options.patch_size), options.image_size);
  if (options.heads <= 0 || options.width % options.heads != 0) return mismatch("width", "a multiple of heads " + std::to_string(options.heads), options.width);
  if constexpr (requires { options.local_attn_depth; }) {
    if (options.local_attn_depth > options.layers) return mismatch("local_attn_depth", "at most layers = " + std::to_string(options.layers), options.local_attn_depth);
  }
  return "";
}
/// The problem as c10::Error of whoever calls a constructor, and as one of a configuration.
inline void check_sizes(const char* options, const std::string& problem) { TORCH_CHECK(problem.empty(), "[", options, "] ", problem); }
inline void check_sizes(config::Visitor& visitor, const std::string& problem) { visitor.check(problem.empty(), problem); }

/// The fields that vision transformers with a class token have in common.
template <class Options>
void visit_sizes(config::Visitor& visitor, Options& options) {
  visitor("image_size", options.image_size, "pixels a side", {8, 4096});
  visitor("patch_size", options.patch_size, "pixels a side of one patch", {1, 256});
  visitor("width", options.width, "of the tokens", {1, 8192});
  visitor("layers", options.layers, "transformer blocks", {1, 256});
  visitor("heads", options.heads, "of attention", {1, 256});
}

/// Multiply-adds x 2 of one linear map of the pixels of grid^2 patches.
double patch_embed_flops(std::int64_t grid, std::int64_t width, std::int64_t patch_size);

/// Multiply-adds x 2 of one block on `tokens` tokens.
double vit_block_flops(std::int64_t tokens, std::int64_t width, std::int64_t mlp_width);

/// Multiply-adds x 2 of a vision transformer with a class token on one image.
template <class Options>
double class_token_vit_flops(const Options& options, std::int64_t mlp_width) {
  const std::int64_t grid = options.image_size / options.patch_size;
  return patch_embed_flops(grid, options.width, options.patch_size) + static_cast<double>(options.layers) * vit_block_flops(1 + grid * grid, options.width, mlp_width);
}

}  // namespace fgvl::models
