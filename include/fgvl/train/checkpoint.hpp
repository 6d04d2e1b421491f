#pragma once
#include <memory>
#include <string>

#include "fgvl/train/run_config.hpp"

namespace fgvl::train {

/// The newest checkpoint below `path` whose manifest holds: a checkpoint folder, or a run's. Damaged ones are passed over and named in `notes`.
/// NotFound (exit code 4) when there is none at all, DataLoss (exit code 4) when all are damaged.
absl::StatusOr<std::string> find_checkpoint(const std::string& path, std::vector<std::string>* notes = nullptr);

/// Sizes and hashes of every file against manifest.json.
absl::Status verify_checkpoint(const std::string& folder);

/// Starts `model` and `criterion` from other weights (RunConfig::init_from): X-VLM's official files or this library's, see open_checkpoint. Position tables of another image
/// size are interpolated. Strict: whatever is missing,
/// unexpected or unfit and not allowed by a glob is named, and nothing is changed (InvalidArgument, exit code 4). Returns the table of what became of every tensor.
struct InitFrom {
  std::string path{};
  std::vector<std::string> allow_missing{}, allow_unexpected{};  ///< globs of names, ours or official
};
absl::StatusOr<std::string> initialize_from(const InitFrom& from, models::Model& model, losses::Criterion& criterion);

/// A trained model with all that is needed to use it.
struct LoadedRun {
  std::string checkpoint;  ///< its folder
  std::int64_t step = 0;
  RunConfig config;
  data::TextPipelinePtr texts;
  models::ModelPtr model;
  std::shared_ptr<losses::Criterion> criterion;
};
/// `path`: a checkpoint's folder or a run's. `overrides`: "key.sub=value" on the saved configuration.
absl::StatusOr<LoadedRun> load_run(const std::string& path, const RunRegistries& registries, const std::vector<std::string>& overrides = {}, std::vector<std::string>* notes = nullptr);

}  // namespace fgvl::train
