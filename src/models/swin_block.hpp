#pragma once
#include <torch/torch.h>

#include "core/linear.hpp"

#include "fgvl/core/tensor.hpp"
#include "models/dropout.hpp"
#include "models/swin_windows.hpp"
#include "models/vit_blocks.hpp"

namespace fgvl::models {

constexpr double kSwinNormEps = 1e-5;

struct SwinBlockOptions {
  std::int64_t width, heads, mlp_width;
  WindowGrid grid;
  double drop_path;
};

/// Attention inside windows and an MLP, pre-norm, under the official names.
class SwinBlock final : public torch::nn::Module {
 public:
  explicit SwinBlock(const SwinBlockOptions& options);
  /// `map` [B, side, side, D]; `mask` what window_mask() makes of the block's grid.
  Tensor forward(const Tensor& map, const Tensor& mask, Dropout& dropout);
  const WindowGrid& grid() const { return options_.grid; }

 private:
  Tensor attend_in_windows(const Tensor& map, const Tensor& mask);

  SwinBlockOptions options_;
  Tensor bias_table_;
  Linear qkv_{nullptr}, out_{nullptr};
  torch::nn::LayerNorm norm1_{nullptr}, norm2_{nullptr};
  std::shared_ptr<Mlp> mlp_;
};

/// Four neighbours become one token of twice the width.
class PatchMerging final : public torch::nn::Module {
 public:
  explicit PatchMerging(std::int64_t width);
  Tensor forward(const Tensor& map);  ///< [B, side, side, D] -> [B, side / 2, side / 2, 2 * D]

 private:
  Linear reduction_{nullptr};
  torch::nn::LayerNorm norm_{nullptr};
};

/// Multiply-adds x 2 of one block on one image.
double swin_block_flops(const SwinBlockOptions& options);

}  // namespace fgvl::models
