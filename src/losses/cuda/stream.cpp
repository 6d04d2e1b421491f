#include <c10/cuda/CUDAStream.h>

#include "losses/cuda/tiled_losses.hpp"

namespace fgvl::losses::cuda {

CUstream_st* current_stream(const Tensor& on) { return c10::cuda::getCurrentCUDAStream(on.device().index()).stream(); }

}  // namespace fgvl::losses::cuda
