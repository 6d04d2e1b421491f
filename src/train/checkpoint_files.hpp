#pragma once
#include <map>
#include <string>

#include "fgvl/core/safetensors.hpp"
#include "fgvl/train/checkpoint.hpp"

namespace fgvl::train {

/// Everything of a run that a checkpoint holds, file by file.
using CheckpointFiles = std::map<std::string, std::string>;

/// Writes `files` and their manifest to `folder`: into a folder beside, synced, then renamed. A folder of that name must be empty or absent (exit code 4).
absl::Status write_checkpoint_folder(const std::string& folder, std::int64_t step, const CheckpointFiles& files);

/// Writes a run's checkpoint, `checkpoints_folder`/step_<step>, in place of one that was there. Keeps this one and the newest others, `keep` in all.
absl::Status write_checkpoint(const std::string& checkpoints_folder, std::int64_t step, const CheckpointFiles& files, std::int64_t keep);

/// Removes checkpoints of later steps than `step`, and what an interrupted write left: a run that goes on from `step` has none of them.
absl::Status remove_checkpoints_after(const std::string& checkpoints_folder, std::int64_t step);

/// Weights of model and criterion by our names ("model.*", "losses.*").
NamedTensors run_weights(const models::Model& model, const losses::Criterion& criterion);
/// The same by their names in a checkpoint: X-VLM's official ones where they have one.
NamedTensors checkpoint_weights(const models::Model& model, const losses::Criterion& criterion);

/// Loads what checkpoint_weights saved; InvalidArgument (exit code 4) when it belongs to another model.
absl::Status load_weights(const std::string& checkpoint, models::Model& model, losses::Criterion& criterion);

/// The number in "step_<number>", or -1.
std::int64_t checkpoint_step(const std::string& folder);

}  // namespace fgvl::train
