#include "losses/cuda/device.cuh"
#include "losses/cuda/launch.cuh"

namespace fgvl::losses::cuda {

template void row_statistics(const Pairs<float>&, const RowStatistics&, float*, CUstream_st*);
template void sigmoid_row_losses(const Pairs<float>&, const SigmoidLoss&, float*, float*, CUstream_st*);
template void row_gradient(const Pairs<float>&, const SoftmaxLoss&, const RowGradient&, float*, CUstream_st*);
template void row_gradient(const Pairs<float>&, const SigmoidLoss&, const RowGradient&, float*, CUstream_st*);

}  // namespace fgvl::losses::cuda
