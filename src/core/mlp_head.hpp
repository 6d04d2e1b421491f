#pragma once
#include "core/gelu.hpp"
#include "core/linear.hpp"

namespace fgvl {

/// X-VLM's build_mlp: Linear(D, 2 D), LayerNorm, GELU, Linear(2 D, outputs); parameters `0`, `1`, `3` as in its checkpoints. The box head and the heads of losses.
class MlpHead final : public torch::nn::Module {
 public:
  MlpHead(std::int64_t width, std::int64_t outputs, double layer_norm_eps)
      : widen_(register_module("0", Linear(width, 2 * width))),
        norm_(register_module("1", layer_norm(2 * width, layer_norm_eps))),
        out_(register_module("3", Linear(2 * width, outputs))) {}
  /// [N, D] -> [N, outputs].
  at::Tensor forward(const at::Tensor& tokens) { return out_(exact_gelu(norm_(widen_(tokens)))); }

 private:
  Linear widen_;
  torch::nn::LayerNorm norm_;
  Linear out_;
};

}  // namespace fgvl
