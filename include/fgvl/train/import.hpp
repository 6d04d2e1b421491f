#pragma once
#include <string>
#include <vector>

#include "fgvl/core/checkpoint_file.hpp"
#include "fgvl/models/deduce.hpp"
#include "fgvl/models/name_map.hpp"
#include "fgvl/train/run_config.hpp"

namespace fgvl::train {

/// A file of weights as a run of this library: the configuration that such a run would have.
struct Recognised {
  const models::NameMap* family = nullptr;  ///< null: its names belong to no known family; then there is nothing else
  models::Deduced model{};                  ///< empty where the family's names are not translated
  std::vector<models::Setting> settings{};  ///< of `model`, then the `data` section of the family: picture size, normalisation, text preparation
};
/// See models::deduce for what is read and what is assumed.
Recognised recognise(const CheckpointFile& file);

struct ImportOptions {
  std::string vocabulary{}, merges{};        ///< files of the tokenizer: official checkpoints have none of their own
  std::vector<std::string> overrides{};      ///< "key.sub=value" over what was deduced: any key of a configuration file
};

struct Imported {
  std::vector<models::Setting> settings{};   ///< with the overrides in their places
  std::string table{};                       ///< what became of every tensor, as init_from.txt of a run
};

/// Makes `folder` from the weights at `path` (whatever open_checkpoint reads): a checkpoint as one of a run, which eval::Inference::open and load_run take, with configuration, weights under
/// X-VLM's official names, tokenizer, init_from.txt and manifest. Written beside, synced and renamed; nothing that exists is replaced. Strict: every tensor must fit
/// (init_allow_missing and init_allow_unexpected among the overrides name exceptions).
/// Errors: InvalidArgument with exit code 2 for what the caller has to say (a setting that cannot be known, the vocabulary, a key) and for a folder that exists; exit code 4 for
/// weights that cannot be read, recognised or used.
absl::StatusOr<Imported> import_checkpoint(const std::string& path, const std::string& folder, const ImportOptions& options, const RunRegistries& registries = {});

}  // namespace fgvl::train
