#pragma once
#include "losses/cuda/tile_walk.cuh"

namespace fgvl::losses::cuda {

template <typename Loss>
struct Change;

/// d loss / d similarity of a pair, for one row: what is the row's is kept in registers, what is the columns' in shared memory.
template <>
struct Change<SoftmaxLoss> {
  float log_sum_exp, weight, positive_weight, teacher_log_sum_exp, teacher_weight;

  static __device__ float at(const float* values, bool exists, std::int64_t index) { return values != nullptr && exists ? values[index] : 0.0f; }

  __device__ Change(const SoftmaxLoss& loss, bool exists, std::int64_t row)
      : log_sum_exp(at(loss.over_columns.log_sum_exp, exists, row)),
        weight(at(loss.over_columns.weight, exists, row)),
        positive_weight(at(loss.over_columns.positive_weight, exists, row)),
        teacher_log_sum_exp(at(loss.over_columns.teacher_log_sum_exp, exists, row)),
        teacher_weight(at(loss.over_columns.teacher_weight, exists, row)) {}

  static __device__ void note(const SoftmaxLoss& loss, bool exists, std::int64_t column, int lane, TileColumns& columns) {
    columns.log_sum_exp[lane] = at(loss.over_rows.log_sum_exp, exists, column);
    columns.weight[lane] = at(loss.over_rows.weight, exists, column);
    columns.positive_weight[lane] = at(loss.over_rows.positive_weight, exists, column);
    columns.teacher_log_sum_exp[lane] = at(loss.over_rows.teacher_log_sum_exp, exists, column);
    columns.teacher_weight[lane] = at(loss.over_rows.teacher_weight, exists, column);
  }

  /// A weight of 0 stands beside log-sum-exps that say nothing, whose exponentials may be infinite.
  static __device__ float weighted(float weight, float exponent) { return weight == 0.0f ? 0.0f : weight * expf(exponent); }

  template <bool kTeacher>
  __device__ float of(const SoftmaxLoss&, float similarity, float teacher, bool positive, const TileColumns& columns, int lane) const {
    float change = weighted(weight, similarity - log_sum_exp) + weighted(columns.weight[lane], similarity - columns.log_sum_exp[lane]);
    if (positive) change -= positive_weight + columns.positive_weight[lane];
    if constexpr (kTeacher) change -= weighted(teacher_weight, teacher - teacher_log_sum_exp) + weighted(columns.teacher_weight[lane], teacher - columns.teacher_log_sum_exp[lane]);
    return change;
  }
};

template <>
struct Change<SigmoidLoss> {
  float bias, weight;

  __device__ Change(const SigmoidLoss& loss, bool exists, std::int64_t row) : bias(*loss.bias), weight(loss.row_weight != nullptr && exists ? loss.row_weight[row] : 0.0f) {}

  static __device__ void note(const SigmoidLoss& loss, bool exists, std::int64_t column, int lane, TileColumns& columns) {
    columns.weight[lane] = loss.column_weight != nullptr && exists ? loss.column_weight[column] : 0.0f;
  }

  template <bool kTeacher>
  __device__ float of(const SigmoidLoss&, float similarity, float, bool positive, const TileColumns& columns, int lane) const {
    const float sign = positive ? 1.0f : -1.0f;
    return -sign * (weight + columns.weight[lane]) / (1.0f + expf(sign * (similarity + bias)));
  }
};

/// The sum over the block's threads, always in the same order, in thread 0.
__device__ inline float block_sum(float value, float* scratch) {
  __syncthreads();
  scratch[threadIdx.x] = value;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < half) scratch[threadIdx.x] += scratch[threadIdx.x + half];
  }
  return scratch[0];
}

/// d loss / d similarity of the rows of blockIdx.x and the columns of blockIdx.y, times the columns' vectors, of which the components of blockIdx.z: partials[split][row][component].
template <typename T, typename Loss, bool kTeacher>
__global__ void __launch_bounds__(kThreads) partial_gradient(const Pairs<T> pairs, const Loss loss, const RowGradient gradient, std::int64_t tiles_per_split, float* partials) {
  auto& shared = *reinterpret_cast<SharedTiles<T, kTeacher>*>(shared_memory());
  const float scale = *pairs.scale;
  const int slice = static_cast<int>(blockIdx.z) * kSlice;
  TileWalk<T> walk(pairs, tiles_per_split);
  const Change<Loss> change_of(loss, walk.exists, walk.row);
  Products<T> products;
  products.clear();
  float scale_sum = 0.0f, change_sum = 0.0f;
  for (; !walk.done(); walk.advance()) {
    walk.compute(pairs, shared);
    if (threadIdx.x < kTile) Change<Loss>::note(loss, walk.column + threadIdx.x < pairs.columns.count, walk.column + threadIdx.x, threadIdx.x, shared.columns);
    __syncthreads();
    const PartRoles roles = walk.roles(pairs, shared.columns);
#pragma unroll 4
    for (int c = 0; c < kPartColumns; ++c) {
      const int lane = walk.first_lane + c, at = lane * kTileStride + walk.lane;
      float change = 0.0f;
      if (roles.counted >> c & 1) {
        const float product = shared.product[at];
        change = change_of.template of<kTeacher>(loss, scale * product, kTeacher ? scale * shared.teacher[kTeacher ? at : 0] : 0.0f, roles.positive >> c & 1, shared.columns, lane);
        scale_sum += change * product;
        change_sum += change;
      }
      Products<T>::put(shared, walk.lane, lane, change);
    }
    products.accumulate(pairs.columns.data, pairs.columns.count, walk.column, pairs.width, slice, shared);
  }
  products.finish(scale, pairs.rows.count, walk.first_row, pairs.width, slice, partials + blockIdx.y * pairs.rows.count * pairs.width, shared);
  if (blockIdx.z != 0) return;  // every slice has seen the same pairs
  const std::int64_t block = static_cast<std::int64_t>(blockIdx.y) * gridDim.x + blockIdx.x;
  const float scale_total = block_sum(scale_sum, shared.product);
  if (threadIdx.x == 0) gradient.scale_sum[block] = scale_total;
  const float change_total = block_sum(change_sum, shared.product);
  if (threadIdx.x == 0) gradient.change_sum[block] = change_total;
}

/// The splits of each value, in their order. A thread has a value.
static __global__ void __launch_bounds__(kThreads) add_partials(const float* partials, std::int64_t splits, std::int64_t size, float* sum) {
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= size) return;
  float total = 0.0f;
  for (std::int64_t split = 0; split < splits; ++split) total += partials[split * size + at];
  sum[at] = total;
}

}  // namespace fgvl::losses::cuda
