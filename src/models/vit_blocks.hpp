#pragma once
#include <torch/torch.h>

#include "core/linear.hpp"

#include "fgvl/core/tensor.hpp"

namespace fgvl::models {

enum class Activation { kGelu, kQuickGelu };  ///< exact GELU | x * sigmoid(1.702 x), as OpenAI's CLIP

/// A pre-norm transformer block under CLIP's parameter names.
class VitBlock final : public torch::nn::Module {
 public:
  VitBlock(std::int64_t width, std::int64_t heads, std::int64_t mlp_width, Activation activation);
  /// `tokens` [N, L, D]; `mask` additive over keys or undefined.
  Tensor forward(const Tensor& tokens, const Tensor& mask);

 private:
  std::int64_t heads_;
  Activation activation_;
  Linear query_{nullptr}, key_{nullptr}, value_{nullptr}, out_{nullptr}, widen_{nullptr}, narrow_{nullptr};
  torch::nn::LayerNorm norm1_{nullptr}, norm2_{nullptr};
};

constexpr double kVitNormEps = 1e-5;

/// Multiply-adds x 2 of one block on `tokens` tokens.
double vit_block_flops(std::int64_t tokens, std::int64_t width, std::int64_t mlp_width);

}  // namespace fgvl::models
