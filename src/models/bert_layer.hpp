#pragma once
#include <memory>
#include <vector>

#include <torch/torch.h>

#include "core/linear.hpp"

#include "fgvl/models/bert.hpp"
#include "models/packed_texts.hpp"
#include "models/dropout.hpp"

namespace fgvl::models {

struct BertLayerOptions {
  std::int64_t width, heads, mlp_width;
  std::int64_t visual_width;  ///< of what it cross-attends to; 0: no cross-attention
  double layer_norm_eps, dropout, attention_dropout;
  Norm norm;
};

/// Self-attention or cross-attention with its output projection and norm, under BERT's names (`self.query`, `output.dense`, `output.LayerNorm`).
class BertAttention final : public torch::nn::Module {
 public:
  BertAttention(const BertLayerOptions& options, std::int64_t key_width);

  struct Projected {
    Tensor key, value;  ///< [N, heads, S, D / heads]
  };
  /// Of visual tokens [N, S, D].
  Projected project(const Tensor& tokens);
  /// Of packed texts [R, D].
  Projected project(const Tensor& tokens, const PackedTexts& texts);
  /// `tokens` [R, D], the residual stream, look at `projected`: what `project` made of the normed stream itself, or of visual tokens. `normed` is normed(tokens); `texts` says how they lie as
  /// queries; `mask` additive, [N, 1, 1, S] or with a row for each query, or undefined.
  Tensor forward(const Tensor& tokens, const Tensor& normed, const PackedTexts& texts, const Projected& projected, const Tensor& mask, Dropout& dropout);
  /// [N, heads, L, S]: the weights with which `forward` takes values, for padded `tokens` [N, L, D] and `key` [N, heads, S, D / heads].
  Tensor weights(const Tensor& tokens, const Tensor& key, const Tensor& mask);
  /// What queries, and keys of self-attention, are projected from: the norm of the residual stream in a pre-norm layer, else the stream.
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
  /// The MLP of `shared`, with cross-attention `cross` before it and with `self` as self-attention; null: that of `shared`, too. The parts keep their owners: this layer must not be registered with a model.
  BertLayer(const BertLayer& shared, std::shared_ptr<BertAttention> self, std::shared_ptr<BertAttention> cross);
  BertAttention::Projected project_visuals(const Tensor& sequences) { return cross_->project(sequences); }
  /// A layer is its attentions and its MLP in turn; each takes and returns the residual stream of `texts`, [R, D].
  /// `text_mask` additive, [N, 1, 1, L], or [1, 1, L, L] with a row for each token that looks. `positions` [N, M]: compute only these rows, [N * M, D]; undefined: all.
  Tensor attend_to_text(const Tensor& tokens, const PackedTexts& texts, const Tensor& text_mask, const Tensor& positions, Dropout& dropout);
  /// `visuals` of the sequence of each of the `texts`, or of each bundle of them (PackedTexts::bundled).
  Tensor attend_to_visuals(const Tensor& stream, const PackedTexts& texts, const BertAttention::Projected& visuals, const Tensor& visual_mask, Dropout& dropout) {
    return cross_->forward(stream, cross_->normed(stream), texts, visuals, visual_mask, dropout);
  }
  /// [N, heads, L, S] of attend_to_visuals; `keys` [N, heads, S, D / heads].
  Tensor visual_weights(const Tensor& stream, const PackedTexts& texts, const Tensor& keys, const Tensor& visual_mask) { return cross_->weights(texts.pad(stream), keys, visual_mask); }
  Tensor think(const Tensor& stream, Dropout& dropout);
  const BertLayerOptions& options() const { return options_; }

 private:
  BertLayerOptions options_;
  std::shared_ptr<BertAttention> attention_, cross_;
  Linear widen_{nullptr}, narrow_{nullptr};
  torch::nn::LayerNorm norm_{nullptr};
};

using BertLayers = std::vector<std::shared_ptr<BertLayer>>;
/// A list of layers below `parent` under BERT's name `layer`.
BertLayers make_bert_layers(torch::nn::Module& parent, std::int64_t count, const BertLayerOptions& options);

/// Multiply-adds x 2 of self-attention and MLP of one layer on a text of `tokens`.
double bert_layer_flops(double tokens, double width, double mlp_width);

}  // namespace fgvl::models
