#pragma once
/// What the kernels take from CUDA. Tests have tests/losses/cuda_emulation.hpp in its place.
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <mma.h>

#include "losses/cuda/kernels.hpp"

namespace fgvl::losses::cuda {

/// The block's dynamic shared memory.
__device__ inline unsigned char* shared_memory() {
  extern __shared__ __align__(128) unsigned char block_memory[];
  return block_memory;
}

struct Grid {
  unsigned x = 1, y = 1, z = 1;
};

inline void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw std::runtime_error(std::string("[tiled contrastive losses] ") + what + ": " + cudaGetErrorString(status));
}

/// Blocks of kThreads threads. More shared memory than a block has without asking is asked for.
template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), const Grid& grid, std::size_t shared_bytes, CUstream_st* stream, const Arguments&... arguments) {
  if (shared_bytes > kUnaskedSharedBytes) {
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)), "shared memory");
  }
  kernel<<<dim3(grid.x, grid.y, grid.z), kThreads, shared_bytes, stream>>>(arguments...);
  check(cudaGetLastError(), "launch");
}

}  // namespace fgvl::losses::cuda
