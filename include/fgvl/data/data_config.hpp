#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fgvl/data/datasets.hpp"
#include "fgvl/data/labels.hpp"
#include "fgvl/data/loader.hpp"
#include "fgvl/data/text_pipeline.hpp"

namespace fgvl::data {

using DatasetChoice = Choice<absl::StatusOr<DatasetPtr>, DatasetContext>;

struct StreamConfig {
  explicit StreamConfig(std::shared_ptr<const DatasetRegistry> registry) : dataset(std::move(registry), "", /*required=*/false) {}

  Schedule weight = 1.0;                   ///< over optimizer steps
  DatasetChoice dataset;                   ///< empty: the one of the data section
  std::string root{};                      ///< of that dataset; empty: the data section's
  SampleOptions sample{};
};
void visit_fields(config::Visitor& visitor, StreamConfig& config);

/// The `data:` section.
struct DataConfig {
  explicit DataConfig(std::shared_ptr<const DatasetRegistry> registry = builtin_datasets()) : datasets(registry), dataset(registry, "synthetic") {}

  std::shared_ptr<const DatasetRegistry> datasets;
  std::string root{};
  Split split = Split::kTrain;
  DatasetChoice dataset;
  ImageOptions image{};
  TextOptions tokenizer{};
  LabelOptions labels{};
  LoaderOptions loader{};
  std::vector<std::pair<std::string, StreamConfig>> streams{};
};
void visit_fields(config::Visitor& visitor, DataConfig& config);

/// The data section's own dataset, in `split`.
absl::StatusOr<DatasetPtr> open_data(const DataConfig& config, Split split);
/// Every stream's dataset, opened; a section without streams has one, `all`, with the default options.
absl::StatusOr<std::vector<Stream>> open_streams(const DataConfig& config, Split split);
/// From the vocabulary file, or from the words of the streams' texts and of the labels.
absl::StatusOr<TextPipelinePtr> make_text_pipeline(const DataConfig& config, const std::vector<Stream>& streams);
std::vector<std::string> stream_names(const DataConfig& config);

}  // namespace fgvl::data
