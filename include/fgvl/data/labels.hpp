#pragma once
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "fgvl/core/batch.hpp"
#include "fgvl/core/status.hpp"
#include "fgvl/data/foils.hpp"
#include "fgvl/data/loader.hpp"
#include "fgvl/data/text_pipeline.hpp"

namespace fgvl::data {

/// The `data.labels` section: what is known of texts beyond the records that bear them, for region_label_contrastive. Texts are written as in the records and prepared like them.
struct LabelOptions {
  std::vector<std::string> negatives{};                           ///< labels that regions are told from in every batch, whether or not a region of it bears them
  std::string negatives_file{};                                   ///< further ones, one a line
  std::vector<std::pair<std::string, std::string>> parents{};     ///< label -> a label that is true of whatever it is true of: {truck: vehicle, vehicle: thing}; chains are followed. Foils keep to it as well
  std::vector<std::pair<std::string, std::string>> weights{};     ///< label -> how much it counts, a number of at least 0; labels that are not named count 1
  bool inverse_frequency = false;                                 ///< a text counts in inverse proportion to how often regions bear it, 1 on average over regions; reads every record once
};
void visit_fields(config::Visitor& visitor, LabelOptions& options);

/// What LabelOptions say, in the terms of batches. Immutable.
struct Labels {
  Tensor ids{}, mask{}, key{};  ///< RegionBatch::label_*; undefined: no vocabulary
  Tensor implied_keys{};        ///< RegionBatch::implied_keys; undefined: nothing is implied
  Implications implied{};       ///< the same pairs as texts
  bool weighted = false;
  std::unordered_map<std::int64_t, float> weight_of{};  ///< by text key; 1 where there is none

  /// Fills label_*, implied_keys and text_weight of a batch.
  void add_to(RegionBatch& batch) const;
};

/// Every text that the options name, to build a vocabulary from.
absl::StatusOr<std::vector<std::string>> label_texts(const LabelOptions& options);

/// Every label with each that `parents` make true of it. Fails as make_labels does.
absl::StatusOr<Implications> implied_texts(const LabelOptions& options, const TextPipeline& texts);

/// Null where the options say nothing. Fails, naming the key, for a file that cannot be read, a text that preparing leaves empty, a weight that is no number of at least 0, weights beside inverse_frequency, and parents
/// that lead back to where they started ("truck -> vehicle -> truck").
absl::StatusOr<LabelsPtr> make_labels(const LabelOptions& options, const TextPipeline& texts, const std::vector<Stream>& streams);

}  // namespace fgvl::data
