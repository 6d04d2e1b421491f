#pragma once
#include <cstddef>
#include <cstdint>

/// What the kernels of the tiled contrastive losses see: raw pointers (device memory) and sizes. Neither LibTorch nor CUDA is included here: nvcc compiles the kernels in seconds, and tests compile the same kernels
/// for the host.
struct CUstream_st;    // what cudaStream_t points to
struct __nv_bfloat16;  // of cuda_bf16.h

namespace fgvl::losses::cuda {

/// Of the vectors of one side, from a tile's first on.
struct Names {
  const std::int64_t* id = nullptr;     ///< a pair of equal ids is a positive
  const std::int32_t* group = nullptr;  ///< in [0, groups of this side); null where `GroupRules::entries` is
};

/// What groups of rows and of columns are to one another, a sorted list of entries for each group of rows: row group g has entries[offsets[g]] to entries[offsets[g + 1] - 1].
/// An entry is 2 * (group of columns), + 1 if its pairs are ignored; otherwise they are positives, which wins where both stand.
struct GroupRules {
  const std::int64_t* offsets = nullptr;
  const std::int32_t* entries = nullptr;  ///< null: ids alone decide
};

/// Products <row, column> of some rows and some columns; their similarity is product * scale.
struct Tile {
  const float* products = nullptr;  ///< [rows, stride], of which the first `columns` of each row count; starts at a multiple of 16 bytes
  const float* teacher = nullptr;   ///< the same of the teacher's vectors, whose products are the soft targets' logits; null: hard targets
  std::int64_t rows = 0, columns = 0;
  std::int64_t stride = 0;          ///< a multiple of 4
  const float* scale = nullptr;     ///< one value: of softmax losses, 1 / temperature
  Names row_names{}, column_names{};
  GroupRules rules{};
};

/// Sums over the columns of a row, or the rows of a column, that are not ignored; exponentials are relative to the largest similarity among them, so that none overflows.
struct RunningSums {
  float largest, sum;                                    ///< -inf and 0 before anything was seen
  float positive_sum, positive_count;
  float teacher_largest, teacher_sum, teacher_weighted;  ///< the last: of similarities, weighted by exponentials of the teacher's
};
constexpr int kRunningSums = 7;  ///< floats
static_assert(sizeof(RunningSums) == kRunningSums * sizeof(float));

/// What becomes of a line's sums; members [lines].
struct CrossEntropies {
  float* losses = nullptr;               ///< against (1 - alpha) of the positives and alpha of the teacher; 0 without a positive
  float* log_sum_exp = nullptr;
  float* inverse_count = nullptr;        ///< 1 / number of positives, 0 without
  float* teacher_log_sum_exp = nullptr;  ///< null without a teacher
};

/// The part of d loss / d similarity that comes from softmaxes over one side; 0 without a positive. Members are indexed by the other side, from a tile's first on; all null: there is none.
///   gradient (exp(similarity - log_sum_exp) - (1 - alpha) [pair is a positive] inverse_count - alpha exp(teacher similarity - teacher_log_sum_exp))
struct SoftmaxSide {
  const float* gradient = nullptr;  ///< of each cross-entropy
  const float* log_sum_exp = nullptr;
  const float* inverse_count = nullptr;
  const float* teacher_log_sum_exp = nullptr;
  float alpha = 0;

  SoftmaxSide from(std::int64_t first) const {
    const auto at = [first](const float* values) { return values == nullptr ? nullptr : values + first; };
    return {at(gradient), at(log_sum_exp), at(inverse_count), at(teacher_log_sum_exp), alpha};
  }
};
struct SoftmaxLoss {
  SoftmaxSide over_columns{};  ///< members [rows]
  SoftmaxSide over_rows{};     ///< members [columns]
};

/// -log sigmoid(y (similarity + bias)), y = 1 for positives and -1 for negatives.
struct SigmoidLoss {
  const float* bias = nullptr;  ///< one value
};

// How blocks share a tile. A function of the tile's size alone, never of the device, and partial results are added in their order: every GPU adds in the same order.
constexpr int kThreads = 256;  ///< of a block
constexpr int kPatch = 64;     ///< rows and columns of products that a block keeps in shared memory
constexpr int kStrip = 256;    ///< columns that a block of `tile_statistics` goes along, patch by patch
constexpr int kGradientRows = 64, kGradientColumns = 128;  ///< of a block of `tile_gradient`
constexpr std::int64_t parts(std::int64_t size, std::int64_t part) { return (size + part - 1) / part; }
constexpr std::int64_t row_partials(std::int64_t rows, std::int64_t columns) { return rows * parts(columns, kStrip); }      ///< RunningSums, or floats of a sigmoid loss
constexpr std::int64_t column_partials(std::int64_t rows, std::int64_t columns) { return columns * parts(rows, kPatch); }  ///< RunningSums
constexpr std::int64_t gradient_blocks(std::int64_t rows, std::int64_t columns) { return parts(rows, kGradientRows) * parts(columns, kGradientColumns); }

// Each launches on `stream`, for at least one row and one column, and throws std::runtime_error if CUDA refuses.

/// What is summed up over several tiles: the first one of a line begins it.
template <typename Sums>
struct Lines {
  Sums* sums = nullptr;  ///< [lines]; null: not asked for
  bool begins = false;
};

/// Merges a tile into the sums of its rows and its columns. `partials`: scratch memory of row_partials and, if columns are asked for, column_partials.
void tile_statistics(const Tile& tile, const Lines<RunningSums>& rows, const Lines<RunningSums>& columns, RunningSums* partials, CUstream_st* stream);
void cross_entropies(const RunningSums* sums, std::int64_t lines, float alpha, const CrossEntropies& result, CUstream_st* stream);
/// Adds a tile to the losses of its rows. `partials`: row_partials floats of scratch memory.
void tile_sigmoid_losses(const Tile& tile, const SigmoidLoss& loss, const Lines<float>& rows, float* partials, CUstream_st* stream);
/// gradient [rows, stride] = scale * d loss / d similarity, 0 where ignored; may be the products themselves. T: float or __nv_bfloat16. Loss: SoftmaxLoss or SigmoidLoss.
/// scale_sum, change_sum [gradient_blocks]: their totals are d loss / d scale, and the sum of d loss / d similarity, that is d loss / d bias.
template <typename T, typename Loss>
void tile_gradient(const Tile& tile, const Loss& loss, T* gradient, float* scale_sum, float* change_sum, CUstream_st* stream);

}  // namespace fgvl::losses::cuda
