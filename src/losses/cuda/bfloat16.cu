#include "losses/cuda/device.cuh"
#include "losses/cuda/launch.cuh"

namespace fgvl::losses::cuda {

template void row_statistics(const Pairs<__nv_bfloat16>&, const RowStatistics&, float*, CUstream_st*);
template void sigmoid_row_losses(const Pairs<__nv_bfloat16>&, const SigmoidLoss&, float*, float*, CUstream_st*);
template void row_gradient(const Pairs<__nv_bfloat16>&, const SoftmaxLoss&, const RowGradient&, float*, CUstream_st*);
template void row_gradient(const Pairs<__nv_bfloat16>&, const SigmoidLoss&, const RowGradient&, float*, CUstream_st*);

}  // namespace fgvl::losses::cuda
