#pragma once
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <torch/nn/module.h>

#include "fgvl/core/tensor.hpp"
#include "fgvl/models/name_map.hpp"

namespace fgvl::models {

/// Every parameter and buffer of `module` by name, in a fixed order.
std::vector<std::pair<std::string, Tensor>> named_state(const torch::nn::Module& module, const std::string& prefix);

/// A checkpoint under the names of another family (one of the two is "fgvl", or both are the same).
struct Translated {
  std::vector<std::pair<std::string, Tensor>> tensors{};
  std::vector<std::string> problems{};  ///< names without a rule, two tensors for one name, tied names with different values; empty: all went well
  std::vector<std::string> left_out{};  ///< state of the objective (NameMap::objective_state, is_objective_state()) that the other family does not have
};
/// Second names of tied tensors are left out of ours and put back into official ones, so that there and back gives what was there.
/// What one family keeps in one tensor and another in several or transposed (CLIP's in_proj_weight) is cut into views, and joined into new tensors on the way back. Derived tables without a
/// name in the other family are left out.
Translated translate(const std::vector<std::pair<std::string, Tensor>>& checkpoint, const NameMap& from, const NameMap& to);

/// What became of one tensor when weights were loaded.
enum class LoadOutcome {
  kLoaded,
  kReshaped,           ///< loaded after LoadOptions::reshape (interpolated)
  kTied,               ///< a second name of a tensor that was loaded
  kDerived,            ///< not a weight: follows from the model's sizes
  kNotNeeded,          ///< state of the official objective (NameMap::objective_state) that the model does not keep: momentum encoders, queues
  kStarted,            ///< state of our objective (is_objective_state()) that starts anew: momentum copies with the weights, queues as they were made (LoadOptions::new_objective)
  kMissing,            ///< the model has it, the checkpoint does not
  kMissingAllowed,
  kUnexpected,         ///< the checkpoint has it, the model does not
  kUnexpectedAllowed,
  kUnfit,              ///< another shape or kind of number, or a tied name with other values
};

struct LoadRow {
  LoadOutcome outcome = LoadOutcome::kLoaded;
  std::string name{};      ///< ours; "" for what only the checkpoint has
  std::string official{};  ///< in the checkpoint; "" for what only the model has
  std::string note{};      ///< shapes, and why it does not fit
};

/// One row for every tensor of the model and of the checkpoint.
struct LoadReport {
  std::vector<LoadRow> rows{};
  std::int64_t count(LoadOutcome outcome) const;
  /// Nothing is missing, unexpected or unfit except what was allowed. Otherwise the model was not changed.
  bool ok() const;
  /// All rows as text, what did not fit first, and a line of counts.
  std::string table() const;
  /// The first rows that did not fit, as lines of a message.
  std::string problems() const;
};

struct LoadOptions {
  const NameMap* names = nullptr;               ///< of the checkpoint; null: its names are ours
  std::int64_t text_layers = 0;                 ///< layers of the text encoder before fusion
  /// A new run starts from a checkpoint of another: momentum copies and queues that it lacks, and queues of another size, are not missing but start anew, and those that only it has are not needed.
  bool new_objective = false;
  std::vector<std::string> allow_missing{};     ///< globs of our names or official ones
  std::vector<std::string> allow_unexpected{};  ///< globs of names in the checkpoint
  /// Called for a tensor whose shape differs from the model's: gives one of the wanted shape (position embeddings and bias tables of another image size), or an
  /// undefined one where that is not possible.
  std::function<Tensor(const std::string& name, const Tensor& stored, at::IntArrayRef wanted)> reshape{};
  /// Called when a stored tensor was copied and is not needed any more (CheckpointFile::release).
  std::function<void(const Tensor&)> done{};
};

/// For LoadOptions::reshape: position embeddings and relative position bias tables of a vision encoder for another image or window size, by interpolate.hpp; undefined
/// for every other tensor, and where widths or heads differ.
Tensor fit_position_table(const std::string& name, const Tensor& stored, at::IntArrayRef wanted);

/// Copies a checkpoint's tensors into `targets` (as named_state gives them, several modules in one list), strictly: either everything fits or nothing is changed.
/// Floating-point numbers are converted between each other, never to or from integers.
LoadReport load_named(const std::vector<std::pair<std::string, Tensor>>& targets, const std::vector<std::pair<std::string, Tensor>>& checkpoint, const LoadOptions& options = {});

}  // namespace fgvl::models
