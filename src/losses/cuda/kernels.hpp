#pragma once
#include <cstddef>
#include <cstdint>

/// What the kernels of the tiled contrastive losses see: raw pointers (device memory, contiguous) and sizes. Neither LibTorch nor CUDA is included here: nvcc compiles
/// the kernels in seconds, and tests compile the same kernels for the host.
struct CUstream_st;     // what cudaStream_t points to
struct __nv_bfloat16;   // of cuda_bf16.h

namespace fgvl::losses::cuda {

/// Vectors of one side, row-major. T is float or __nv_bfloat16; every sum is float32.
template <typename T>
struct Vectors {
  const T* data = nullptr;              ///< [count, width]
  const T* teacher = nullptr;           ///< [count, width], whose products are the soft targets' logits; null on both sides: hard targets
  const std::int64_t* id = nullptr;     ///< [count]; a pair of equal ids is a positive
  const std::int32_t* group = nullptr;  ///< [count] in [0, groups of this side); null where `GroupRules::entries` is
  std::int64_t count = 0;
};

/// What groups of rows and of columns are to one another, a sorted list of entries for each group of rows: row group g has entries[offsets[g]] to entries[offsets[g + 1] - 1].
/// An entry is 2 * (group of columns), + 1 if its pairs are ignored; otherwise they are positives, which wins where both stand.
struct GroupRules {
  const std::int64_t* offsets = nullptr;
  const std::int32_t* entries = nullptr;  ///< null: ids alone decide
};

/// The pairs of rows and columns. Their similarity is <row, column> * scale.
template <typename T>
struct Pairs {
  Vectors<T> rows{}, columns{};
  int width = 0;                 ///< of every vector, at least 1
  const float* scale = nullptr;  ///< one value: of softmax losses, 1 / temperature
  GroupRules rules{};

  [[nodiscard]] bool soft() const { return rows.teacher != nullptr; }
};

/// Of each row, over the columns that are not ignored. Every member [rows].
struct RowStatistics {
  float* log_sum_exp = nullptr;          ///< of the similarities; -inf for a row without columns
  float* positive_sum = nullptr;         ///< of the positives' similarities
  float* positive_count = nullptr;
  float* teacher_log_sum_exp = nullptr;  ///< of the teacher's similarities; null without a teacher
  float* teacher_mean = nullptr;         ///< of the similarities, weighted by the softmax of the teacher's; null without a teacher
};

/// The part of d loss / d similarity that comes from softmaxes over one side. Members are indexed by the other side; all null: there is none.
///   weight exp(similarity - log_sum_exp) - positive_weight [pair is a positive] - teacher_weight exp(teacher similarity - teacher_log_sum_exp)
struct SoftmaxSide {
  const float* log_sum_exp = nullptr;
  const float* weight = nullptr;
  const float* positive_weight = nullptr;
  const float* teacher_log_sum_exp = nullptr;
  const float* teacher_weight = nullptr;
};
struct SoftmaxLoss {
  SoftmaxSide over_columns{};  ///< members [rows]
  SoftmaxSide over_rows{};     ///< members [columns]
};

/// weight * -log sigmoid(y (similarity + bias)), y = 1 for positives and -1 for negatives. Of the weights one is given.
struct SigmoidLoss {
  const float* bias = nullptr;           ///< one value
  const float* row_weight = nullptr;     ///< [rows]
  const float* column_weight = nullptr;  ///< [columns]
};

struct RowGradient {
  float* rows = nullptr;        ///< [rows, width], of `Pairs::rows.data`
  float* scale_sum = nullptr;   ///< [row_tiles * splits], whose total is d loss / d scale
  float* change_sum = nullptr;  ///< [row_tiles * splits], whose total is the sum of d loss / d similarity, that is d loss / d bias
};

/// How the blocks of a launch share the work: block (x, y, z) has the rows of tile x, the columns of the y-th group of tiles and, in a gradient, the z-th slice of
/// components. A function of the sizes alone, never of the device: partial results are added in the order of y, so that every GPU adds in the same order.
struct Geometry {
  std::int64_t row_tiles = 0, splits = 0, slices = 0;
  std::int64_t tiles_per_split = 0;
  std::int64_t partials = 0;  ///< floats of scratch memory
};

constexpr int kTile = 64;      ///< rows and columns of a tile of similarities
constexpr int kThreads = 256;  ///< of a block
constexpr int kSlice = 256;    ///< components of a gradient that a block keeps in registers
constexpr std::size_t kUnaskedSharedBytes = 48 * 1024;  ///< what a block has without asking
constexpr std::size_t kLargestSharedBytes = 99 * 1024;  ///< what a block may ask for on every architecture from sm_80 on (sm_86, sm_89 and sm_120 have least)
constexpr int kStatistics = 7;  ///< floats that a block hands on for each row

/// For at least one row and one column.
Geometry statistics_geometry(std::int64_t rows, std::int64_t columns);
Geometry gradient_geometry(std::int64_t rows, std::int64_t columns, std::int64_t width);

/// Each for at least one row and one column; `partials` is scratch memory of the geometry's size. Throws std::runtime_error if CUDA refuses the launch.
template <typename T>
void row_statistics(const Pairs<T>& pairs, const RowStatistics& result, float* partials, CUstream_st* stream);
/// losses [rows]: of each row, the sum over its columns (SigmoidLoss without its weights). Geometry and scratch memory as for statistics.
template <typename T>
void sigmoid_row_losses(const Pairs<T>& pairs, const SigmoidLoss& loss, float* losses, float* partials, CUstream_st* stream);
/// Loss is SoftmaxLoss or SigmoidLoss.
template <typename T, typename Loss>
void row_gradient(const Pairs<T>& pairs, const Loss& loss, const RowGradient& gradient, float* partials, CUstream_st* stream);

}  // namespace fgvl::losses::cuda
