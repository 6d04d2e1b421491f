#include "core/gelu.hpp"

#include <algorithm>

#include <ATen/Parallel.h>
#include <torch/torch.h>

#include "core/gelu_gradient.hpp"

namespace fgvl {
namespace {

constexpr std::int64_t kBlock = 1024;  // elements; the last few of an odd number are rounded otherwise, so that threads share whole blocks
constexpr std::int64_t kGrain = 32;    // blocks for which another thread is worth while

class Gelu final : public torch::autograd::Function<Gelu> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& input) {
    context->save_for_backward({input});
    return at::gelu(input);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, const torch::autograd::variable_list& gradients) {
    const Tensor input = context->get_saved_variables()[0];
    if (at::GradMode::is_enabled()) return {at::gelu_backward(gradients[0], input)};  // whoever differentiates twice
    const Tensor source = input.contiguous(), outer = gradients[0].contiguous(), result = at::empty_like(source);
    const float* in = source.const_data_ptr<float>();
    const float* from = outer.const_data_ptr<float>();
    float* out = result.mutable_data_ptr<float>();
    const std::int64_t count = source.numel();
    at::parallel_for(0, (count + kBlock - 1) / kBlock, kGrain, [&](std::int64_t first, std::int64_t last) {
      const std::int64_t begin = first * kBlock, end = std::min(last * kBlock, count);
      gelu_gradient(in + begin, from + begin, out + begin, end - begin);
    });
    return {result};
  }
};

}  // namespace

Tensor exact_gelu(const Tensor& input) {
  const bool ours = kHasGeluGradient && input.is_cpu() && input.scalar_type() == at::kFloat && input.requires_grad() && at::GradMode::is_enabled();
  return ours ? Gelu::apply(input) : at::gelu(input);
}

}  // namespace fgvl
