#pragma once
#include <torch/torch.h>

namespace fgvl {

/// torch::nn::Linear as one operator. LibTorch's own forward is a product and a sum, two passes over the output where `at::linear` needs one.
class LinearImpl final : public torch::nn::LinearImpl {
 public:
  using torch::nn::LinearImpl::LinearImpl;
  at::Tensor forward(const at::Tensor& input) { return at::linear(input, weight, bias); }
};
TORCH_MODULE(Linear);

/// LayerNorm over the last `width` channels.
inline torch::nn::LayerNorm layer_norm(std::int64_t width, double eps) { return torch::nn::LayerNorm(torch::nn::LayerNormOptions({width}).eps(eps)); }

}  // namespace fgvl
