#pragma once
#include <torch/torch.h>

#include "fgvl/core/safetensors.hpp"
#include "fgvl/train/run_config.hpp"

namespace fgvl::train {

/// AdamW over named parameters. Parameters with fewer than two dimensions (biases, norms, scalars) are not decayed. A parameter that got no
/// gradient in a step is not touched in it.
class AdamW {
 public:
  AdamW(const std::vector<std::pair<std::string, Tensor>>& parameters, const OptimizerOptions& options);

  void zero_grad();
  /// Norm of all gradients together; scaled to `clip_norm` where larger (0: never).
  double clip(double clip_norm);
  void step(double lr);

  NamedTensors state() const;
  /// InvalidArgument when a tensor is missing or has another shape.
  absl::Status load(const NamedTensors& state);

 private:
  struct Slot {
    std::string name;
    Tensor parameter, first_moment, second_moment, steps;
    bool decayed, of_losses;
  };
  OptimizerOptions options_;
  std::vector<Slot> slots_;
};

}  // namespace fgvl::train
