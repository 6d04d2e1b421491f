#pragma once
/// The launches: kernels.cu compiles them. Included after device.cuh, or after the tests' stand-in for it.
#include <type_traits>

#include "losses/cuda/gradient.cuh"
#include "losses/cuda/statistics.cuh"

namespace fgvl::losses::cuda {
namespace {

Grid grid_of(std::int64_t x, std::int64_t y = 1) { return {static_cast<unsigned>(x), static_cast<unsigned>(y)}; }

Grid strips_of(const Tile& tile) { return grid_of(parts(tile.rows, kPatch), parts(tile.columns, kStrip)); }

}  // namespace

void tile_statistics(const Tile& tile, const Lines<RunningSums>& rows, const Lines<RunningSums>& columns, RunningSums* partials, CUstream_st* stream) {
  RunningSums* of_columns = columns.sums == nullptr ? nullptr : partials + row_partials(tile.rows, tile.columns);
  if (tile.teacher != nullptr) {
    launch(partial_statistics<true>, strips_of(tile), sizeof(Patch<true>), stream, tile, partials, of_columns);
  } else {
    launch(partial_statistics<false>, strips_of(tile), sizeof(Patch<false>), stream, tile, partials, of_columns);
  }
  launch(merge_partials, grid_of(parts(tile.rows, kThreads)), 0, stream, partials, parts(tile.columns, kStrip), tile.rows, rows);
  if (columns.sums != nullptr) launch(merge_partials, grid_of(parts(tile.columns, kThreads)), 0, stream, of_columns, parts(tile.rows, kPatch), tile.columns, columns);
}

void cross_entropies(const RunningSums* sums, std::int64_t lines, float alpha, const CrossEntropies& result, CUstream_st* stream) {
  launch(cross_entropies_of, grid_of(parts(lines, kThreads)), 0, stream, sums, lines, alpha, result);
}

void tile_sigmoid_losses(const Tile& tile, const SigmoidLoss& loss, const Lines<float>& rows, float* partials, CUstream_st* stream) {
  launch(partial_sigmoid, strips_of(tile), sizeof(Patch<false>), stream, tile, loss, partials);
  launch(add_partials, grid_of(parts(tile.rows, kThreads)), 0, stream, partials, parts(tile.columns, kStrip), tile.rows, rows);
}

template <typename T, typename Loss>
void tile_gradient(const Tile& tile, const Loss& loss, T* gradient, float* scale_sum, float* change_sum, CUstream_st* stream) {
  const Grid grid = grid_of(parts(tile.rows, kGradientRows), parts(tile.columns, kGradientColumns));
  if constexpr (std::is_same_v<Loss, SoftmaxLoss>) {
    if (tile.teacher != nullptr) return launch(gradient_of_tile<T, Loss, true>, grid, kThreads * sizeof(float), stream, tile, loss, gradient, scale_sum, change_sum);
  }
  launch(gradient_of_tile<T, Loss, false>, grid, kThreads * sizeof(float), stream, tile, loss, gradient, scale_sum, change_sum);
}

template void tile_gradient(const Tile&, const SoftmaxLoss&, float*, float*, float*, CUstream_st*);
template void tile_gradient(const Tile&, const SoftmaxLoss&, __nv_bfloat16*, float*, float*, CUstream_st*);
template void tile_gradient(const Tile&, const SigmoidLoss&, float*, float*, float*, CUstream_st*);
template void tile_gradient(const Tile&, const SigmoidLoss&, __nv_bfloat16*, float*, float*, CUstream_st*);

}  // namespace fgvl::losses::cuda
