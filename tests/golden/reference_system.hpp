#pragma once
/// The systems of configs/reference/, as a user builds them: the file, with the sizes of a fixture as overrides.
#include "fgvl/train/run_config.hpp"
#include "golden/official_model.hpp"

namespace fgvl::test {

/// configs/reference/<family>.yaml at the sizes of a fixture, without dropout. `overrides` come last.
train::RunConfig reference_config(const OfficialModel& official, const losses::GivenNegatives& negatives, const std::vector<std::string>& overrides = {});

/// Model and criterion of that file with the official weights and, where it has momentum encoders and queues, the official ones; the batch of the scenario. All of the type and on the device of `where`.
OfficialRun prepare_reference(const OfficialModel& official, const Tensors& scenario, const at::TensorOptions& where, const std::vector<std::string>& overrides = {});

}  // namespace fgvl::test
