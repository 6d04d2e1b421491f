#pragma once
#include <utility>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <torch/nn/module.h>

namespace fgvl::train {

/// For its lifetime: no gradients, and every given module in evaluation mode. A probe must not move the running statistics of a batch norm nor
/// draw dropout, whoever calls it; afterwards each sub-module is back in the mode it was in, frozen ones included.
class InferenceScope {
 public:
  template <class... Modules>
  explicit InferenceScope(Modules&... modules) {
    (remember(modules), ...);
    (modules.eval(), ...);
  }
  ~InferenceScope() {
    // Parents come before their children, so that a child's own mode is set last.
    for (const auto& [module, was_training] : modes_) module->train(was_training);
  }
  InferenceScope(const InferenceScope&) = delete;
  InferenceScope& operator=(const InferenceScope&) = delete;

 private:
  void remember(torch::nn::Module& module) {
    modes_.emplace_back(&module, module.is_training());
    for (const auto& child : module.modules(/*include_self=*/false)) modes_.emplace_back(child.get(), child->is_training());
  }

  at::NoGradGuard no_grad_;
  std::vector<std::pair<torch::nn::Module*, bool>> modes_;
};

}  // namespace fgvl::train
