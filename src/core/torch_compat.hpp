#pragma once
/// Everything that differs between the supported LibTorch versions (2.6 to 2.15), or that has no public C++ entry point.
#include <cstdlib>
#include <optional>

#include <torch/torch.h>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/autocast_mode.h>

namespace fgvl::compat {

/// Versions that trust cuBLAS only with workspaces set by this variable. Others read it at every product, which costs more than small products do.
template <typename Context>
concept AsksForCublasWorkspaces = requires(const Context& context) { context.alertCuBLASConfigNotDeterministic(); };

/// Full float32 in convolutions and products, and the same numbers on every run, on every GPU of this process. An operator that has no deterministic algorithm throws.
inline void use_exact_gpu_arithmetic() {
  at::globalContext().setAllowTF32CuDNN(false);
  at::globalContext().setAllowTF32CuBLAS(false);
  // Only where others are refused does attention take its deterministic backward pass.
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
  if constexpr (AsksForCublasWorkspaces<at::Context>) setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  // It comes with determinism, and would fill the result of every operator with NaN before it is written.
  at::globalContext().setDeterministicFillUninitializedMemory(false);
  // cuDNN makes a plan for every new shape, and batches of texts differ in theirs from step to step.
  at::globalContext().setSDPUseCuDNN(false);
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

// Note [Gradients of look-ups]
// A dense gradient of a look-up is as large as the vocabulary, and mostly zeros that are written and added once for every look-up of a step. Sparse ones cost what was looked up, and are added to the dense one of
// whatever else reads the table (a word predictor). Where nothing else does, the parameter's gradient becomes dense when it is complete, so that no optimizer sees a sparse one. torch::autograd::grad, which fills no
// parameter's gradient, gives it as it is.
inline void keep_gradient_dense(const at::Tensor& parameter) {
  struct Hook final : torch::autograd::PostAccumulateGradHook {
    void operator()(const at::Tensor& accumulated) override {
      if (accumulated.grad().is_sparse()) accumulated.mutable_grad() = accumulated.grad().to_dense();
    }
  };
  torch::autograd::impl::set_post_acc_grad_hooks(parameter, std::make_unique<Hook>());
}

/// What autocast does on one type of device.
struct AutocastSetting {
  at::DeviceType type = at::kCPU;
  bool enabled = false;
  at::ScalarType dtype = at::kBFloat16;
  bool cache = true;  ///< weights that were cast once are kept until the outermost scope ends
};
inline AutocastSetting autocast_setting(at::DeviceType type) {
  return {type, at::autocast::is_autocast_enabled(type), at::autocast::get_autocast_dtype(type), at::autocast::is_autocast_cache_enabled()};
}

/// Autocast of one type of device while it lives; what was set before comes back.
class Autocast {
 public:
  explicit Autocast(const AutocastSetting& setting) { enter(setting); }
  /// To bfloat16; without `enabled`, nothing changes.
  Autocast(at::Device device, bool enabled) {
    if (enabled) enter({device.type(), true, at::kBFloat16, at::autocast::is_autocast_cache_enabled()});
  }
  ~Autocast() {
    if (!before_) return;
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    set(*before_);
  }
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  void enter(const AutocastSetting& setting) {
    before_ = autocast_setting(setting.type);
    set(setting);
    at::autocast::increment_nesting();
  }
  static void set(const AutocastSetting& setting) {
    at::autocast::set_autocast_enabled(setting.type, setting.enabled);
    at::autocast::set_autocast_dtype(setting.type, setting.dtype);
    at::autocast::set_autocast_cache_enabled(setting.cache);
  }

  std::optional<AutocastSetting> before_{};
};

}  // namespace fgvl::compat
