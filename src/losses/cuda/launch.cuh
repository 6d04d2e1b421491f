#pragma once
/// The launches of one type's kernels: float.cu and bfloat16.cu hold the instances. Included after device.cuh, or after the tests' stand-in for it.
#include <type_traits>

#include "losses/cuda/row_gradient.cuh"
#include "losses/cuda/row_statistics.cuh"
#include "losses/cuda/sigmoid_rows.cuh"

namespace fgvl::losses::cuda {
namespace {

static_assert(sizeof(RunningRow) == kStatistics * sizeof(float));

/// Blocks of a kernel that works on tiles.
template <typename T, bool kTeacher, typename... Parameters, typename... Arguments>
void launch_tiles(void (*kernel)(Parameters...), const Geometry& geometry, CUstream_st* stream, const Arguments&... arguments) {
  static_assert(sizeof(SharedTiles<T, kTeacher>) <= kLargestSharedBytes);
  const Grid grid{static_cast<unsigned>(geometry.row_tiles), static_cast<unsigned>(geometry.splits), static_cast<unsigned>(geometry.slices)};
  launch(kernel, grid, sizeof(SharedTiles<T, kTeacher>), stream, arguments...);
}

Grid blocks_of(std::int64_t threads) { return {static_cast<unsigned>((threads + kThreads - 1) / kThreads), 1, 1}; }

void sum_splits(const float* partials, std::int64_t splits, std::int64_t size, float* sum, CUstream_st* stream) {
  launch(add_partials, blocks_of(size), 0, stream, partials, splits, size, sum);
}

}  // namespace

template <typename T>
void row_statistics(const Pairs<T>& pairs, const RowStatistics& result, float* partials, CUstream_st* stream) {
  const Geometry geometry = statistics_geometry(pairs.rows.count, pairs.columns.count);
  auto* parts = reinterpret_cast<RunningRow*>(partials);
  if (pairs.soft()) {
    launch_tiles<T, true>(partial_statistics<T, true>, geometry, stream, pairs, geometry.tiles_per_split, parts);
  } else {
    launch_tiles<T, false>(partial_statistics<T, false>, geometry, stream, pairs, geometry.tiles_per_split, parts);
  }
  launch(merge_statistics, blocks_of(pairs.rows.count), 0, stream, parts, geometry.splits, pairs.rows.count, result);
}

template <typename T>
void sigmoid_row_losses(const Pairs<T>& pairs, const SigmoidLoss& loss, float* losses, float* partials, CUstream_st* stream) {
  const Geometry geometry = statistics_geometry(pairs.rows.count, pairs.columns.count);
  launch_tiles<T, false>(partial_sigmoid<T>, geometry, stream, pairs, loss, geometry.tiles_per_split, partials);
  sum_splits(partials, geometry.splits, pairs.rows.count, losses, stream);
}

template <typename T, typename Loss>
void row_gradient(const Pairs<T>& pairs, const Loss& loss, const RowGradient& gradient, float* partials, CUstream_st* stream) {
  const Geometry geometry = gradient_geometry(pairs.rows.count, pairs.columns.count, pairs.width);
  if constexpr (std::is_same_v<Loss, SoftmaxLoss>) {
    if (pairs.soft()) launch_tiles<T, true>(partial_gradient<T, Loss, true>, geometry, stream, pairs, loss, gradient, geometry.tiles_per_split, partials);
  }
  if (!pairs.soft()) launch_tiles<T, false>(partial_gradient<T, Loss, false>, geometry, stream, pairs, loss, gradient, geometry.tiles_per_split, partials);
  sum_splits(partials, geometry.splits, pairs.rows.count * pairs.width, gradient.rows, stream);
}

}  // namespace fgvl::losses::cuda
