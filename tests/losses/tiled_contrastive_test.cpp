#include <algorithm>
#include <cmath>
#include <limits>

#include <torch/torch.h>

#include "core/live_bytes.hpp"
#include "fgvl/core/random.hpp"
#include "fgvl/losses/tiled_contrastive.hpp"
#include "losses/full_matrix.hpp"
#include "support/catch.hpp"

namespace fgvl::losses {
namespace {

constexpr std::int64_t kEmbedDim = 6;

/// Normally distributed rows: their norms differ.
Tensor rows(std::int64_t count, std::uint64_t seed, at::ScalarType dtype = at::kDouble, std::int64_t width = kEmbedDim) {
  at::Generator generator = Generator({.seed = seed}).torch_generator(at::kCPU);
  return torch::empty({count, width}, torch::kFloat64).normal_(0, 0.5, generator).to(dtype);
}

Tensor integers(std::int64_t count, std::int64_t below, std::uint64_t seed) {
  at::Generator generator = Generator({.seed = seed}).torch_generator(at::kCPU);
  return torch::empty({count}, torch::kLong).random_(0, below, generator);
}

/// Keys that repeat, names that match nothing, and relations that name groups twice and groups that do not exist.
PairRules random_rules(std::int64_t queries, std::int64_t keys, std::uint64_t seed) {
  const std::int64_t distinct = std::max<std::int64_t>(2, keys * 2 / 3);
  const std::int64_t groups = std::min<std::int64_t>(20, std::max<std::int64_t>(1, queries / 2)), key_groups = std::min<std::int64_t>(20, distinct);
  const auto relations = [&](std::uint64_t of) { return at::stack({integers(groups + 8, groups + 5, of), integers(groups + 8, key_groups + 2, of + 1)}, 1); };
  return {integers(queries, distinct, seed), integers(keys, distinct, seed + 1), integers(queries, groups, seed + 2), integers(keys, key_groups, seed + 3), relations(seed + 4), relations(seed + 6)};
}

/// Losses, and gradients of their weighted sum.
std::vector<Tensor> evaluated(ContrastiveInput input, ContrastiveLosses (*losses_of)(const ContrastiveInput&)) {
  for (Tensor* leaf : {&input.queries, &input.keys, &input.temperature}) *leaf = leaf->detach().clone().set_requires_grad(true);
  const ContrastiveLosses losses = losses_of(input);
  Tensor total = (losses.to_keys * torch::linspace(0.5, 1.5, losses.to_keys.numel(), losses.to_keys.options())).sum();
  if (input.both) total = total + (losses.to_queries * torch::linspace(1.0, 2.0, losses.to_queries.numel(), losses.to_queries.options())).sum();
  total.backward();
  std::vector<Tensor> values{losses.to_keys.detach()};
  if (input.both) values.push_back(losses.to_queries.detach());
  for (const Tensor& leaf : {input.queries, input.keys, input.temperature}) values.push_back(leaf.grad().defined() ? leaf.grad() : torch::zeros_like(leaf));
  return values;
}

double distance(const Tensor& a, const Tensor& b) {
  REQUIRE(a.sizes() == b.sizes());
  if (a.numel() == 0) return 0;
  return ((a - b).abs().max() / b.abs().max().clamp_min(1)).item<double>();
}

/// `of_temperature`: of its gradient, which comes last; 0: the same tolerance.
void check_equal(const ContrastiveInput& input, double tolerance, double of_temperature = 0) {
  const std::vector<Tensor> ours = evaluated(input, &tiled_contrastive), full = evaluated(input, &test::full_contrastive);
  for (std::size_t i = 0; i < ours.size(); ++i) {
    CAPTURE(i, input.queries.sizes(), input.keys.sizes());
    CHECK(distance(ours[i], full[i]) <= (i + 1 == ours.size() ? std::max(tolerance, of_temperature) : tolerance));
  }
}

struct Sizes {
  std::int64_t queries, keys;
};
// 513 x 1025 is one past a tile both ways; 1800 x 300 has tall tiles.
const std::vector<Sizes> kSizes = {{0, 0}, {0, 3}, {3, 0}, {1, 1}, {1, 9}, {9, 1}, {5, 7}, {130, 70}, {513, 1025}, {1800, 300}};

TEST_CASE("tiled_contrastive: losses and gradients equal those of the whole matrix, both directions", "[tiled]") {
  for (const Sizes& size : kSizes) {
    for (const double temperature : {0.07, 0.5}) {
      if (size.queries > 200 && temperature == 0.5) continue;
      ContrastiveInput input{.queries = rows(size.queries, 1), .keys = rows(size.keys, 2), .temperature = torch::tensor(temperature, torch::kFloat64), .pairs = random_rules(size.queries, size.keys, 3), .both = true};
      check_equal(input, 1e-12);
      input.both = false;
      check_equal(input, 1e-12);
    }
    ContrastiveInput single{.queries = rows(size.queries, 1, at::kFloat), .keys = rows(size.keys, 2, at::kFloat), .temperature = torch::tensor(0.07f), .pairs = random_rules(size.queries, size.keys, 3), .both = true};
    check_equal(single, 1e-5);
  }
}

TEST_CASE("tiled_contrastive: a queue's keys count in the softmax, and soft targets follow the teacher", "[tiled]") {
  for (const Sizes& size : kSizes) {
    for (const std::int64_t queue : {0, 4, 1030}) {
      if (size.queries > 200 && queue != 1030) continue;
      ContrastiveInput input{.queries = rows(size.queries, 1), .keys = rows(size.keys, 2), .queue = rows(queue, 4), .temperature = torch::tensor(0.1, torch::kFloat64),
                             .pairs = random_rules(size.queries, size.keys + queue, 3)};
      check_equal(input, 1e-12);
      for (const double alpha : {0.4, 1.0}) {
        input.soft = {.alpha = alpha, .queries = rows(size.queries, 5)};
        check_equal(input, 1e-12);
        input.soft.keys = rows(size.keys + queue, 6);
        check_equal(input, 1e-12);
      }
    }
  }
}

TEST_CASE("tiled_contrastive: gradients equal finite differences", "[tiled]") {
  const auto total = [](const ContrastiveInput& input) {
    const ContrastiveLosses losses = tiled_contrastive(input);
    const Tensor sum = (losses.to_keys * torch::linspace(0.5, 1.5, losses.to_keys.numel(), torch::kFloat64)).sum();
    return input.both ? sum + losses.to_queries.square().sum() : sum;
  };
  for (const int kind : {0, 1, 2}) {
    for (const double scale : {1.0, 3000.0}) {  // logits of a few, and so large that maxima are kept
      ContrastiveInput input{.queries = rows(4, 1) * scale, .keys = rows(5, 2), .temperature = torch::tensor(0.3 * scale, torch::kFloat64), .pairs = random_rules(4, kind == 2 ? 8 : 5, 3), .both = kind == 0};
      if (kind == 2) {
        input.queue = rows(3, 7);
        input.soft = {.alpha = 0.3, .queries = rows(4, 8) * scale, .keys = rows(8, 9)};  // its own keys: a teacher that shares them would move with them, without gradient
      }
      for (Tensor ContrastiveInput::*field : {&ContrastiveInput::queries, &ContrastiveInput::keys, &ContrastiveInput::temperature}) {
        ContrastiveInput at = input;
        at.*field = (input.*field).clone().set_requires_grad(true);
        total(at).backward();
        const Tensor gradient = (at.*field).grad().reshape(-1);
        for (std::int64_t i = 0; i < gradient.numel(); ++i) {
          // The teacher's softmax takes the temperature without gradient; it is left alone here by a temperature of the student only.
          if (kind == 2 && field == &ContrastiveInput::temperature) continue;
          const auto moved = [&](double by) {
            ContrastiveInput other = input;
            other.*field = (input.*field).clone();
            (other.*field).view(-1)[i] += by;
            return total(other).item<double>();
          };
          const double step = 1e-5 * std::max(1.0, std::abs((input.*field).reshape(-1)[i].item<double>()));
          CHECK(gradient[i].item<double>() == Approx((moved(step) - moved(-step)) / (2 * step)).epsilon(1e-6).margin(1e-8));
        }
      }
    }
  }
}

TEST_CASE("tiled_contrastive: saturated logits, zero rows and identical rows give what the whole matrix gives, all of it finite", "[tiled]") {
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
    const double least = dtype == at::kDouble ? 1e-12 : 1e-5, epsilon = dtype == at::kDouble ? std::numeric_limits<double>::epsilon() : std::numeric_limits<float>::epsilon();
    const Tensor q = rows(40, 1, dtype), k = rows(30, 2, dtype), opposite = at::cat({-torch::ones({1, kEmbedDim}), torch::ones({29, kEmbedDim})}).to(dtype);
    const std::vector<std::pair<Tensor, Tensor>> inputs = {
        {q * 100, k}, {q * 1e4, k * 100}, {q * 0, k}, {q * 0, k * 0}, {torch::ones_like(q), torch::ones_like(k)},
        {torch::ones_like(q) * 3, opposite * 3},     // one column far below all others, in every row
        {at::cat({q.slice(0, 0, 39), q.slice(0, 39) * 1e4}), k},  // one row far above the others
    };
    for (const auto& [queries, keys] : inputs) {
      for (const double temperature : {0.07, 0.001}) {
        ContrastiveInput input{.queries = queries, .keys = keys, .temperature = torch::tensor(temperature, dtype), .pairs = random_rules(40, 30, 3), .both = true};
        // A logit is rounded to epsilon times itself, by whomever it is computed, and a probability changes by the factor of what its logit changes by.
        const double largest = (queries.norm(2, 1).max() * keys.norm(2, 1).max()).item<double>() / temperature, tolerance = least + 8 * epsilon * largest;
        // The temperature's gradient is a sum of (probability - target) * logit / temperature, weights of up to 2, over both directions, of which hardly anything may be left.
        const double of_temperature = tolerance + 8 * epsilon * 2 * 2 * 70 * largest / temperature;
        for (const Tensor& value : evaluated(input, &tiled_contrastive)) CHECK(value.isfinite().all().item<bool>());
        check_equal(input, tolerance, of_temperature);
        input.both = false;
        input.soft = {.alpha = 0.4, .queries = queries.flip(0)};
        for (const Tensor& value : evaluated(input, &tiled_contrastive)) CHECK(value.isfinite().all().item<bool>());
        check_equal(input, tolerance, of_temperature);
      }
    }
  }
}

TEST_CASE("tiled_contrastive: where maxima are kept, later tiles may have larger ones", "[tiled]") {
  // Rows grow, and with them the logits from tile to tile. The largest are above 1400, where float64 has no common shift.
  const auto growing = [](std::int64_t count, std::uint64_t seed) { return rows(count, seed) * torch::linspace(1, 30, count, torch::kFloat64).unsqueeze(1); };
  ContrastiveInput input{.queries = growing(513, 1), .keys = growing(1025, 2), .temperature = torch::tensor(0.5, torch::kFloat64), .pairs = random_rules(513, 1025, 3), .both = true};
  check_equal(input, 1e-10, 1e-6);
  // A queue is in a tile of its own; the teacher's maxima are others.
  ContrastiveInput soft{.queries = growing(20, 1), .keys = growing(30, 2), .queue = 40 * rows(10, 4), .temperature = torch::tensor(0.5, torch::kFloat64), .pairs = random_rules(20, 40, 3)};
  soft.soft = {.alpha = 0.4, .queries = growing(20, 5)};
  check_equal(soft, 1e-10, 1e-6);
}

TEST_CASE("tiled_contrastive: what underflows with the common shift is computed again with maxima", "[tiled]") {
  // Unit rows at temperature 0.01, CLIP's limit: logits from -100 to 100. The first query points away from every key, so that its whole row is at -100, below what float32 holds beside 100.
  Tensor q = torch::ones({20, kEmbedDim}) / std::sqrt(static_cast<double>(kEmbedDim)), k = q + 0.01 * rows(20, 2, at::kFloat);
  q[0] = -q[0];
  ContrastiveInput input{.queries = q, .keys = k, .temperature = torch::tensor(0.01f), .pairs = PairRules::diagonal(20), .both = true};
  check_equal(input, 1e-5);
}

TEST_CASE("tiled_contrastive: nothing of size N x M is held, whatever the pairs", "[tiled]") {
  // All texts alike: every pair is a positive. The table keeps names, not pairs.
  ContrastiveInput input{.queries = rows(600, 1), .keys = rows(1100, 2), .temperature = torch::tensor(0.1, torch::kFloat64), .both = true};
  input.pairs = {torch::zeros({600}, torch::kLong), torch::zeros({1100}, torch::kLong), {}, {}, {}, {}};
  check_equal(input, 1e-12);
  // From forward to backward a bounded number of tiles stays: 16 MB, where 4096 x 4096 similarities would take 64.
  input = {.queries = rows(4096, 1, at::kFloat).set_requires_grad(true), .keys = rows(4096, 2, at::kFloat), .temperature = torch::tensor(0.1f), .pairs = PairRules::diagonal(4096), .both = true};
  const auto bytes = std::make_shared<LiveBytes>();
  const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, bytes);
  const ContrastiveLosses losses = tiled_contrastive(input);
  CHECK(losses.to_keys.requires_grad());
  CHECK(bytes->live() < 20'000'000);
}

TEST_CASE("tiled_contrastive: swapping queries and keys swaps the two directions", "[tiled]") {
  const PairRules rules = random_rules(30, 20, 3);
  ContrastiveInput input{.queries = rows(30, 1), .keys = rows(20, 2), .temperature = torch::tensor(0.1, torch::kFloat64), .pairs = rules, .both = true};
  ContrastiveInput swapped{.queries = rows(20, 2), .keys = rows(30, 1), .temperature = torch::tensor(0.1, torch::kFloat64), .pairs = rules.transposed(), .both = true};
  CHECK(at::allclose(tiled_contrastive(input).to_keys, tiled_contrastive(swapped).to_queries, 1e-12, 1e-12));
  CHECK(at::allclose(tiled_contrastive(input).to_queries, tiled_contrastive(swapped).to_keys, 1e-12, 1e-12));
}

TEST_CASE("tiled_contrastive: gradients that nobody needs are not asked for, and a graph can be used twice but not differentiated twice", "[tiled]") {
  ContrastiveInput input{.queries = rows(6, 1).set_requires_grad(true), .keys = rows(6, 2), .temperature = torch::tensor(0.1, torch::kFloat64), .pairs = PairRules::diagonal(6)};
  const Tensor sum = tiled_contrastive(input).to_keys.sum();
  sum.backward({}, /*retain_graph=*/true);
  const Tensor once = input.queries.grad().clone();
  sum.backward({}, /*retain_graph=*/true);
  CHECK(at::allclose(input.queries.grad(), 2 * once));
  CHECK_FALSE(input.keys.grad().defined());
  CHECK_THROWS_WITH(torch::autograd::grad({sum}, {input.queries}, {}, true, /*create_graph=*/true), Catch::Contains("differentiable once"));
}

TEST_CASE("tiled_contrastive: bfloat16 features are computed in float32", "[tiled]") {
  ContrastiveInput input{.queries = rows(6, 1, at::kBFloat16), .keys = rows(6, 2, at::kBFloat16), .temperature = torch::tensor(0.1f), .pairs = PairRules::diagonal(6)};
  const Tensor losses = tiled_contrastive(input).to_keys;
  input.queries = input.queries.to(at::kFloat);
  input.keys = input.keys.to(at::kFloat);
  CHECK(losses.scalar_type() == at::kFloat);
  CHECK(at::equal(losses, tiled_contrastive(input).to_keys));
}

/// The loss, and gradients of a third of it by queries, keys, scale and bias.
std::vector<Tensor> evaluated(SigmoidInput input, Tensor (*loss_of)(const SigmoidInput&)) {
  for (Tensor* leaf : {&input.queries, &input.keys, &input.scale, &input.bias}) *leaf = leaf->detach().clone().set_requires_grad(true);
  const Tensor loss = loss_of(input);
  (loss / 3).backward();
  std::vector<Tensor> values{loss.detach()};
  for (const Tensor& leaf : {input.queries, input.keys, input.scale, input.bias}) values.push_back(leaf.grad().defined() ? leaf.grad() : torch::zeros_like(leaf));
  return values;
}

TEST_CASE("tiled_sigmoid: loss and gradients equal those of the whole matrix, saturated logits included", "[tiled]") {
  for (const Sizes& size : kSizes) {
    for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
      for (const double scale : {10.0, 3000.0}) {
        const SigmoidInput input{.queries = rows(size.queries, 1, dtype), .keys = rows(size.keys, 2, dtype), .scale = torch::tensor(scale, dtype), .bias = torch::tensor(-3.0, dtype),
                                 .pairs = random_rules(size.queries, size.keys, 3)};
        const std::vector<Tensor> ours = evaluated(input, &tiled_sigmoid), full = evaluated(input, &test::full_sigmoid);
        for (std::size_t i = 0; i < ours.size(); ++i) {
          CAPTURE(i, size.queries, size.keys, scale, dtype);
          CHECK(ours[i].isfinite().all().item<bool>());
          CHECK(distance(ours[i], full[i]) <= (dtype == at::kDouble ? 1e-12 : 1e-5));
        }
      }
    }
  }
}

TEST_CASE("tiled_sigmoid: what does not fit is named", "[tiled]") {
  const SigmoidInput good{.queries = rows(4, 1), .keys = rows(4, 2), .scale = torch::tensor(10.0), .bias = torch::tensor(-10.0), .pairs = PairRules::diagonal(4)};
  SigmoidInput input = good;
  input.keys = rows(4, 2, at::kDouble, 5);
  CHECK_THROWS_WITH(tiled_sigmoid(input), Catch::Contains("[tiled_sigmoid] keys: expected"));
  input = good;
  input.bias = torch::zeros({2});
  CHECK_THROWS_WITH(tiled_sigmoid(input), Catch::Contains("bias: expected a scalar, got [2]"));
}

TEST_CASE("tiled_contrastive: what does not fit is named", "[tiled]") {
  const ContrastiveInput good{.queries = rows(4, 1), .keys = rows(4, 2), .temperature = torch::tensor(0.1, torch::kFloat64), .pairs = PairRules::diagonal(4)};
  ContrastiveInput input = good;
  input.keys = rows(4, 2, at::kFloat);
  CHECK_THROWS_WITH(tiled_contrastive(input), Catch::Contains("keys: expected Double"));
  input = good;
  input.pairs.key_id = torch::arange(5);
  CHECK_THROWS_WITH(tiled_contrastive(input), Catch::Contains("pairs.key_id: expected [4] int64, got [5]"));
  input = good;
  input.pairs.ignored = torch::zeros({1, 2}, torch::kLong);
  CHECK_THROWS_WITH(tiled_contrastive(input), Catch::Contains("pairs.query_group: expected [4] int64, got nothing"));
  input = good;
  input.queue = rows(2, 3, at::kDouble, 5);
  CHECK_THROWS_WITH(tiled_contrastive(input), Catch::Contains("queue: expected width 6"));
  input = good;
  input.both = true;
  input.soft = {.alpha = 0.5, .queries = rows(4, 3)};
  CHECK_THROWS_WITH(tiled_contrastive(input), Catch::Contains("both"));
}

}  // namespace
}  // namespace fgvl::losses
