#pragma once
#include "core/gelu.hpp"
#include "core/linear.hpp"
#include "fgvl/core/features.hpp"

namespace fgvl::losses {

/// BERT's word prediction head, registered in `owner` under its official names: dense, LayerNorm, bias.
class WordHead {
 public:
  WordHead(torch::nn::Module& owner, const FeatureSpec& spec)
      : dense_(owner.register_module("dense", Linear(spec.fusion_width, spec.fusion_width))),
        norm_(owner.register_module("LayerNorm", layer_norm(spec.fusion_width, spec.text_layer_norm_eps))),
        bias_(owner.register_parameter("bias", torch::zeros({spec.vocab_size}))) {}

  /// [N, D] tokens, [V, D] `decoder` -> [N, V].
  Tensor logits(const Tensor& tokens, const Tensor& decoder) { return at::linear(norm_(exact_gelu(dense_(tokens))), decoder, bias_); }
  /// 0, with a gradient of 0: what a batch without words to predict gives.
  Tensor zero() const { return bias_.sum() * 0.0; }

 private:
  Linear dense_;
  torch::nn::LayerNorm norm_;
  Tensor bias_;
};

}  // namespace fgvl::losses
