#pragma once
/// Tiles of products of two sets of vectors. Included after device.cuh, or after the tests' stand-in for it.
#include "losses/cuda/kernels.hpp"

namespace fgvl::losses::cuda {

// Note [Tiles in shared memory]
// A tile of similarities is kept column after column, so that threads of neighbouring rows read neighbouring floats. Strides are a little longer than what they hold:
// without that, a warp's accesses would fall on few of the 32 banks. Tensor cores want strides of 16 bytes and addresses of 32, float4 wants 16.
constexpr int kTileStride = kTile + 4;  // floats
constexpr int kParts = kThreads / kTile;  // threads that share a row
constexpr int kPartColumns = kTile / kParts;

template <typename T>
struct Operands;

/// float32: both operands depth by depth, as each step of the product reads them.
template <>
struct Operands<float> {
  static constexpr int kDepth = 32;
  float rows[kDepth * kTileStride];
  float columns[kDepth * kTileStride];
};

/// bfloat16: both operands vector by vector, as tensor cores take them.
template <>
struct Operands<__nv_bfloat16> {
  static constexpr int kDepth = 64;
  static constexpr int kStride = kDepth + 8;
  __nv_bfloat16 rows[kTile * kStride];
  __nv_bfloat16 columns[kTile * kStride];
  __nv_bfloat16 gradient[kTile * kStride];  // column after column
};

/// What a block keeps of each column of the tile at hand.
struct TileColumns {
  std::int64_t id[kTile];
  std::int32_t group[kTile];
  float log_sum_exp[kTile], weight[kTile], positive_weight[kTile], teacher_log_sum_exp[kTile], teacher_weight[kTile];  // in a gradient
};

template <typename T, bool kTeacher>
struct SharedTiles {
  alignas(128) float product[kTile * kTileStride];
  alignas(128) float teacher[kTeacher ? kTile * kTileStride : 1];
  alignas(128) Operands<T> operands;
  alignas(128) TileColumns columns;
};

/// Whether every vector starts at a multiple of 16 bytes and ends at one.
template <typename T>
__device__ inline bool in_words(const T* data, int width) {
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && width * static_cast<int>(sizeof(T)) % 16 == 0;
}

/// 16 bytes of vector `row` from component `at` on; zero where there is none.
template <typename T>
struct Word {
  static constexpr int kSize = 16 / sizeof(T);
  alignas(16) T value[kSize];

  __device__ void load(const T* data, std::int64_t count, int width, std::int64_t row, int at, bool words) {
    if (row < count && words && at < width) {
      *reinterpret_cast<uint4*>(value) = *reinterpret_cast<const uint4*>(data + row * width + at);
      return;
    }
#pragma unroll
    for (int i = 0; i < kSize; ++i) value[i] = row < count && at + i < width ? data[row * width + at + i] : T{};
  }
  __device__ void store(T* to) const { *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(value); }
};

/// 64 vectors from `row` on, their components from `at` on, zero where there are none: to[vector * stride + component].
template <typename T, int kStride>
__device__ inline void load_vectors(const T* data, std::int64_t count, int width, std::int64_t row, int at, T* to) {
  constexpr int kWords = kTile / Word<T>::kSize;  // a vector
  const bool words = in_words(data, width);
#pragma unroll
  for (int i = threadIdx.x; i < kTile * kWords; i += kThreads) {
    const int vector = i / kWords, component = i % kWords * Word<T>::kSize;
    Word<T> word;
    word.load(data, count, width, row + vector, at + component, words);
    word.store(to + vector * kStride + component);
  }
}

/// The same of 32 components, transposed: to[component * kTileStride + vector]. A warp has 8 vectors, so that it reads whole sectors and writes to many banks.
__device__ inline void load_transposed(const float* data, std::int64_t count, int width, std::int64_t row, int at, float* to) {
  const bool words = in_words(data, width);
  const int vector = threadIdx.x / 32 * 8 + threadIdx.x % 8;
#pragma unroll
  for (int component = threadIdx.x % 32 / 8 * 4; component < Operands<float>::kDepth; component += 16) {
    Word<float> word;
    word.load(data, count, width, row + vector, at + component, words);
#pragma unroll
    for (int i = 0; i < 4; ++i) to[(component + i) * kTileStride + vector] = word.value[i];
  }
}

/// The products of a type. Every function is called by the whole block; `finish` and `accumulate` leave what they write unsynchronised.
template <typename T>
struct Products;

template <>
struct Products<float> {
  /// A thread has rows 4y to 4y + 3 of four neighbouring columns, or components, in each group of 64.
  float gradient[kSlice / kTile][4][4];

  __device__ void clear() {
#pragma unroll
    for (int group = 0; group < kSlice / kTile; ++group)
#pragma unroll
      for (int i = 0; i < 16; ++i) gradient[group][i / 4][i % 4] = 0.0f;
  }

  /// product[i][k] += rows[d][i] columns[d][k], d of `depth`, both with kTileStride.
  static __device__ void add(const float* rows, const float* columns, int depth, float (&product)[4][4]) {
    const int y = threadIdx.x / 16, x = threadIdx.x % 16;
#pragma unroll 8
    for (int d = 0; d < depth; ++d) {
      const float4 a = *reinterpret_cast<const float4*>(rows + d * kTileStride + 4 * y);
      const float4 b = *reinterpret_cast<const float4*>(columns + d * kTileStride + 4 * x);
      const float left[4] = {a.x, a.y, a.z, a.w}, right[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int k = 0; k < 4; ++k) product[i][k] = fmaf(left[i], right[k], product[i][k]);
    }
  }

  /// tile[column * kTileStride + row] = <row, column>.
  static __device__ void tile_of(const float* rows, std::int64_t row_count, std::int64_t row, const float* columns, std::int64_t column_count, std::int64_t column, int width,
                                 Operands<float>& operands, float* tile) {
    float product[4][4] = {};
    for (int at = 0; at < width; at += Operands<float>::kDepth) {
      __syncthreads();  // nobody reads the operands or the tile any more
      load_transposed(rows, row_count, width, row, at, operands.rows);
      load_transposed(columns, column_count, width, column, at, operands.columns);
      __syncthreads();
      add(operands.rows, operands.columns, Operands<float>::kDepth, product);
    }
    const int y = threadIdx.x / 16, x = threadIdx.x % 16;
#pragma unroll
    for (int k = 0; k < 4; ++k)
      *reinterpret_cast<float4*>(tile + (4 * x + k) * kTileStride + 4 * y) = float4{product[0][k], product[1][k], product[2][k], product[3][k]};
  }

  /// Where a thread puts d loss / d similarity: over the product.
  template <bool kTeacher>
  static __device__ void put(SharedTiles<float, kTeacher>& shared, int row, int column, float value) {
    shared.product[column * kTileStride + row] = value;
  }

  /// Adds the tile's d loss / d similarity times its columns, the components of `slice`.
  template <bool kTeacher>
  __device__ void accumulate(const float* columns, std::int64_t column_count, std::int64_t column, int width, int slice, SharedTiles<float, kTeacher>& shared) {
    static_assert(offsetof(Operands<float>, columns) == sizeof(float) * 32 * kTileStride && sizeof(Operands<float>) == sizeof(float) * kTile * kTileStride);
#pragma unroll
    for (int group = 0; group < kSlice / kTile; ++group) {
      const int at = slice + group * kTile;
      if (at >= width) break;
      __syncthreads();  // the gradients are there, and nobody reads the operands any more
      load_vectors<float, kTileStride>(columns, column_count, width, column, at, shared.operands.rows);  // through both operands
      __syncthreads();
      add(shared.product, shared.operands.rows, kTile, gradient[group]);
    }
  }

  /// to[row * width + component] of the rows that exist.
  template <bool kTeacher>
  __device__ void finish(float scale, std::int64_t row_count, std::int64_t row, int width, int slice, float* to, SharedTiles<float, kTeacher>&) const {
    const int y = threadIdx.x / 16, x = threadIdx.x % 16;
#pragma unroll
    for (int group = 0; group < kSlice / kTile; ++group)
#pragma unroll
      for (int i = 0; i < 16; ++i) {
        const std::int64_t at_row = row + 4 * y + i / 4;
        const int component = slice + group * kTile + 4 * x + i % 4;
        if (at_row < row_count && component < width) to[at_row * width + component] = scale * gradient[group][i / 4][i % 4];
      }
  }
};

/// Tensor cores, 16 x 16 x 16: warp w has rows 16 (w / 2) of a tile and 32 of its columns, or components.
template <>
struct Products<__nv_bfloat16> {
  using Sum = nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float>;
  using Bf16 = __nv_bfloat16;
  static constexpr int kStride = Operands<Bf16>::kStride;

  Sum gradient[kSlice / kTile][2];

  __device__ void clear() {
#pragma unroll
    for (int group = 0; group < kSlice / kTile; ++group)
#pragma unroll
      for (int n = 0; n < 2; ++n) nvcuda::wmma::fill_fragment(gradient[group][n], 0.0f);
  }
  static __device__ int first_row() { return threadIdx.x / 64 * 16; }
  static __device__ int first_column() { return threadIdx.x / 32 % 2 * 32; }

  static __device__ void tile_of(const Bf16* rows, std::int64_t row_count, std::int64_t row, const Bf16* columns, std::int64_t column_count, std::int64_t column, int width,
                                 Operands<Bf16>& operands, float* tile) {
    namespace wmma = nvcuda::wmma;
    const int i = first_row(), j = first_column();
    Sum product[2];
#pragma unroll
    for (int n = 0; n < 2; ++n) wmma::fill_fragment(product[n], 0.0f);
    for (int at = 0; at < width; at += Operands<Bf16>::kDepth) {
      __syncthreads();  // nobody reads the operands or the tile any more
      load_vectors<Bf16, kStride>(rows, row_count, width, row, at, operands.rows);
      load_vectors<Bf16, kStride>(columns, column_count, width, column, at, operands.columns);
      __syncthreads();
#pragma unroll
      for (int d = 0; d < Operands<Bf16>::kDepth; d += 16) {
        wmma::fragment<wmma::matrix_a, 16, 16, 16, Bf16, wmma::row_major> a;
        wmma::load_matrix_sync(a, operands.rows + i * kStride + d, kStride);
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          wmma::fragment<wmma::matrix_b, 16, 16, 16, Bf16, wmma::col_major> b;
          wmma::load_matrix_sync(b, operands.columns + (j + 16 * n) * kStride + d, kStride);
          wmma::mma_sync(product[n], a, b, product[n]);
        }
      }
    }
#pragma unroll
    for (int n = 0; n < 2; ++n) wmma::store_matrix_sync(tile + (j + 16 * n) * kTileStride + i, product[n], kTileStride, wmma::mem_col_major);
  }

  template <bool kTeacher>
  static __device__ void put(SharedTiles<Bf16, kTeacher>& shared, int row, int column, float value) {
    shared.operands.gradient[column * kStride + row] = __float2bfloat16_rn(value);
  }

  template <bool kTeacher>
  __device__ void accumulate(const Bf16* columns, std::int64_t column_count, std::int64_t column, int width, int slice, SharedTiles<Bf16, kTeacher>& shared) {
    namespace wmma = nvcuda::wmma;
    const int i = first_row(), e = first_column();
#pragma unroll
    for (int group = 0; group < kSlice / kTile; ++group) {
      const int at = slice + group * kTile;
      if (at >= width) break;
      __syncthreads();  // the gradients are there, and nobody reads the operands any more
      load_vectors<Bf16, kStride>(columns, column_count, width, column, at, shared.operands.columns);
      __syncthreads();
#pragma unroll
      for (int j = 0; j < kTile; j += 16) {
        wmma::fragment<wmma::matrix_a, 16, 16, 16, Bf16, wmma::col_major> a;
        wmma::load_matrix_sync(a, shared.operands.gradient + j * kStride + i, kStride);
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          wmma::fragment<wmma::matrix_b, 16, 16, 16, Bf16, wmma::row_major> b;
          wmma::load_matrix_sync(b, shared.operands.columns + j * kStride + e + 16 * n, kStride);
          wmma::mma_sync(gradient[group][n], a, b, gradient[group][n]);
        }
      }
    }
  }

  /// By way of the tile: which thread has which element of a fragment is the hardware's secret.
  template <bool kTeacher>
  __device__ void finish(float scale, std::int64_t row_count, std::int64_t row, int width, int slice, float* to, SharedTiles<Bf16, kTeacher>& shared) const {
    namespace wmma = nvcuda::wmma;
    const int i = first_row(), e = first_column();
#pragma unroll
    for (int group = 0; group < kSlice / kTile; ++group) {
      const int at = slice + group * kTile;
      if (at >= width) break;
      __syncthreads();
#pragma unroll
      for (int n = 0; n < 2; ++n) wmma::store_matrix_sync(shared.product + i * kTileStride + e + 16 * n, gradient[group][n], kTileStride, wmma::mem_row_major);
      __syncthreads();
      for (int t = threadIdx.x; t < kTile * kTile; t += kThreads) {
        const std::int64_t at_row = row + t / kTile;
        const int component = at + t % kTile;
        if (at_row < row_count && component < width) to[at_row * width + component] = scale * shared.product[t / kTile * kTileStride + t % kTile];
      }
    }
  }
};

}  // namespace fgvl::losses::cuda
