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
