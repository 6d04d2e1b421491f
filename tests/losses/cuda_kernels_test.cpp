// The kernels of src/losses/cuda without a GPU: their source run by cuda_emulation.hpp, on products of ATen's.
#include <torch/torch.h>

#include "losses/cuda/kernels.hpp"
#include "losses/cuda/tiled_losses.hpp"
#include "losses/emulated_order.hpp"
#include "losses/full_matrix.hpp"
#include "losses/guarded_memory.hpp"
#include "support/catch.hpp"

namespace fgvl::losses::cuda {

// There is no stream: tensors of these tests are on the CPU.
CUstream_st* current_stream(const Tensor&) { return nullptr; }

void multiply(const Tensor& out, const Tensor& a, const Tensor& b, bool add) {
  const Tensor product = at::mm(a.to(at::kFloat), b.to(at::kFloat));
  if (add) {
    out.add_(product);
  } else {
    out.copy_(product);
  }
}

namespace {

struct Sizes {
  std::int64_t queries, keys, width;
};

Tensor vectors(std::int64_t count, std::int64_t width, int seed, at::ScalarType dtype) {
  torch::manual_seed(seed);
  return torch::nn::functional::normalize(torch::randn({count, width}, torch::kFloat64), torch::nn::functional::NormalizeFuncOptions().dim(1)).to(dtype);
}

/// Ids of which many occur twice or not at all on the other side, and groups of which some rules speak, once of a pair that is both positive and ignored.
PairRules rules_of(const Sizes& sizes, int seed) {
  torch::manual_seed(seed);
  const std::int64_t names = std::max<std::int64_t>(2, sizes.queries * 2 / 3);
  const auto any = [](std::int64_t below, std::int64_t count) { return torch::randint(below, {count}, torch::kInt64); };
  PairRules rules{any(names, sizes.queries) * 7 - 3, any(names, sizes.keys) * 7 - 3, any(9, sizes.queries) - 4, any(9, sizes.keys) - 4, {}, {}};
  rules.positive = torch::tensor({{-4, 3}, {0, 0}, {100, 1}, {0, 0}}, torch::kInt64);
  rules.ignored = torch::tensor({{1, 1}, {-4, 4}, {0, 0}, {2, -3}, {3, -200}, {1, 4}, {-4, -4}}, torch::kInt64);
  return rules;
}

/// Largest difference, relative to the largest expected value.
double difference(const Tensor& value, const Tensor& expected) {
  REQUIRE(value.sizes() == expected.sizes());
  if (expected.numel() == 0) return 0;
  const double scale = std::max(expected.abs().max().item<double>(), 1e-30);
  const double largest = (value.to(torch::kFloat64) - expected.to(torch::kFloat64)).abs().max().item<double>() / scale;
  return std::isnan(largest) ? std::numeric_limits<double>::infinity() : largest;
}

Tensor leaf(const Tensor& value) { return value.detach().clone().set_requires_grad(true); }

/// What bfloat16 costs: inputs are the same, products are exact in float32. Gradients of similarities are rounded to 8 bits, by up to 1/512 of themselves, and so are their sums, which are smaller than what
/// they are made of: three times at most here.
double tolerance_of(at::ScalarType dtype) { return dtype == torch::kFloat32 ? 1e-5 : 1.0 / 128; }
double loss_tolerance_of(at::ScalarType) { return 1e-5; }

void check_contrastive(ContrastiveInput input, double tolerance) {
  ContrastiveInput full = input;
  input.queries = leaf(input.queries), input.keys = leaf(input.keys), input.temperature = leaf(input.temperature);
  full.queries = leaf(full.queries.to(torch::kFloat64)), full.keys = leaf(full.keys.to(torch::kFloat64)), full.temperature = leaf(full.temperature.to(torch::kFloat64));
  const auto total = [](const ContrastiveLosses& losses) {  // a weight of its own for each row
    Tensor sum = (losses.to_keys * torch::linspace(0.5, 2, losses.to_keys.size(0))).sum();
    if (losses.to_queries.defined()) sum = sum + (losses.to_queries * torch::linspace(1, 3, losses.to_queries.size(0))).sum();
    return sum;
  };
  const ContrastiveLosses losses = cuda::tiled_contrastive(input), expected = test::full_contrastive(full);
  CHECK(losses.to_keys.scalar_type() == torch::kFloat32);
  CHECK(difference(losses.to_keys, expected.to_keys) < loss_tolerance_of(input.queries.scalar_type()));
  CHECK(losses.to_queries.defined() == input.both);
  if (input.both) CHECK(difference(losses.to_queries, expected.to_queries) < loss_tolerance_of(input.queries.scalar_type()));
  total(losses).backward();
  total(expected).backward();
  CHECK(difference(input.queries.grad(), full.queries.grad()) < tolerance);
  CHECK(difference(input.keys.grad(), full.keys.grad()) < tolerance);
  // Relative to what its sum is made of, where it cancels.
  const double parts = (full.queries.grad() * full.queries).abs().sum().item<double>() / full.temperature.item<double>();
  CHECK(std::abs(input.temperature.grad().item<double>() - full.temperature.grad().item<double>()) <= 1e-5 * std::max(parts, 1e-30));
}

ContrastiveInput contrastive_input(const Sizes& sizes, at::ScalarType dtype, double temperature = 0.07) {
  return {.queries = vectors(sizes.queries, sizes.width, 1, dtype), .keys = vectors(sizes.keys, sizes.width, 2, dtype), .temperature = torch::tensor(temperature, torch::kFloat32),
          .pairs = rules_of(sizes, 3)};
}

const std::vector<Sizes> kSizes{{1, 1, 1}, {1, 3, 5}, {3, 2, 64}, {64, 64, 32}, {65, 64, 33}, {63, 65, 8}, {70, 130, 40}, {129, 1, 68}, {2, 200, 16}, {20, 70, 300}};

TEST_CASE("cuda contrastive, emulated: losses and gradients are those of the full matrix in float64", "[cuda]") {
  const test::GuardedMemory guards;
  for (const at::ScalarType dtype : {torch::kFloat32, torch::kBFloat16}) {
    for (const Sizes& sizes : kSizes) {
      for (const bool both : {false, true}) {
        CAPTURE(dtype, sizes.queries, sizes.keys, sizes.width, both);
        ContrastiveInput input = contrastive_input(sizes, dtype);
        input.both = both;
        check_contrastive(input, tolerance_of(dtype));
      }
    }
  }
}

TEST_CASE("cuda contrastive, emulated: a queue and soft targets", "[cuda]") {
  const test::GuardedMemory guards;
  for (const at::ScalarType dtype : {torch::kFloat32, torch::kBFloat16}) {
    for (const Sizes& sizes : {Sizes{5, 70, 24}, Sizes{66, 67, 20}, Sizes{3, 129, 260}}) {
      for (const bool own_keys : {false, true}) {
        for (const double alpha : {0.0, 0.4, 1.0}) {
          CAPTURE(dtype, sizes.queries, sizes.keys, sizes.width, own_keys, alpha);
          ContrastiveInput input = contrastive_input(sizes, dtype);
          input.queue = input.keys.slice(0, sizes.keys / 3).clone();
          input.keys = input.keys.slice(0, 0, sizes.keys / 3).clone();
          input.soft = {alpha, vectors(sizes.queries, sizes.width, 4, dtype), own_keys ? Tensor() : vectors(sizes.keys, sizes.width, 5, dtype)};
          check_contrastive(input, tolerance_of(dtype));
        }
      }
    }
  }
}

TEST_CASE("cuda losses, emulated: the order in which threads run changes nothing, bit for bit", "[cuda]") {
  // In the second, blocks go along several patches, and rows have parts in two blocks.
  for (const Sizes& sizes : {Sizes{70, 130, 40}, Sizes{20, 300, 8}}) {
    for (const at::ScalarType dtype : {torch::kFloat32, torch::kBFloat16}) {
      CAPTURE(dtype, sizes.keys);
      std::vector<Tensor> results;
      for (const bool backward : {false, true}) {
        const test::ThreadsBackward order(backward);
        ContrastiveInput input = contrastive_input(sizes, dtype);
        input.both = true;
        input.queries = leaf(input.queries), input.keys = leaf(input.keys), input.temperature = leaf(input.temperature);
        const ContrastiveLosses losses = cuda::tiled_contrastive(input);
        (losses.to_keys.sum() + losses.to_queries.sum()).backward();
        SigmoidInput pairs{leaf(input.queries), leaf(input.keys), leaf(torch::tensor(10.0f)), leaf(torch::tensor(-10.0f)), input.pairs};
        const Tensor of_pairs = cuda::tiled_sigmoid(pairs);
        of_pairs.backward();
        for (const Tensor& result : {losses.to_keys, losses.to_queries, input.queries.grad(), input.keys.grad(), input.temperature.grad()}) results.push_back(result.detach());
        for (const Tensor& result : {of_pairs, pairs.queries.grad(), pairs.keys.grad(), pairs.scale.grad(), pairs.bias.grad()}) results.push_back(result.detach());
      }
      for (std::size_t i = 0; i < results.size() / 2; ++i) CHECK(torch::equal(results[i], results[i + results.size() / 2]));
    }
  }
}

TEST_CASE("cuda contrastive, emulated: saturated logits, zero vectors and rows without a pair", "[cuda]") {
  const test::GuardedMemory guards;
  for (const at::ScalarType dtype : {torch::kFloat32, torch::kBFloat16}) {
    CAPTURE(dtype);
    ContrastiveInput input = contrastive_input({40, 75, 24}, dtype, 0.001);
    input.queries[3].zero_();
    input.keys[70].zero_();
    input.queries[5] = input.queries[5] * 50;  // logits of some 10^4, whose exponentials no float32 holds
    for (const bool both : {false, true}) {
      input.both = both;
      check_contrastive(input, std::max(tolerance_of(dtype), 1.0 / 256));  // float32, too: a logit of 5 10^4 has an error of 3e-3, and so have probabilities between 0 and 1
    }
    // Everything is ignored or absent: losses and gradients are 0, not NaN.
    input.pairs = {torch::arange(40), torch::arange(75) + 1000, torch::zeros(40, torch::kInt64), torch::zeros(75, torch::kInt64), {}, torch::zeros({1, 2}, torch::kInt64)};
    input.queries = leaf(input.queries), input.keys = leaf(input.keys);
    const ContrastiveLosses losses = cuda::tiled_contrastive(input);
    (losses.to_keys.sum() + losses.to_queries.sum()).backward();
    for (const Tensor& zero : {losses.to_keys, losses.to_queries, input.queries.grad(), input.keys.grad()}) CHECK(zero.abs().max().item<double>() == 0);
  }
}

TEST_CASE("cuda contrastive, emulated: several tiles, and blocks that go along several patches", "[cuda]") {
  // Tiles on a CPU are 1024 columns wide at most and have half a million products.
  for (const Sizes& sizes : {Sizes{700, 1100, 4}, Sizes{5000, 130, 4}, Sizes{3, 2100, 4}}) {
    CAPTURE(sizes.queries, sizes.keys);
    ContrastiveInput input = contrastive_input(sizes, torch::kFloat32);
    input.both = true;
    check_contrastive(input, 2e-5);  // a key's gradient is a float32 sum over thousands of queries
  }
  ContrastiveInput input = contrastive_input({700, 1100, 4}, torch::kBFloat16);
  input.queue = input.keys.slice(0, 300).clone();
  input.keys = input.keys.slice(0, 0, 300).clone();
  input.soft = {0.4, vectors(700, 4, 4, torch::kBFloat16), Tensor()};
  check_contrastive(input, tolerance_of(torch::kBFloat16));
}

TEST_CASE("cuda contrastive, emulated: a second backward pass gives what the first gave", "[cuda]") {
  ContrastiveInput input = contrastive_input({70, 130, 40}, torch::kFloat32);
  input.queries = leaf(input.queries);
  const Tensor loss = cuda::tiled_contrastive(input).to_keys.sum();
  const auto gradient = [&] { return torch::autograd::grad({loss}, {input.queries}, {}, /*retain_graph=*/true)[0]; };
  const Tensor first = gradient();
  CHECK(torch::equal(gradient(), first));
}

TEST_CASE("cuda contrastive, emulated: only what needs a gradient gets one, and none of second order", "[cuda]") {
  ContrastiveInput input = contrastive_input({5, 6, 8}, torch::kFloat32);
  input.temperature.set_requires_grad(true);
  cuda::tiled_contrastive(input).to_keys.sum().backward();
  CHECK(input.temperature.grad().defined());
  input.keys = leaf(input.keys);
  cuda::tiled_contrastive(input).to_keys.sum().backward();
  CHECK(input.keys.grad().defined());
  CHECK_FALSE(input.queries.grad().defined());
  CHECK_THROWS_WITH(torch::autograd::grad({cuda::tiled_contrastive(input).to_keys.sum()}, {input.keys}, {}, true, true), Catch::Contains("differentiable once"));
}

TEST_CASE("cuda sigmoid, emulated: losses and gradients are those of the full matrix in float64", "[cuda]") {
  const test::GuardedMemory guards;
  std::vector<Sizes> all = kSizes;
  all.insert(all.end(), {{3, 2100, 4}, {700, 1100, 4}});  // in several tiles
  for (const at::ScalarType dtype : {torch::kFloat32, torch::kBFloat16}) {
    for (const Sizes& sizes : all) {
      for (const double scale : {10.0, 3000.0}) {
        CAPTURE(dtype, sizes.queries, sizes.keys, sizes.width, scale);
        SigmoidInput input{vectors(sizes.queries, sizes.width, 1, dtype), vectors(sizes.keys, sizes.width, 2, dtype), torch::tensor(scale, torch::kFloat32), torch::tensor(-10.0f), rules_of(sizes, 3)};
        SigmoidInput full{input.queries.to(torch::kFloat64), input.keys.to(torch::kFloat64), input.scale.to(torch::kFloat64), input.bias.to(torch::kFloat64), input.pairs};
        for (SigmoidInput* each : {&input, &full}) each->queries = leaf(each->queries), each->keys = leaf(each->keys), each->scale = leaf(each->scale), each->bias = leaf(each->bias);
        const Tensor loss = cuda::tiled_sigmoid(input), expected = test::full_sigmoid(full);
        CHECK(difference(loss, expected) < loss_tolerance_of(dtype));
        {
          const at::NoGradGuard without_gradients;
          CHECK(at::equal(cuda::tiled_sigmoid(input), loss));
        }
        (loss * 0.3).backward();
        (expected * 0.3).backward();
        CHECK(difference(input.queries.grad(), full.queries.grad()) < tolerance_of(dtype));
        CHECK(difference(input.keys.grad(), full.keys.grad()) < tolerance_of(dtype));
        // Every pair adds a derivative between -1 and 1, which is 0 in float32 where the logit is large.
        const double bias_gradient = full.bias.grad().item<double>();
        CHECK(std::abs(input.bias.grad().item<double>() - bias_gradient) <= 1e-5 * std::max(1.0, std::abs(bias_gradient)));
        const double parts = (full.queries.grad() * full.queries).abs().sum().item<double>() / scale;
        CHECK(std::abs(input.scale.grad().item<double>() - full.scale.grad().item<double>()) <= 1e-5 * std::max(parts, 1e-30));
      }
    }
  }
}

}  // namespace
}  // namespace fgvl::losses::cuda
