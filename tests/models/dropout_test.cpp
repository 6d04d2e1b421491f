// Dropout on CPUs draws its own numbers: that they are what dropout needs, whatever the type, the layout and the threads.
#include <cmath>

#include <torch/torch.h>

#include "models/dropout.hpp"
#include "support/catch.hpp"

namespace fgvl::models {
namespace {

Dropout stage(const char* purpose, std::uint64_t step = 0) { return Dropout({.seed = 7, .epoch = step, .purpose = purpose}, at::kCPU); }
Tensor kept(const Tensor& dropped) { return dropped != 0; }
/// [40] 1 for the rows that have their branch in a stage "test" of 40 rows.
Tensor kept_rows(double probability) {
  return stage("test").add_branch(torch::zeros({40, 1}, at::kDouble), probability, [](const Tensor& stream, const Dropout::Rows&) { return torch::ones_like(stream); }).flatten().ne(0).to(at::kDouble);
}

TEST_CASE("dropout keeps each element with its probability, independently of the others, and divides it by that", "[dropout]") {
  constexpr std::int64_t kCount = 1'000'001;  // odd: two draws share a word, and one is left
  for (const double probability : {0.1, 0.5, 0.9}) {
    INFO(probability);
    const Tensor dropped = stage("test")(torch::ones({kCount}), probability), of_kept = dropped.masked_select(kept(dropped));
    CHECK(at::equal(of_kept, at::full_like(of_kept, static_cast<float>(1 / (1 - probability)))));
    const Tensor drawn = kept(dropped).to(at::kDouble) - (1 - probability);
    const double deviation = std::sqrt(probability * (1 - probability));
    CHECK(std::abs(drawn.mean().item<double>()) < 5 * deviation / std::sqrt(kCount));
    for (const std::int64_t distance : {1, 2, 3, 4, 7, 16, 96, 384, 4096}) {  // the correlation of n independent pairs is within 5 / sqrt(n) of 0
      INFO(distance);
      const double correlation = (drawn.slice(0, distance) * drawn.slice(0, 0, kCount - distance)).mean().item<double>() / (deviation * deviation);
      CHECK(std::abs(correlation) < 5 / std::sqrt(kCount - distance));
    }
  }
}

TEST_CASE("dropout: calls, stages and steps draw independently, and a copy draws what it was copied from", "[dropout]") {
  const Tensor ones = torch::ones({10'000});
  Dropout first = stage("first"), copied = first.copy();
  const Tensor once = first(ones, 0.5), twice = first(ones, 0.5);
  CHECK(at::equal(copied(ones, 0.5), once));
  CHECK(at::equal(copied(ones, 0.5), twice));
  // Of two independent draws half agree, with a standard deviation of half a percent.
  const auto agreement = [](const Tensor& a, const Tensor& b) { return (kept(a) == kept(b)).to(at::kDouble).mean().item<double>(); };
  CHECK(agreement(once, twice) == Approx(0.5).margin(0.025));
  CHECK(agreement(once, stage("second")(ones, 0.5)) == Approx(0.5).margin(0.025));
  CHECK(agreement(once, stage("first", 1)(ones, 0.5)) == Approx(0.5).margin(0.025));
  CHECK(at::equal(once, stage("first")(ones, 0.5)));
}

TEST_CASE("dropout: the gradient is dropped where the input was, and so is the gradient's gradient", "[dropout]") {
  const Tensor input = torch::randn({33, 5}, at::kDouble).requires_grad_(), weights = torch::randn({33, 5}, at::kDouble).requires_grad_(), other = torch::randn({33, 5}, at::kDouble);
  const Tensor factors = stage("test")(torch::ones({33, 5}, at::kDouble), 0.3);
  const Tensor dropped = stage("test")(input, 0.3);
  CHECK(at::allclose(dropped, input * factors, 1e-14));
  const Tensor gradient = torch::autograd::grad({(dropped * weights).sum()}, {input}, {}, /*retain_graph=*/true, /*create_graph=*/true)[0];
  CHECK(at::allclose(gradient, weights * factors, 1e-14));
  CHECK(at::allclose(torch::autograd::grad({(gradient * other).sum()}, {weights})[0], other * factors, 1e-14));
}

TEST_CASE("stochastic depth runs a branch only for the rows that have it, with the numbers and gradients of one that runs for all", "[dropout]") {
  const Tensor weight = torch::randn({5, 5}, at::kDouble), per_row = torch::randn({40, 1, 1}, at::kDouble), values = torch::randn({40, 3, 5}, at::kDouble), other = torch::randn({40, 3, 5}, at::kDouble);
  const auto branch = [&](const Tensor& stream, const Tensor& scale, const Tensor& by) { return (stream * scale).matmul(by).tanh(); };
  for (const double probability : {0.0, 0.001, 0.3, 0.999}) {  // of all rows, of all with a factor, of some, of none
    INFO(probability);
    const Tensor stream = values.clone().requires_grad_(), by = weight.clone().requires_grad_(), all = values.clone().requires_grad_(), all_by = weight.clone().requires_grad_();
    std::int64_t computed = 0;
    const Tensor out = stage("test").add_branch(stream, probability, [&](const Tensor& some, const Dropout::Rows& rows) {
      computed = some.size(0);
      return branch(some, rows.of(per_row), by);
    });
    const Tensor kept = kept_rows(probability), expected = all + branch(all, per_row, all_by) * (kept / (1 - probability)).view({40, 1, 1});
    const auto count = kept.sum().item<std::int64_t>();
    CHECK((probability < 0.01 ? count == 40 : probability > 0.9 ? count == 0 : count > 0 && count < 40));
    CHECK(computed == (count == 0 ? 40 : count));
    CHECK(at::allclose(out, expected, 1e-14, 1e-14));
    (out * other).sum().backward();
    (expected * other).sum().backward();
    CHECK(at::allclose(stream.grad(), all.grad(), 1e-12, 1e-14));
    REQUIRE(by.grad().defined());
    CHECK(at::allclose(by.grad(), all_by.grad(), 1e-12, 1e-14));
  }
}

TEST_CASE("dropout: what is dropped depends on an element's place alone", "[dropout]") {
  const Tensor ones = torch::ones({300, 401}), expected = kept(stage("test")(ones, 0.25));
  for (const at::ScalarType type : {at::kDouble, at::kBFloat16}) CHECK(at::equal(kept(stage("test")(ones.to(type), 0.25)), expected));
  CHECK(at::equal(kept(stage("test")(torch::ones({401, 300}).t(), 0.25)), expected));
  const int threads = at::get_num_threads();
  at::set_num_threads(3);
  const Tensor shared = kept(stage("test")(ones, 0.25));
  at::set_num_threads(threads);
  CHECK(at::equal(shared, expected));
  CHECK(stage("test")(torch::ones({0, 4}), 0.25).sizes() == at::IntArrayRef{0, 4});
}

}  // namespace
}  // namespace fgvl::models
