#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fgvl/core/tensor.hpp"

namespace fgvl::models {

/// One line of a name map. Both sides are equal-length beginnings of names, or whole names where they do not end in a dot. `#` is a layer's number,
/// `*` the name that a user gave a loss.
struct NameRule {
  std::string ours{};              ///< "model.fusion_encoder.layer.#."
  std::string official{};          ///< "text_encoder.bert.encoder.layer.#."
  std::string term{};              ///< what `*` becomes when official names are translated to ours
  bool after_text_layers = false;  ///< official layer = our layer + number of text layers
  std::int64_t part = 0, parts = 1;  ///< ours is the part-th of `parts` equal slices of the official tensor along its first dimension: queries, keys and values of PyTorch's in_proj_weight
  bool transposed = false;         ///< the official matrix is ours transposed
};

/// A tensor of ours and where it lies among official ones; see NameRule.
struct NamedPart {
  std::string ours{}, official{};
  std::int64_t part = 0, parts = 1;
  bool transposed = false;
};

/// A second official name of one tensor, or of all whose names begin alike: patterns as in NameRule, with `#` for a layer's number. Checkpoints hold both; ours hold the first, `same_as`.
struct TiedName {
  std::string name{}, same_as{};
};

/// The names of one family of official checkpoints, as data: the one place that knows them.
struct NameMap {
  std::string family{};                 ///< "xvlm"
  std::string title{};                  ///< "X-VLM (zengyan-97/X-VLM)"
  std::vector<std::string> required{};  ///< globs; a checkpoint in which each fits some name is of this family
  std::vector<NameRule> rules{};        ///< empty: recognised, but its names are not translated
  std::vector<TiedName> ties{};
  std::vector<std::string> derived{};   ///< globs of official names: tables that follow from the model's sizes and are not weights
  std::vector<std::string> objective_state{};  ///< globs of official names: state of the official objective (momentum encoders, queues), which our models have only with model.momentum and queues of their own
  std::vector<std::pair<std::string, std::string>> endings{};  ///< (ours, official): ends of names that differ by whatever rule a name goes
  /// A text encoder alone. Its last layers start our fusion layers (their cross-attention is missing), and its first our text layers; one layer may serve both, as when X2-VLM makes
  /// 12 + 6 layers of 12.
  bool encoder_only = false;
};

/// Every known family, the more particular first.
const std::vector<NameMap>& name_maps();
/// Null when there is none.
const NameMap* find_name_map(const std::string& family);
/// The family of a checkpoint with these names; null when none fits.
const NameMap* recognise(const std::vector<std::string>& names);

/// Our name ("model.*", "losses.<term>.*", as in a checkpoint of this library) as an official one, and back; nothing where no rule fits.
/// `text_layers`: layers of the text encoder before fusion.
std::optional<std::string> to_official(const NameMap& map, const std::string& ours, std::int64_t text_layers);
/// Of an official tensor that holds several of ours, the first.
std::optional<std::string> to_ours(const NameMap& map, const std::string& official, std::int64_t text_layers);

/// The first name of the tensor of which `official` is a second one, by NameMap::ties; nothing where it is none.
std::optional<std::string> first_name(const NameMap& map, const std::string& official);
/// The second names of the tensor with the first name `official`.
std::vector<std::string> second_names(const NameMap& map, const std::string& official);

/// Where the official names have our tensor; nothing where no rule fits.
std::optional<NamedPart> part_of_ours(const NameMap& map, const std::string& ours, std::int64_t text_layers);
/// Our tensors that an official one holds, in order; empty where no rule fits.
std::vector<NamedPart> parts_of_official(const NameMap& map, const std::string& official, std::int64_t text_layers);

/// Whether one of our names is of what an objective keeps beside the weights: momentum copies ("model.momentum.*", "losses.<term>.momentum.*") and queues ("losses.<term>.queue.*").
bool is_objective_state(const std::string& ours);

/// The names of tensors or parameters, in order.
std::vector<std::string> names_of(const std::vector<std::pair<std::string, Tensor>>& tensors);

/// What a checkpoint of this library calls our parameters: X-VLM's official names; a name that X-VLM's models do not have, or that two of ours would share (two matching terms), stays ours.
std::vector<std::string> checkpoint_names(const std::vector<std::string>& ours);

/// The number of text layers before fusion, read off the names of a checkpoint, ours or official; 0 where it cannot be seen.
std::int64_t text_layers_of(const std::vector<std::string>& names);
/// The same for loading a checkpoint of `map`'s family with the names `official` into the parameters `ours`: an encoder alone does not say where fusion starts, the model does.
std::int64_t text_layers_of(const NameMap& map, const std::vector<std::string>& official, const std::vector<std::string>& ours);

/// The official X-VLM name of one of our parameters ("model.fusion_encoder.layer.0..." -> "text_encoder.bert.encoder.layer.6..."); a name that no rule knows
/// stays as it is.
std::string xvlm_name(const std::string& name, std::int64_t text_layers);

}  // namespace fgvl::models
