#include "fgvl/models/interpolate.hpp"

#include <algorithm>
#include <vector>

#include <torch/torch.h>

#include "support/catch.hpp"

namespace fgvl::models {
namespace {

TEST_CASE("relative position bias: a table that is cubic in the distance stays that cubic at the new offsets", "[models]") {
  // With w = 4 and window 8 the offsets 1, 2, 3 are taken to lie at 1, 1 + q, 1 + q + q^2 = 7: q = 2 exactly, but the growth is searched below 1.5,
  // where the last lies at 4.75; offsets beyond are clamped to it.
  const std::vector<double> places{-4.75, -2.5, -1, 0, 1, 2.5, 4.75};
  const auto cubic = [](double x) { return 0.5 - x + 0.25 * x * x + 0.125 * x * x * x; };
  Tensor table = torch::zeros({49, 2}, torch::kDouble);
  for (std::int64_t y = 0; y < 7; ++y) {
    for (std::int64_t x = 0; x < 7; ++x) {
      table[y * 7 + x][0] = cubic(places[static_cast<std::size_t>(y)]) * cubic(places[static_cast<std::size_t>(x)]);
      table[y * 7 + x][1] = cubic(places[static_cast<std::size_t>(x)]);
    }
  }
  const Tensor wider = interpolate_relative_position_bias(table, 8);
  REQUIRE(wider.sizes() == at::IntArrayRef{225, 2});
  for (std::int64_t y = -7; y <= 7; ++y) {
    for (std::int64_t x = -7; x <= 7; ++x) {
      INFO(y << ", " << x);
      const auto at = [](std::int64_t offset) { return std::min(std::max(static_cast<double>(offset), -4.75), 4.75); };
      const Tensor value = wider[(y + 7) * 15 + x + 7];
      // The growth is found to 1e-6, which moves places by up to 5e-6 and values of up to 14 * 14 by 1e-2 of that.
      CHECK(value[0].item<double>() == Approx(cubic(at(y)) * cubic(at(x))).margin(1e-3));
      CHECK(value[1].item<double>() == Approx(cubic(at(x))).margin(1e-4));
    }
  }
}

TEST_CASE("relative position bias: two offsets give a parabola, one a constant, and an equal window the table itself", "[models]") {
  // w = 2: places -1, 0, 1 whatever the growth; window 3 asks for -2 to 2, of which the outer are clamped.
  const Tensor parabola = torch::tensor({1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0}, torch::kDouble).view({9, 1});
  const Tensor wider = interpolate_relative_position_bias(parabola, 3);
  CHECK(at::allclose(wider.view({5, 5}), torch::tensor({1.0, 1.0, 0.0, 1.0, 1.0}, torch::kDouble).expand({5, 5}), 0, 1e-12));
  CHECK(at::allclose(interpolate_relative_position_bias(torch::full({1, 3}, 0.7), 4), torch::full({49, 3}, 0.7)));
  CHECK(interpolate_relative_position_bias(parabola, 2).is_same(parabola));
  CHECK(at::allclose(interpolate_relative_position_bias(torch::full({169, 4}, -0.3f), 12), torch::full({529, 4}, -0.3f), 0, 1e-6));
}

TEST_CASE("position embedding: [CLS] is kept, a constant stays one, and axes are not mixed up", "[models]") {
  const Tensor cls = torch::randn({1, 1, 2});
  const Tensor rows = torch::arange(8, torch::kFloat).view({8, 1}).expand({8, 8});  // channel 0 grows downwards, channel 1 is constant
  const Tensor table = at::cat({cls, at::stack({rows, torch::full({8, 8}, 3.f)}, 2).view({1, 64, 2})}, 1);
  const Tensor larger = interpolate_position_embedding(table, 16);
  REQUIRE(larger.sizes() == at::IntArrayRef{1, 257, 2});
  CHECK(at::equal(larger.slice(1, 0, 1), cls));
  const Tensor map = larger.slice(1, 1).view({16, 16, 2});
  CHECK(at::allclose(map.select(2, 1), torch::full({16, 16}, 3.f)));
  CHECK(at::allclose(map.select(2, 0), map.select(2, 0).slice(1, 0, 1).expand({16, 16})));
  // New centre i lies at (i + 0.5) / 2 - 0.5, a quarter from an old one, where PyTorch's kernel (a = -0.75) leaves a straight line by 3 / 64: three
  // quarters between 0 and 1 it gives 0.035156 + 0.878906 - 2 * 0.105469 = 0.703125.
  for (std::int64_t i = 4; i < 12; ++i) {
    const double line = (static_cast<double>(i) + 0.5) / 2 - 0.5;
    CHECK(map[i][0][0].item<float>() == Approx(line + (i % 2 == 0 ? -3.0 : 3.0) / 64).margin(1e-5));
  }
  CHECK(interpolate_position_embedding(table, 8).is_same(table));
}

TEST_CASE("tables that are no square are refused", "[models]") {
  CHECK_THROWS_WITH(interpolate_position_embedding(torch::zeros({1, 64, 2}), 4), Catch::Contains("expected a square number of patches behind 1 extra tokens, got [1, 64, 2]"));
  CHECK_THROWS_WITH(interpolate_relative_position_bias(torch::zeros({16, 2}), 4), Catch::Contains("expected the square of an odd number of rows, got [16, 2]"));
}

}  // namespace
}  // namespace fgvl::models
