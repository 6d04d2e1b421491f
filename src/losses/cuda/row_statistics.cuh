#pragma once
#include "losses/cuda/tile_walk.cuh"

namespace fgvl::losses::cuda {

/// Sums over some of a row's columns; exponentials are relative to the largest similarity among them, so that none overflows.
struct RunningRow {
  float largest = -INFINITY, sum = 0.0f;
  float positive_sum = 0.0f, positive_count = 0.0f;
  float teacher_largest = -INFINITY, teacher_sum = 0.0f, teacher_weighted = 0.0f;

  /// What 1 relative to `from` is relative to `to`. Nothing was seen yet where `from` is -inf, and 0 is 0 relative to anything.
  static __device__ float rescale(float from, float to) { return from == -INFINITY ? 0.0f : expf(from - to); }

  __device__ void merge(const RunningRow& other) {
    const float top = fmaxf(largest, other.largest);
    sum = sum * rescale(largest, top) + other.sum * rescale(other.largest, top);
    largest = top;
    positive_sum += other.positive_sum;
    positive_count += other.positive_count;
    const float teacher_top = fmaxf(teacher_largest, other.teacher_largest), own = rescale(teacher_largest, teacher_top), others = rescale(other.teacher_largest, teacher_top);
    teacher_sum = teacher_sum * own + other.teacher_sum * others;
    teacher_weighted = teacher_weighted * own + other.teacher_weighted * others;
    teacher_largest = teacher_top;
  }
};

/// The thread's columns of a tile.
template <typename T, bool kTeacher>
__device__ inline RunningRow tile_statistics(const SharedTiles<T, kTeacher>& shared, const TileWalk<T>& walk, PartRoles roles, float scale) {
  RunningRow seen;
#pragma unroll
  for (int c = 0; c < kPartColumns; ++c) {
    if (!(roles.counted >> c & 1)) continue;
    const int at = (walk.first_lane + c) * kTileStride + walk.lane;
    seen.largest = fmaxf(seen.largest, scale * shared.product[at]);
    if constexpr (kTeacher) seen.teacher_largest = fmaxf(seen.teacher_largest, scale * shared.teacher[at]);
  }
#pragma unroll
  for (int c = 0; c < kPartColumns; ++c) {
    if (!(roles.counted >> c & 1)) continue;
    const int at = (walk.first_lane + c) * kTileStride + walk.lane;
    const float similarity = scale * shared.product[at];
    seen.sum += expf(similarity - seen.largest);
    if (roles.positive >> c & 1) {
      seen.positive_sum += similarity;
      seen.positive_count += 1.0f;
    }
    if constexpr (kTeacher) {
      const float weight = expf(scale * shared.teacher[at] - seen.teacher_largest);
      seen.teacher_sum += weight;
      seen.teacher_weighted += weight * similarity;
    }
  }
  return seen;
}

/// Of the rows of blockIdx.x over the columns of blockIdx.y: partials[split][row].
template <typename T, bool kTeacher>
__global__ void __launch_bounds__(kThreads) partial_statistics(const Pairs<T> pairs, std::int64_t tiles_per_split, RunningRow* partials) {
  auto& shared = *reinterpret_cast<SharedTiles<T, kTeacher>*>(shared_memory());
  const float scale = *pairs.scale;
  TileWalk<T> walk(pairs, tiles_per_split);
  RunningRow total;
  for (; !walk.done(); walk.advance()) {
    walk.compute(pairs, shared);
    __syncthreads();
    total.merge(tile_statistics(shared, walk, walk.roles(pairs, shared.columns), scale));
  }
  // The parts of a row, in their order.
  auto* parts = reinterpret_cast<RunningRow*>(shared.product);
  static_assert(sizeof(RunningRow) * kThreads <= sizeof(shared.product));
  __syncthreads();
  parts[threadIdx.x] = total;
  __syncthreads();
  if (threadIdx.x >= kTile || !walk.exists) return;
  for (int part = 1; part < kParts; ++part) total.merge(parts[part * kTile + walk.lane]);
  partials[blockIdx.y * pairs.rows.count + walk.row] = total;
}

/// The splits of each row, in their order. A thread has a row.
static __global__ void __launch_bounds__(kThreads) merge_statistics(const RunningRow* partials, std::int64_t splits, std::int64_t rows, const RowStatistics result) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (row >= rows) return;
  RunningRow total;
  for (std::int64_t split = 0; split < splits; ++split) total.merge(partials[split * rows + row]);
  result.log_sum_exp[row] = total.largest + logf(total.sum);
  result.positive_sum[row] = total.positive_sum;
  result.positive_count[row] = total.positive_count;
  if (result.teacher_mean != nullptr) {
    result.teacher_log_sum_exp[row] = total.teacher_largest + logf(total.teacher_sum);
    result.teacher_mean[row] = total.teacher_sum > 0.0f ? total.teacher_weighted / total.teacher_sum : 0.0f;
  }
}

}  // namespace fgvl::losses::cuda
