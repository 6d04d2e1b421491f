// Attention weights and their gradients are those of the formula.
#include "models/attention.hpp"

#include "support/catch.hpp"

namespace fgvl::models {
namespace {

using torch::autograd::grad;

TEST_CASE("attention weights: value and gradients are the formula's, with a learned bias for all pairs, a mask for each, and without; twice differentiable", "[models]") {
  const auto random = [](at::IntArrayRef shape) { return torch::randn(shape, torch::kDouble).requires_grad_(); };
  const Tensor query = random({3, 2, 5, 4}), key_rows = random({3, 7, 2, 4}), key = key_rows.transpose(1, 2), outer = torch::randn({3, 2, 5, 7}, torch::kDouble);
  for (const Tensor& mask : {random({1, 2, 5, 7}), random({3, 1, 1, 7}), torch::randn({3, 1, 1, 7}, torch::kDouble), Tensor()}) {
    const Tensor scores = at::matmul(query, key.transpose(2, 3)) / 2.0, expected = (mask.defined() ? scores + mask : scores).softmax(3), weights = weights_of_heads(query, key, mask);
    CHECK(at::allclose(weights, expected, 1e-12, 1e-12));
    std::vector<Tensor> inputs = {query, key_rows};
    if (mask.defined() && mask.requires_grad()) inputs.push_back(mask);
    const auto ours = grad({weights}, inputs, {outer}, /*retain_graph=*/true, /*create_graph=*/true), theirs = grad({expected}, inputs, {outer}, true, true);
    Tensor first = torch::zeros({}, torch::kDouble), second = first;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      CHECK(at::allclose(ours[i], theirs[i], 1e-12, 1e-12));
      first = first + ours[i].square().sum();
      second = second + theirs[i].square().sum();
    }
    CHECK(at::allclose(grad({first}, {query})[0], grad({second}, {query})[0], 1e-11, 1e-11));
  }
}

}  // namespace
}  // namespace fgvl::models
