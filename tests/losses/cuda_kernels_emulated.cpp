// The kernels of src/losses/cuda and their launches, on the CPU.
#include "losses/cuda_emulation.hpp"

#include "losses/cuda/launch.cuh"
#include "losses/emulated_order.hpp"

namespace fgvl::test {

ThreadsBackward::ThreadsBackward(bool backward) { thread_order = backward ? ThreadOrder::kBackward : ThreadOrder::kForward; }
ThreadsBackward::~ThreadsBackward() { thread_order = ThreadOrder::kForward; }

}  // namespace fgvl::test
