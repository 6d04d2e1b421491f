#pragma once
/// Everything that differs between the supported LibTorch versions (2.6 to 2.15), or that has no public C++ entry point.
#include <torch/torch.h>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/autocast_mode.h>

namespace fgvl::compat {

/// Full float32 in convolutions and products, and deterministic algorithms where there are any, on every GPU of this process.
inline void use_exact_gpu_arithmetic() {
  at::globalContext().setAllowTF32CuDNN(false);
  at::globalContext().setAllowTF32CuBLAS(false);
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/true);
}

/// A new generator on `device`. CUDA goes through ATen's hooks, so that nothing here links CUDA.
inline at::Generator make_generator(at::Device device, std::uint64_t seed) {
  if (device.is_cuda()) {
    at::Generator generator = at::globalContext().defaultGenerator(device).clone();
    generator.set_current_seed(seed);
    return generator;
  }
  return at::detail::createCPUGenerator(seed);
}

/// Autocast to bfloat16 on one device while it lives.
class Autocast {
 public:
  Autocast(at::Device device, bool enabled) : type_(device.type()), enabled_(enabled) {
    if (!enabled_) return;
    before_ = at::autocast::is_autocast_enabled(type_);
    dtype_before_ = at::autocast::get_autocast_dtype(type_);
    at::autocast::set_autocast_enabled(type_, true);
    at::autocast::set_autocast_dtype(type_, at::kBFloat16);
    at::autocast::increment_nesting();
  }
  ~Autocast() {
    if (!enabled_) return;
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(type_, before_);
    at::autocast::set_autocast_dtype(type_, dtype_before_);
  }
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  at::DeviceType type_;
  bool enabled_, before_ = false;
  at::ScalarType dtype_before_ = at::kFloat;
};

}  // namespace fgvl::compat
