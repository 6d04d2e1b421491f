#pragma once
/// Everything that differs between the supported LibTorch versions (2.6 to 2.15), or that has no public C++ entry point.
#include <torch/torch.h>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/CUDAHooksInterface.h>

namespace fgvl::compat {

/// A new generator on `device`. CUDA goes through ATen's hooks, so that nothing here links CUDA.
inline at::Generator make_generator(at::Device device, std::uint64_t seed) {
  if (device.is_cuda()) {
    at::Generator generator = at::globalContext().defaultGenerator(device).clone();
    generator.set_current_seed(seed);
    return generator;
  }
  return at::detail::createCPUGenerator(seed);
}

}  // namespace fgvl::compat
