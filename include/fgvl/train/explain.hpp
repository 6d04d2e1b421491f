#pragma once
#include <string>

#include "fgvl/train/run_config.hpp"

namespace fgvl::train {

/// What a run would minimise, as a person reads it, stage by stage: terms with their weights, what they count from which stream, which parts of the model run how often a step, and what each costs.
/// Measured, not derived: data and model are made as for training, and one forward and backward pass of a few pictures of every stream runs on the CPU through a pass that writes down what terms ask
/// for, so that terms of the user's own are covered. Nothing is trained or written. `title` stands above it.
/// Errors: those of Trainer::make.
absl::StatusOr<std::string> explain(const RunConfig& config, const std::string& title);

}  // namespace fgvl::train
