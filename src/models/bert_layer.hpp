#pragma once
#include <torch/torch.h>

#include "core/linear.hpp"

#include "fgvl/models/bert.hpp"
#include "models/dropout.hpp"

namespace fgvl::models {

struct BertLayerOptions {
  std::int64_t width, heads, mlp_width;
  std::int64_t visual_width;  ///< of what it cross-attends to; 0: no cross-attention
  double layer_norm_eps, dropout;
  Norm norm;
};

/// Self-attention or cross-attention with its output projection and norm, under BERT's names (`self.query`, `output.dense`, `output.LayerNorm`).
class BertAttention final : public torch::nn::Module {
 public:
  BertAttention(const BertLayerOptions& options, std::int64_t key_width);

  struct Projected {
    Tensor key, value;  ///< [N, S, D]
  };
  Projected project(const Tensor& tokens);
  /// `tokens` [N, L, D], the residual stream, look at `projected`: what `project` made of the normed stream itself, or of visual tokens.
  Tensor forward(const Tensor& tokens, const Projected& projected, const Tensor& mask, Dropout& dropout);
  /// What keys of self-attention are projected from: the norm of the residual stream in a pre-norm layer, else the stream.
  Tensor normed(const Tensor& tokens) { return options_.norm == Norm::kPre ? norm_(tokens) : tokens; }

 private:
  BertLayerOptions options_;
  Linear query_{nullptr}, key_{nullptr}, value_{nullptr}, dense_{nullptr};
  torch::nn::LayerNorm norm_{nullptr};
};

/// One BERT layer; with cross-attention between self-attention and MLP when visual_width > 0.
class BertLayer final : public torch::nn::Module {
 public:
  explicit BertLayer(const BertLayerOptions& options);
  BertAttention::Projected project_visuals(const Tensor& sequences) { return cross_->project(sequences); }
  /// `positions` [N, M]: compute only these rows; undefined: all. `visuals`, `visual_mask`: of the N pairs; unused without cross-attention.
  Tensor forward(const Tensor& tokens, const Tensor& text_mask, const BertAttention::Projected& visuals, const Tensor& visual_mask, const Tensor& positions, Dropout& dropout);

 private:
  BertLayerOptions options_;
  std::shared_ptr<BertAttention> attention_, cross_;
  Linear widen_{nullptr}, narrow_{nullptr};
  torch::nn::LayerNorm norm_{nullptr};
};

}  // namespace fgvl::models
