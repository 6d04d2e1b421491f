// tiled_contrastive and tiled_sigmoid on a GPU, by our kernels where the library has them. Without one, cuda_kernels_test runs the same kernels on the CPU.
#include <torch/torch.h>

#include "losses/full_matrix.hpp"
#include "support/catch.hpp"
#include "support/gpu.hpp"

namespace fgvl::losses {
namespace {

Tensor gpu_vectors(std::int64_t count, std::int64_t width, int seed, at::ScalarType dtype) {
  torch::manual_seed(seed);
  const Tensor rows = torch::randn({count, width}, torch::kFloat64);
  return (rows / rows.norm(2, {1}, true)).to(dtype).to(torch::kCUDA);
}

PairRules gpu_rules(std::int64_t queries, std::int64_t keys) {
  torch::manual_seed(9);
  const auto any = [](std::int64_t below, std::int64_t count) { return torch::randint(std::max<std::int64_t>(below, 1), {count}, torch::kInt64).to(torch::kCUDA); };
  return {any(queries, queries), any(queries, keys), any(9, queries), any(9, keys), torch::tensor({{0, 0}, {5, 3}}, torch::kInt64).to(torch::kCUDA),
          torch::tensor({{1, 1}, {0, 0}, {4, 2}, {2, 77}}, torch::kInt64).to(torch::kCUDA)};
}

/// float32 to 1e-5; bfloat16 as its rounding allows; relative to the largest value, or to 1 where all is small: losses and gradients are differences of numbers as large as a logit.
void check_close(const Tensor& value, const Tensor& expected, double tolerance) {
  const double scale = std::max(expected.abs().max().item<double>(), 1.0);
  CHECK((value.cpu().to(torch::kFloat64) - expected.cpu()).abs().max().item<double>() <= tolerance * scale);
}

Tensor gpu_leaf(const Tensor& value) { return value.detach().clone().set_requires_grad(true); }
Tensor double_leaf(const Tensor& value) { return value.detach().cpu().to(torch::kFloat64).set_requires_grad(true); }

TEST_CASE("tiled_contrastive on a GPU equals the full matrix in float64, and itself bit for bit", "[cuda]") {
  FGVL_NEEDS_GPU();
  for (const at::ScalarType dtype : {torch::kFloat32, torch::kBFloat16, torch::kFloat64}) {
    const double tolerance = dtype == torch::kBFloat16 ? 1.0 / 128 : 1e-5;  // as in cuda_kernels_test
    for (const auto& [queries, keys, width] : {std::tuple{0, 5, 8}, {5, 0, 8}, {1, 1, 1}, {64, 64, 64}, {65, 1, 33}, {300, 1000, 300}, {1000, 700, 520}, {3001, 4500, 64}}) {  // the last in several tiles
      for (const bool both : {true, false}) {
        CAPTURE(dtype, queries, keys, width, both);
        ContrastiveInput input{.queries = gpu_leaf(gpu_vectors(queries, width, 1, dtype)), .keys = gpu_leaf(gpu_vectors(keys, width, 2, dtype)),
                               .temperature = gpu_leaf(torch::tensor(0.07, torch::kFloat32).to(torch::kCUDA)), .pairs = gpu_rules(queries, keys), .both = both};
        if (!both) input.soft = {0.4, gpu_vectors(queries, width, 3, dtype), gpu_vectors(keys, width, 4, dtype)};
        if (!both && keys > 100) {
          input.queue = input.keys.detach().slice(0, keys / 3).clone();
          input.keys = gpu_leaf(input.keys.slice(0, 0, keys / 3));
        }
        ContrastiveInput full = input;
        if (full.queue.defined()) full.queue = full.queue.cpu();
        full.queries = double_leaf(input.queries), full.keys = double_leaf(input.keys), full.temperature = double_leaf(input.temperature);
        full.soft = {input.soft.alpha, both ? Tensor() : input.soft.queries.cpu(), both ? Tensor() : input.soft.keys.cpu()};
        const auto total = [](const ContrastiveLosses& losses) { return losses.to_queries.defined() ? losses.to_keys.sum() + losses.to_queries.sum() : losses.to_keys.sum(); };
        const ContrastiveLosses losses = tiled_contrastive(input), expected = test::full_contrastive(full);
        if (queries == 0 || keys == 0) {
          CHECK(total(losses).item<double>() == 0);
          continue;
        }
        check_close(losses.to_keys, expected.to_keys, 1e-5);
        total(losses).backward();
        total(expected).backward();
        check_close(input.queries.grad(), full.queries.grad(), tolerance);
        check_close(input.keys.grad(), full.keys.grad(), tolerance);
        const double parts = (full.queries.grad() * full.queries).abs().sum().item<double>() / 0.07;
        CHECK(std::abs(input.temperature.grad().item<double>() - full.temperature.grad().item<double>()) <= 1e-5 * std::max(parts, 1.0));

        ContrastiveInput again = input;
        again.queries = gpu_leaf(input.queries), again.keys = gpu_leaf(input.keys), again.temperature = gpu_leaf(input.temperature);
        total(tiled_contrastive(again)).backward();
        CHECK(torch::equal(again.queries.grad(), input.queries.grad()));
        CHECK(torch::equal(again.keys.grad(), input.keys.grad()));
      }
    }
  }
}

TEST_CASE("tiled_sigmoid on a GPU equals the full matrix in float64", "[cuda]") {
  FGVL_NEEDS_GPU();
  for (const at::ScalarType dtype : {torch::kFloat32, torch::kBFloat16}) {
    for (const auto& [queries, keys, width] : {std::tuple{1, 1, 1}, {65, 1, 33}, {1000, 700, 520}}) {
      CAPTURE(dtype, queries, keys, width);
      const double tolerance = dtype == torch::kBFloat16 ? 1.0 / 128 : 1e-5;
      SigmoidInput input{gpu_leaf(gpu_vectors(queries, width, 1, dtype)), gpu_leaf(gpu_vectors(keys, width, 2, dtype)), torch::tensor(10.0f).to(torch::kCUDA), torch::tensor(-10.0f).to(torch::kCUDA),
                         gpu_rules(queries, keys)};
      SigmoidInput full{double_leaf(input.queries), double_leaf(input.keys), input.scale.cpu(), input.bias.cpu(), input.pairs};
      const Tensor loss = tiled_sigmoid(input), expected = test::full_sigmoid(full);
      check_close(loss, expected, 1e-5);
      loss.backward();
      expected.backward();
      check_close(input.queries.grad(), full.queries.grad(), tolerance);
      check_close(input.keys.grad(), full.keys.grad(), tolerance);
    }
  }
}

}  // namespace
}  // namespace fgvl::losses
