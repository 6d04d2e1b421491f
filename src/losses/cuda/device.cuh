#pragma once
/// What the kernels take from CUDA. Tests have tests/losses/cuda_emulation.hpp in its place.
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "losses/cuda/kernels.hpp"

namespace fgvl::losses::cuda {

/// The block's dynamic shared memory.
__device__ inline unsigned char* shared_memory() {
  extern __shared__ __align__(128) unsigned char block_memory[];
  return block_memory;
}

struct Grid {
  unsigned x = 1, y = 1;
};

/// Blocks of kThreads threads, with at most 48 KiB of shared memory, which no GPU has to be asked for.
template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), const Grid& grid, std::size_t shared_bytes, CUstream_st* stream, const Arguments&... arguments) {
  kernel<<<dim3(grid.x, grid.y), kThreads, shared_bytes, stream>>>(arguments...);
  const cudaError_t status = cudaGetLastError();
  if (status != cudaSuccess) throw std::runtime_error(std::string("[tiled contrastive losses] launch: ") + cudaGetErrorString(status));
}

}  // namespace fgvl::losses::cuda
