// The kernels of src/losses/cuda and their launches, on the CPU.
#include "losses/cuda_emulation.hpp"

#include "losses/cuda/launch.cuh"
#include "losses/emulated_order.hpp"

namespace fgvl::losses::cuda {

template void row_statistics(const Pairs<float>&, const RowStatistics&, float*, CUstream_st*);
template void row_statistics(const Pairs<__nv_bfloat16>&, const RowStatistics&, float*, CUstream_st*);
template void sigmoid_row_losses(const Pairs<float>&, const SigmoidLoss&, float*, float*, CUstream_st*);
template void sigmoid_row_losses(const Pairs<__nv_bfloat16>&, const SigmoidLoss&, float*, float*, CUstream_st*);
template void row_gradient(const Pairs<float>&, const SoftmaxLoss&, const RowGradient&, float*, CUstream_st*);
template void row_gradient(const Pairs<__nv_bfloat16>&, const SoftmaxLoss&, const RowGradient&, float*, CUstream_st*);
template void row_gradient(const Pairs<float>&, const SigmoidLoss&, const RowGradient&, float*, CUstream_st*);
template void row_gradient(const Pairs<__nv_bfloat16>&, const SigmoidLoss&, const RowGradient&, float*, CUstream_st*);

}  // namespace fgvl::losses::cuda

namespace fgvl::test {

ThreadsBackward::ThreadsBackward(bool backward) { thread_order = backward ? ThreadOrder::kBackward : ThreadOrder::kForward; }
ThreadsBackward::~ThreadsBackward() { thread_order = ThreadOrder::kForward; }

}  // namespace fgvl::test
