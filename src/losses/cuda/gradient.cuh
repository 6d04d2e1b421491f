#pragma once
#include "losses/cuda/pair_roles.cuh"

namespace fgvl::losses::cuda {

/// What one row, or one column, has of a SoftmaxSide.
struct SideValues {
  float log_sum_exp = 0.0f, weight = 0.0f, positive_weight = 0.0f, teacher_log_sum_exp = 0.0f, teacher_weight = 0.0f;

  __device__ SideValues(const SoftmaxSide& side, std::int64_t index) {
    if (side.gradient == nullptr || side.inverse_count[index] == 0.0f) return;
    log_sum_exp = side.log_sum_exp[index];
    weight = side.gradient[index];
    positive_weight = (1.0f - side.alpha) * weight * side.inverse_count[index];
    if (side.teacher_log_sum_exp == nullptr) return;
    teacher_log_sum_exp = side.teacher_log_sum_exp[index];
    teacher_weight = side.alpha * weight;
  }
  SideValues() = default;

  /// A weight of 0 stands beside log-sum-exps that say nothing, whose exponentials may be infinite.
  static __device__ float weighted(float weight, float exponent) { return weight == 0.0f ? 0.0f : weight * expf(exponent); }

  template <bool kTeacher>
  __device__ float change(float similarity, float teacher, bool positive) const {
    float change = weighted(weight, similarity - log_sum_exp);
    if (positive) change -= positive_weight;
    if constexpr (kTeacher) change -= weighted(teacher_weight, teacher - teacher_log_sum_exp);
    return change;
  }
};

/// d loss / d similarity, for a row and a column.
template <typename Loss>
struct Change;

template <>
struct Change<SoftmaxLoss> {
  using OfColumn = SideValues;
  static __device__ OfColumn of_column(const SoftmaxLoss& loss, std::int64_t column) { return SideValues(loss.over_rows, column); }

  SideValues row;
  __device__ Change(const SoftmaxLoss& loss, std::int64_t at) : row(loss.over_columns, at) {}

  template <bool kTeacher>
  __device__ float of(float similarity, float teacher, bool positive, const OfColumn& column) const {
    return row.template change<kTeacher>(similarity, teacher, positive) + column.template change<kTeacher>(similarity, teacher, positive);
  }
};

template <>
struct Change<SigmoidLoss> {
  struct OfColumn {};
  static __device__ OfColumn of_column(const SigmoidLoss&, std::int64_t) { return {}; }

  float bias;
  __device__ Change(const SigmoidLoss& loss, std::int64_t) : bias(*loss.bias) {}

  template <bool kTeacher>
  __device__ float of(float similarity, float, bool positive, const OfColumn&) const {
    const float sign = positive ? 1.0f : -1.0f;
    return -sign / (1.0f + expf(sign * (similarity + bias)));
  }
};

__device__ inline void store(float* to, const float (&values)[4]) { *reinterpret_cast<float4*>(to) = float4{values[0], values[1], values[2], values[3]}; }
__device__ inline void store(__nv_bfloat16* to, const float (&values)[4]) {
  struct alignas(8) Word {
    __nv_bfloat16 value[4];
  } word;
#pragma unroll
  for (int i = 0; i < 4; ++i) word.value[i] = __float2bfloat16_rn(values[i]);
  *reinterpret_cast<Word*>(to) = word;
}

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

/// A thread has four neighbouring columns of every eighth of the block's rows. Those of its four that lie behind the tile's last, but within its stride, become 0.
template <typename T, typename Loss, bool kTeacher>
__global__ void __launch_bounds__(kThreads) gradient_of_tile(const Tile tile, const Loss loss, T* gradient, float* scale_sum, float* change_sum) {
  constexpr int kLanes = kGradientColumns / 4, kStep = kThreads / kLanes;
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.y) * kGradientColumns + threadIdx.x % kLanes * 4;
  const std::int64_t first_row = static_cast<std::int64_t>(blockIdx.x) * kGradientRows + threadIdx.x / kLanes;
  const float scale = *tile.scale;
  const int columns = column >= tile.columns ? 0 : tile.columns - column < 4 ? static_cast<int>(tile.columns - column) : 4;
  std::int64_t id[4];
  std::int32_t group[4];
  typename Change<Loss>::OfColumn of_column[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (i >= columns) continue;
    id[i] = tile.column_names.id[column + i];
    group[i] = column_group(tile, column + i);
    of_column[i] = Change<Loss>::of_column(loss, column + i);
  }
  float of_scale = 0.0f, of_similarities = 0.0f;
  for (int r = 0; r < kGradientRows && columns > 0; r += kStep) {
    const std::int64_t row = first_row + r, at = row * tile.stride + column;
    if (row >= tile.rows) break;
    const RowRules rules(tile, row);
    const Change<Loss> change_of(loss, row);
    const float4 word = *reinterpret_cast<const float4*>(tile.products + at);
    const float product[4] = {word.x, word.y, word.z, word.w};
    float teacher[4] = {}, changes[4] = {};
    if constexpr (kTeacher) {
      const float4 other = *reinterpret_cast<const float4*>(tile.teacher + at);
      teacher[0] = other.x, teacher[1] = other.y, teacher[2] = other.z, teacher[3] = other.w;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i >= columns) continue;
      const Role role = rules.role(id[i], group[i]);
      if (role == Role::kIgnored) continue;
      const float change = change_of.template of<kTeacher>(scale * product[i], scale * teacher[i], role == Role::kPositive, of_column[i]);
      of_scale += change * product[i];
      of_similarities += change;
      changes[i] = scale * change;
    }
    store(gradient + at, changes);
  }
  auto* scratch = reinterpret_cast<float*>(shared_memory());
  const std::int64_t block = static_cast<std::int64_t>(blockIdx.y) * gridDim.x + blockIdx.x;
  const float scale_total = block_sum(of_scale, scratch);
  if (threadIdx.x == 0) scale_sum[block] = scale_total;
  const float change_total = block_sum(of_similarities, scratch);
  if (threadIdx.x == 0) change_sum[block] = change_total;
}

}  // namespace fgvl::losses::cuda
