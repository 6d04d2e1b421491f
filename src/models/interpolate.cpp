#include "fgvl/models/interpolate.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include <torch/torch.h>

namespace fgvl::models {
namespace {

std::int64_t square_root(std::int64_t value) { return static_cast<std::int64_t>(std::llround(std::sqrt(static_cast<double>(std::max<std::int64_t>(value, 0))))); }

/// Distances of `count` offsets from the centre: 1, 1 + q, 1 + q + q^2, ... with the q at which the last reaches `farthest`, found by bisection
/// between 1.01 and 1.5 down to 1e-6. The last midpoint is used, as in the reference: the bounds would move the result by 1e-6.
std::vector<double> geometric_distances(std::int64_t count, std::int64_t farthest) {
  double left = 1.01, right = 1.5, growth = left;
  while (right - left > 1e-6) {
    growth = (left + right) / 2;
    const double reach = (1 - std::pow(growth, static_cast<double>(count))) / (1 - growth);
    (reach > static_cast<double>(farthest) ? right : left) = growth;
  }
  std::vector<double> distances;
  double distance = 0, step = 1;
  for (std::int64_t i = 0; i < count; ++i) {
    distance += step;
    step *= growth;
    distances.push_back(distance);
  }
  return distances;
}

/// [M, N] float64: the values at `places` [M] of the cubic spline through N values at the ascending `knots`, as a linear map of those values. The spline's
/// third derivative is continuous at the second and at the last but one knot (not-a-knot). Places outside are clamped to the ends.
Tensor spline_weights(const std::vector<double>& knots, const std::vector<double>& places) {
  const auto n = static_cast<std::int64_t>(knots.size());
  if (n == 1) return at::ones({static_cast<std::int64_t>(places.size()), 1}, at::kDouble);
  const auto gap = [&](std::int64_t i) { return knots[static_cast<std::size_t>(i + 1)] - knots[static_cast<std::size_t>(i)]; };
  // left * (second derivatives at the knots) = right * values
  Tensor left = at::zeros({n, n}, at::kDouble), right = at::zeros({n, n}, at::kDouble);
  auto l = left.accessor<double, 2>(), r = right.accessor<double, 2>();
  for (std::int64_t i = 1; i + 1 < n; ++i) {
    const double before = gap(i - 1), after = gap(i);
    l[i][i - 1] = before;
    l[i][i] = 2 * (before + after);
    l[i][i + 1] = after;
    r[i][i - 1] = 6 / before;
    r[i][i] = -6 / before - 6 / after;
    r[i][i + 1] = 6 / after;
  }
  if (n == 3) {  // both end conditions say the same; a parabola is what is left
    l[0][0] = l[2][2] = 1;
    l[0][1] = l[2][1] = -1;
  } else {
    l[0][0] = gap(1);
    l[0][1] = -gap(0) - gap(1);
    l[0][2] = gap(0);
    l[n - 1][n - 1] = gap(n - 3);
    l[n - 1][n - 2] = -gap(n - 3) - gap(n - 2);
    l[n - 1][n - 3] = gap(n - 2);
  }
  Tensor of_curvature = at::zeros({static_cast<std::int64_t>(places.size()), n}, at::kDouble), of_value = at::zeros_like(of_curvature);
  auto c = of_curvature.accessor<double, 2>(), v = of_value.accessor<double, 2>();
  for (std::size_t m = 0; m < places.size(); ++m) {
    const double place = std::clamp(places[m], knots.front(), knots.back());
    const auto row = static_cast<std::int64_t>(m);
    const auto above = std::upper_bound(knots.begin() + 1, knots.end() - 1, place);
    const std::int64_t i = above - knots.begin() - 1;
    const double h = gap(i), a = (knots[static_cast<std::size_t>(i + 1)] - place) / h, b = 1 - a;
    v[row][i] = a;
    v[row][i + 1] = b;
    c[row][i] = (a * a * a - a) * h * h / 6;
    c[row][i + 1] = (b * b * b - b) * h * h / 6;
  }
  return of_value + at::matmul(of_curvature, at::linalg_solve(left, right));
}

}  // namespace

Tensor interpolate_position_embedding(const Tensor& table, std::int64_t grid, std::int64_t extra_tokens) {
  TORCH_CHECK(table.dim() == 3 && table.size(0) == 1 && extra_tokens >= 0, "[interpolate_position_embedding] table: expected [1, ", extra_tokens, " + G^2, D], got ", table.sizes());
  TORCH_CHECK(grid > 0, "[interpolate_position_embedding] grid: expected a positive number, got ", grid);
  const std::int64_t patches = table.size(1) - extra_tokens, known = square_root(patches), width = table.size(2);
  TORCH_CHECK(known > 0 && known * known == patches, "[interpolate_position_embedding] table: expected a square number of patches behind ", extra_tokens, " extra tokens, got ", table.sizes());
  if (known == grid) return table;
  const Tensor map = table.slice(1, extra_tokens).view({1, known, known, width}).permute({0, 3, 1, 2});
  const Tensor resized = at::upsample_bicubic2d(map, {grid, grid}, /*align_corners=*/false);
  return at::cat({table.slice(1, 0, extra_tokens), resized.permute({0, 2, 3, 1}).flatten(1, 2)}, 1);
}

Tensor interpolate_relative_position_bias(const Tensor& table, std::int64_t window, std::int64_t extra_rows) {
  TORCH_CHECK(table.dim() == 2 && extra_rows >= 0, "[interpolate_relative_position_bias] table: expected [(2w - 1)^2 + ", extra_rows, ", heads], got ", table.sizes());
  TORCH_CHECK(window > 0, "[interpolate_relative_position_bias] window: expected a positive number, got ", window);
  const std::int64_t rows = table.size(0) - extra_rows, side = square_root(rows), heads = table.size(1);
  TORCH_CHECK(side % 2 == 1 && side * side == rows, "[interpolate_relative_position_bias] table: expected the square of an odd number of rows", extra_rows > 0 ? " before the extra ones" : "", ", got ",
              table.sizes());
  const std::int64_t known = (side + 1) / 2, wanted = 2 * window - 1;
  if (known == window) return table;

  std::vector<double> knots{0}, offsets;
  for (const double distance : geometric_distances(known - 1, window - 1)) {
    knots.insert(knots.begin(), -distance);
    knots.push_back(distance);
  }
  for (std::int64_t offset = 1 - window; offset < window; ++offset) offsets.push_back(static_cast<double>(offset));
  const Tensor weights = spline_weights(knots, offsets).to(table.device());  // [wanted, side]
  const Tensor map = table.slice(0, 0, rows).to(at::kDouble).view({side, side, heads}).permute({2, 0, 1});
  const Tensor resized = at::matmul(at::matmul(weights, map), weights.t());  // [heads, wanted, wanted]
  return at::cat({resized.permute({1, 2, 0}).reshape({wanted * wanted, heads}).to(table.scalar_type()), table.slice(0, rows)});
}

}  // namespace fgvl::models
