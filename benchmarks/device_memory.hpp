#pragma once
#include <cstdint>

#include "fgvl/core/tensor.hpp"

namespace fgvl::benchmark {

/// Bytes that PyTorch's allocator has handed out on a GPU: now, and at most since `restart_device_peak`. Throws std::runtime_error where the library was built without CUDA.
struct DeviceMemory {
  std::int64_t now = 0, peak = 0;
};
DeviceMemory device_memory(at::Device device);
void restart_device_peak(at::Device device);

}  // namespace fgvl::benchmark
