#include <ATen/cuda/CUDAContext.h>

#include "losses/cuda/tiled_losses.hpp"

namespace fgvl::losses::cuda {
namespace {

/// A row-major matrix, or the transpose of one, as cuBLAS, which is column-major, takes its transpose.
struct Operand {
  cublasOperation_t operation;
  int stride;

  explicit Operand(const Tensor& matrix) {
    // A matrix of one row or column has strides that say nothing.
    const bool rows_apart = matrix.stride(1) == 1 && (matrix.stride(0) >= matrix.size(1) || matrix.size(0) == 1);
    TORCH_INTERNAL_ASSERT(rows_apart || matrix.stride(0) == 1);
    operation = rows_apart ? CUBLAS_OP_N : CUBLAS_OP_T;
    stride = static_cast<int>(std::max(rows_apart ? std::max(matrix.stride(0), matrix.size(1)) : std::max(matrix.stride(1), matrix.size(0)), std::int64_t{1}));
  }
};

cudaDataType_t type_of(const Tensor& matrix) { return matrix.scalar_type() == at::kBFloat16 ? CUDA_R_16BF : CUDA_R_32F; }

}  // namespace

void multiply(const Tensor& out, const Tensor& a, const Tensor& b, bool add) {
  const float one = 1, before = add ? 1.0f : 0.0f;
  const Operand left(a), right(b);
  // cuBLAS computes out^T = b^T a^T.
  TORCH_CUDABLAS_CHECK(cublasGemmEx(at::cuda::getCurrentCUDABlasHandle(), right.operation, left.operation, static_cast<int>(out.size(1)), static_cast<int>(out.size(0)), static_cast<int>(a.size(1)), &one,
                                    b.const_data_ptr(), type_of(b), right.stride, a.const_data_ptr(), type_of(a), left.stride, &before, out.mutable_data_ptr(), CUDA_R_32F, Operand(out).stride,
                                    CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
}

}  // namespace fgvl::losses::cuda
