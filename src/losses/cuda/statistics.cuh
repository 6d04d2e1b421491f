#pragma once
#include "losses/cuda/pair_roles.cuh"

namespace fgvl::losses::cuda {

constexpr int kPatchStride = kPatch + 1;  // so that threads of neighbouring rows, and those of neighbouring columns, read from different banks
constexpr int kShare = kThreads / kPatch;  // threads that share a row, or a column, of a patch
constexpr int kShareLength = kPatch / kShare;

/// A patch of a tile in shared memory.
template <bool kTeacher>
struct Patch {
  RunningSums shares[kThreads];
  float product[kPatch * kPatchStride];
  float teacher[kTeacher ? kPatch * kPatchStride : 1];
  unsigned char role[kPatch * kPatchStride];
  std::int64_t column_id[kPatch];
  std::int32_t column_group[kPatch];
};

/// A block's rows, and its way along the patches of its strip of columns.
template <bool kTeacher>
class PatchWalk {
 public:
  __device__ PatchWalk(const Tile& tile, Patch<kTeacher>& patch)
      : first_row(static_cast<std::int64_t>(blockIdx.x) * kPatch), first_column(static_cast<std::int64_t>(blockIdx.y) * kStrip), tile_(tile), patch_(patch) {}

  __device__ bool done() const { return first_column >= tile_.columns || first_column >= (static_cast<std::int64_t>(blockIdx.y) + 1) * kStrip; }
  __device__ void advance() { first_column += kPatch; }

  /// Products and roles of the patch. Ends synchronised.
  __device__ void load() const {
    __syncthreads();  // nobody reads the patch before it any more
    if (threadIdx.x < kPatch && first_column + threadIdx.x < tile_.columns) {
      patch_.column_id[threadIdx.x] = tile_.column_names.id[first_column + threadIdx.x];
      patch_.column_group[threadIdx.x] = column_group(tile_, first_column + threadIdx.x);
    }
    copy(tile_.products, patch_.product);
    if constexpr (kTeacher) copy(tile_.teacher, patch_.teacher);
    __syncthreads();
    const int row = threadIdx.x % kPatch, share = threadIdx.x / kPatch * kShareLength;
    if (first_row + row < tile_.rows) {
      const RowRules rules(tile_, first_row + row);
      for (int c = share; c < share + kShareLength && first_column + c < tile_.columns; ++c) {
        patch_.role[row * kPatchStride + c] = static_cast<unsigned char>(rules.role(patch_.column_id[c], patch_.column_group[c]));
      }
    }
    __syncthreads();
  }

  /// Of the patch; none where the tile ends before.
  __device__ int rows() const { return static_cast<int>(tile_.rows - first_row < kPatch ? tile_.rows - first_row : kPatch); }
  __device__ int columns() const { return static_cast<int>(tile_.columns - first_column < kPatch ? tile_.columns - first_column : kPatch); }

  const std::int64_t first_row;
  std::int64_t first_column;  ///< of the patch

 private:
  /// 16 bytes at once; what lies behind the tile's last column, but within its stride, is copied along and not looked at.
  __device__ void copy(const float* from, float* to) const {
    constexpr int kWords = kPatch / 4;
#pragma unroll 4
    for (int i = threadIdx.x; i < kPatch * kWords; i += kThreads) {
      const int row = i / kWords, column = i % kWords * 4;
      if (first_row + row >= tile_.rows || first_column + column >= tile_.columns) continue;
      const float4 word = *reinterpret_cast<const float4*>(from + (first_row + row) * tile_.stride + first_column + column);
      float* at = to + row * kPatchStride + column;
      at[0] = word.x, at[1] = word.y, at[2] = word.z, at[3] = word.w;
    }
  }

  const Tile& tile_;
  Patch<kTeacher>& patch_;
};

__device__ inline RunningSums nothing_seen() { return {-INFINITY, 0.0f, 0.0f, 0.0f, -INFINITY, 0.0f, 0.0f}; }

/// What 1 relative to `from` is relative to `to`. Nothing was seen yet where `from` is -inf, and 0 is 0 relative to anything.
__device__ inline float rescale(float from, float to) { return from == -INFINITY ? 0.0f : expf(from - to); }

__device__ inline void merge(RunningSums& into, const RunningSums& other) {
  const float top = fmaxf(into.largest, other.largest);
  into.sum = into.sum * rescale(into.largest, top) + other.sum * rescale(other.largest, top);
  into.largest = top;
  into.positive_sum += other.positive_sum;
  into.positive_count += other.positive_count;
  const float teacher_top = fmaxf(into.teacher_largest, other.teacher_largest), own = rescale(into.teacher_largest, teacher_top), others = rescale(other.teacher_largest, teacher_top);
  into.teacher_sum = into.teacher_sum * own + other.teacher_sum * others;
  into.teacher_weighted = into.teacher_weighted * own + other.teacher_weighted * others;
  into.teacher_largest = teacher_top;
}

/// Of `count` elements of a patch, `step` apart from `at` on.
template <bool kTeacher>
__device__ inline RunningSums sums_of(const Patch<kTeacher>& patch, int at, int step, int count, float scale) {
  RunningSums seen = nothing_seen();
  const auto counts = [&](int i) { return static_cast<Role>(patch.role[at + i * step]) != Role::kIgnored; };
#pragma unroll 4
  for (int i = 0; i < count; ++i) {
    if (!counts(i)) continue;
    seen.largest = fmaxf(seen.largest, scale * patch.product[at + i * step]);
    if constexpr (kTeacher) seen.teacher_largest = fmaxf(seen.teacher_largest, scale * patch.teacher[at + i * step]);
  }
#pragma unroll 4
  for (int i = 0; i < count; ++i) {
    if (!counts(i)) continue;
    const float similarity = scale * patch.product[at + i * step];
    seen.sum += expf(similarity - seen.largest);
    if (static_cast<Role>(patch.role[at + i * step]) == Role::kPositive) {
      seen.positive_sum += similarity;
      seen.positive_count += 1.0f;
    }
    if constexpr (kTeacher) {
      const float weight = expf(scale * patch.teacher[at + i * step] - seen.teacher_largest);
      seen.teacher_sum += weight;
      seen.teacher_weighted += weight * similarity;
    }
  }
  return seen;
}

/// How many of a thread's share there are where there are `count` of a row, or a column.
__device__ inline int share_of(int first, int count) { return first >= count ? 0 : count - first < kShareLength ? count - first : kShareLength; }

/// A row's, or a column's, shares in their order, in the threads below kPatch.
__device__ inline RunningSums merged_shares(RunningSums* shares, const RunningSums& own) {
  __syncthreads();
  shares[threadIdx.x] = own;
  __syncthreads();
  RunningSums total = own;
  if (threadIdx.x < kPatch) {
    for (int share = 1; share < kShare; ++share) merge(total, shares[share * kPatch + threadIdx.x]);
  }
  return total;
}

/// row_partials[strip][row], and column_partials[block of rows][column] unless null.
template <bool kTeacher>
__global__ void __launch_bounds__(kThreads) partial_statistics(const Tile tile, RunningSums* row_partials, RunningSums* column_partials) {
  auto& patch = *reinterpret_cast<Patch<kTeacher>*>(shared_memory());
  const float scale = *tile.scale;
  PatchWalk<kTeacher> walk(tile, patch);
  const int line = threadIdx.x % kPatch, share = threadIdx.x / kPatch * kShareLength;
  RunningSums of_row = nothing_seen();
  for (; !walk.done(); walk.advance()) {
    walk.load();
    if (line < walk.rows()) merge(of_row, sums_of(patch, line * kPatchStride + share, 1, share_of(share, walk.columns()), scale));
    if (column_partials == nullptr) continue;
    RunningSums of_column = nothing_seen();
    if (line < walk.columns()) of_column = sums_of(patch, share * kPatchStride + line, kPatchStride, share_of(share, walk.rows()), scale);
    of_column = merged_shares(patch.shares, of_column);
    if (static_cast<int>(threadIdx.x) < kPatch && line < walk.columns()) column_partials[blockIdx.x * tile.columns + walk.first_column + line] = of_column;
  }
  of_row = merged_shares(patch.shares, of_row);
  if (static_cast<int>(threadIdx.x) < kPatch && line < walk.rows()) row_partials[blockIdx.y * tile.rows + walk.first_row + line] = of_row;
}

/// The parts of each line, in their order, behind what `into` has. A thread has a line.
static __global__ void __launch_bounds__(kThreads) merge_partials(const RunningSums* partials, std::int64_t splits, std::int64_t lines, const Lines<RunningSums> into) {
  const std::int64_t line = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (line >= lines) return;
  RunningSums total = into.begins ? nothing_seen() : into.sums[line];
  for (std::int64_t split = 0; split < splits; ++split) merge(total, partials[split * lines + line]);
  into.sums[line] = total;
}

/// A thread has a line.
static __global__ void __launch_bounds__(kThreads) cross_entropies_of(const RunningSums* sums, std::int64_t lines, float alpha, const CrossEntropies result) {
  const std::int64_t line = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (line >= lines) return;
  const RunningSums of = sums[line];
  const float log_sum_exp = of.largest + logf(of.sum), inverse_count = of.positive_count > 0.0f ? 1.0f / of.positive_count : 0.0f;
  float target = of.positive_sum * inverse_count;
  if (result.teacher_log_sum_exp != nullptr) {
    result.teacher_log_sum_exp[line] = of.teacher_largest + logf(of.teacher_sum);
    target = (1.0f - alpha) * target + (of.teacher_sum > 0.0f ? alpha * (of.teacher_weighted / of.teacher_sum) : 0.0f);
  }
  result.losses[line] = of.positive_count > 0.0f ? log_sum_exp - target : 0.0f;
  result.log_sum_exp[line] = log_sum_exp;
  result.inverse_count[line] = inverse_count;
}

/// partials[strip][row]: sums of -log sigmoid(y (similarity + bias)).
static __global__ void __launch_bounds__(kThreads) partial_sigmoid(const Tile tile, const SigmoidLoss loss, float* partials) {
  auto& patch = *reinterpret_cast<Patch<false>*>(shared_memory());
  const float scale = *tile.scale, bias = *loss.bias;
  PatchWalk<false> walk(tile, patch);
  const int row = threadIdx.x % kPatch, share = threadIdx.x / kPatch * kShareLength;
  float total = 0.0f;
  for (; !walk.done(); walk.advance()) {
    walk.load();
    if (row >= walk.rows()) continue;
    float seen = 0.0f;
    for (int c = share; c < share + share_of(share, walk.columns()); ++c) {
      const Role role = static_cast<Role>(patch.role[row * kPatchStride + c]);
      if (role == Role::kIgnored) continue;
      const float logit = scale * patch.product[row * kPatchStride + c] + bias, wrong = role == Role::kPositive ? -logit : logit;
      seen += fmaxf(wrong, 0.0f) + log1pf(expf(-fabsf(wrong)));  // log(1 + exp(wrong)) without overflow
    }
    total += seen;
  }
  // The shares of a row, in their order.
  __syncthreads();
  patch.product[threadIdx.x] = total;
  __syncthreads();
  if (static_cast<int>(threadIdx.x) >= kPatch || row >= walk.rows()) return;
  for (int other = 1; other < kShare; ++other) total += patch.product[other * kPatch + row];
  partials[blockIdx.y * tile.rows + walk.first_row + row] = total;
}

/// The parts of each row, in their order, behind what `into` has. A thread has a row.
static __global__ void __launch_bounds__(kThreads) add_partials(const float* partials, std::int64_t splits, std::int64_t rows, const Lines<float> into) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (row >= rows) return;
  float total = into.begins ? 0.0f : into.sums[row];
  for (std::int64_t split = 0; split < splits; ++split) total += partials[split * rows + row];
  into.sums[row] = total;
}

}  // namespace fgvl::losses::cuda
