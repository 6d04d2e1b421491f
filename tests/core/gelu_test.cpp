// The gradient of GELU that a CPU computes is ATen's, to rounding.
#include <limits>

#include <torch/torch.h>

#include "core/gelu.hpp"
#include "support/catch.hpp"

namespace fgvl {
namespace {

using torch::autograd::grad;

Tensor gradient(const Tensor& input, const Tensor& outer) {
  const Tensor leaf = input.detach().requires_grad_();
  return grad({exact_gelu(leaf)}, {leaf}, {outer})[0];
}

TEST_CASE("gelu: value and gradient are ATen's, whatever the layout and the number of threads", "[gelu]") {
  const Tensor input = at::cat({torch::randn({301, 257}) * 3, torch::linspace(-15, 15, 301 * 100).view({301, 100})}, 1), outer = torch::randn_like(input);
  const Tensor expected = at::gelu_backward(outer.to(at::kDouble), input.to(at::kDouble));
  CHECK(at::equal(exact_gelu(input.clone().requires_grad_()), at::gelu(input)));
  CHECK(at::allclose(gradient(input, outer).to(at::kDouble), expected, 1e-6, 2e-6));
  CHECK(at::equal(gradient(input.t(), outer.t()), gradient(input, outer).t()));
  CHECK(at::equal(gradient(input, torch::ones({1}).expand_as(input)), gradient(input, torch::ones_like(input))));
  const int threads = at::get_num_threads();
  at::set_num_threads(2);
  const Tensor shared = gradient(input, outer);
  at::set_num_threads(threads);
  CHECK(at::equal(shared, gradient(input, outer)));
  for (const at::ScalarType type : {at::kDouble, at::kBFloat16}) CHECK(at::equal(gradient(input.to(type), outer.to(type)), at::gelu_backward(outer.to(type), input.to(type))));
}

TEST_CASE("gelu: the gradient far from 0 and of what is no number", "[gelu]") {
  const Tensor far = torch::tensor({0.0F, -0.0F, 1e-30F, 14.0F, -14.0F, 1e4F, -1e4F, 3e38F, -3e38F}), ones = torch::ones_like(far);
  CHECK(at::allclose(gradient(far, ones), at::gelu_backward(ones, far), 1e-6, 1e-6));
  CHECK(gradient(torch::full({9}, std::numeric_limits<float>::quiet_NaN()), torch::ones({9})).isnan().all().item<bool>());
}

TEST_CASE("gelu: twice differentiable", "[gelu]") {
  const Tensor input = torch::randn({7, 3}).requires_grad_(), outer = torch::randn({7, 3});
  const auto second = [&](const Tensor& value) { return grad({(grad({value}, {input}, {outer}, /*retain_graph=*/true, /*create_graph=*/true)[0] * outer).sum()}, {input})[0]; };
  CHECK(at::allclose(second(exact_gelu(input)), second(at::gelu(input))));
}

}  // namespace
}  // namespace fgvl
