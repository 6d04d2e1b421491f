#pragma once
#include <torch/torch.h>

#include "fgvl/core/safetensors.hpp"
#include "fgvl/train/run_config.hpp"

namespace fgvl::train {

/// Every parameter of model and criterion by our names, "model.*" and "losses.*", but for momentum copies, which never train.
NamedTensors named_parameters(const models::Model& model, const losses::Criterion& criterion);

/// What `freeze` did, in single numbers.
struct Frozen {
  std::int64_t trained = 0, total = 0;
};
/// Ends the training of every parameter that one of `globs` fits, by our name or X-VLM's official one: it requires no gradient from here on, and AdamW leaves it out.
/// Throws c10::Error when a glob fits no parameter, naming the nearest, or when nothing is left to train; `key` is where the globs stand in a configuration.
Frozen freeze(models::Model& model, losses::Criterion& criterion, const std::vector<std::string>& globs, const std::string& key = "train.freeze");

/// Training mode for `module`, but for norms all of whose parameters are frozen: their running statistics must not move either, so that they normalise with them as in evaluation.
void train_unfrozen(torch::nn::Module& module);

/// AdamW over named parameters, in groups of one decay and one learning rate. A parameter that requires no gradient is left out, and one that got none in a step is not touched in it.
class AdamW {
 public:
  struct Group {
    bool decayed = true;
    double lr_factor = 1.0;
    std::vector<std::size_t> slots{};  ///< of the parameters that train, in the order in which they were given
  };

  /// `parameters`: as named_parameters() gives them. Throws c10::Error when a group of the options fits no parameter.
  AdamW(const NamedTensors& parameters, const OptimizerOptions& options);

  void zero_grad();
  /// Norm of all gradients together. Where it is larger than `clip_norm` (0: never), the next step(), unless zero_grad() comes before it, scales them down to it as it reads them: until then they are unclipped.
  double clip(double clip_norm);
  void step(double lr);

  const std::vector<Group>& groups() const { return groups_; }

  NamedTensors state() const;
  /// InvalidArgument when a tensor is missing or has another shape.
  absl::Status load(const NamedTensors& state);

 private:
  struct Slot {
    std::string name;
    Tensor parameter, first_moment, second_moment, steps;
    std::int64_t steps_done;  ///< what `steps` holds, known without asking the device
  };
  /// What one update works on: those of a group that have a gradient, and one eps.
  struct Lists {
    std::vector<Tensor> parameters{}, gradients{}, first{}, second{}, steps{};
  };
  double eps_at(std::int64_t steps_done) const;

  OptimizerOptions options_;
  std::vector<Slot> slots_;
  std::vector<Group> groups_;
  double gradient_factor_ = 1;  ///< by which the next step multiplies gradients
};

}  // namespace fgvl::train
