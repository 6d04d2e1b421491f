#include "device_memory.hpp"

#include <stdexcept>

#ifdef FGVL_BENCHMARK_CUDA
#include <c10/cuda/CUDACachingAllocator.h>
#endif

namespace fgvl::benchmark {

#ifdef FGVL_BENCHMARK_CUDA
DeviceMemory device_memory(at::Device device) {
  const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(device.index());
  return {stats.allocated_bytes[0].current, stats.allocated_bytes[0].peak};  // [0]: pools together
}

void restart_device_peak(at::Device device) { c10::cuda::CUDACachingAllocator::resetPeakStats(device.index()); }
#else
DeviceMemory device_memory(at::Device) { throw std::runtime_error("the memory of a GPU: built without CUDA"); }
void restart_device_peak(at::Device) { throw std::runtime_error("the memory of a GPU: built without CUDA"); }
#endif

}  // namespace fgvl::benchmark
