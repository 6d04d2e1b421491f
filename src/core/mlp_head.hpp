#pragma once
#include <torch/torch.h>

#include "core/linear.hpp"

#include "fgvl/core/features.hpp"

namespace fgvl::losses {

/// X-VLM's build_mlp: Linear(D, 2 D), LayerNorm, GELU, Linear(2 D, outputs); parameters `0`, `1`, `3` as in its checkpoints.
class MlpHead final : public torch::nn::Module {
 public:
  MlpHead(const FeatureSpec& spec, std::int64_t outputs)
      : widen_(register_module("0", Linear(spec.fusion_width, 2 * spec.fusion_width))),
        norm_(register_module("1", torch::nn::LayerNorm(torch::nn::LayerNormOptions({2 * spec.fusion_width}).eps(spec.head_layer_norm_eps)))),
        out_(register_module("3", Linear(2 * spec.fusion_width, outputs))) {}
  Tensor forward(const Tensor& tokens) { return out_(at::gelu(norm_(widen_(tokens)))); }

 private:
  Linear widen_;
  torch::nn::LayerNorm norm_;
  Linear out_;
};

inline std::shared_ptr<MlpHead> make_mlp_head(const FeatureSpec& spec, std::int64_t outputs) { return std::make_shared<MlpHead>(spec, outputs); }

}  // namespace fgvl::losses
