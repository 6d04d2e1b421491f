#include "fgvl/data/data_config.hpp"

#include <algorithm>

#include <absl/strings/str_cat.h>

namespace fgvl::data {
namespace {

absl::StatusOr<DatasetPtr> opened(const DatasetChoice& choice, const DatasetContext& context) {
  absl::StatusOr<DatasetPtr> dataset = choice.make(context);
  if (!dataset.ok()) return dataset.status();
  if ((*dataset)->size() == 0) return with_exit_code(absl::NotFoundError(absl::StrCat(context.root, ": this split of the data has no record")), ExitCode::kData);
  return dataset;
}

/// A tokenizer that fits what the streams write.
absl::StatusOr<TextPipelinePtr> pipeline_of(absl::StatusOr<TokenizerPtr> tokenizer, const DataConfig& config, const std::vector<Stream>& streams) {
  if (!tokenizer.ok()) return annotate(tokenizer.status(), "data.tokenizer");
  for (const Stream& stream : streams) {
    if (stream.sample.position_tokens && !(*tokenizer)->has_positions()) {
      return absl::InvalidArgumentError(absl::StrCat("data.streams.", stream.name, ".position_tokens: the vocabulary has no position tokens; set data.tokenizer.options.position_tokens: true"));
    }
  }
  return std::make_shared<TextPipeline>(std::move(*tokenizer), config.tokenizer);
}

}  // namespace

void visit_fields(config::Visitor& visitor, StreamConfig& config) {
  visitor("weight", config.weight, "of this stream in the mixture, over optimizer steps; while it is 0 nothing is read from it", config::kNonNegative);
  visitor("dataset", config.dataset, "its own dataset; no type: the one of the data section");
  visitor("root", config.root, "folder of its own dataset; empty: data.root");
  visit_fields(visitor, config.sample);
}

void visit_fields(config::Visitor& visitor, DataConfig& config) {
  visitor("root", config.root, "folder of the data");
  visitor("split", config.split, "which part is used: train and evaluation read train and held_out; evaluation may read all");
  visitor("dataset", config.dataset, "format of the data");
  visitor("image", config.image, "what the model sees of a picture");
  visitor("tokenizer", config.tokenizer, "from texts to tokens");
  visitor("labels", config.labels, "what is known of texts beyond the records that bear them, for region_label_contrastive");
  visitor("batch_size", config.loader.batch_size, "images a batch", {1, 1e6});
  visitor("workers", config.loader.workers, "loader threads; batches do not depend on it; 0: none", {0, 1024});
  visitor("prefetch", config.loader.prefetch, "batches made ahead", {1, 1024});
  visitor("shuffle", config.loader.shuffle, "anew every epoch");
  visitor("mix", config.loader.mix, "batches: each from one stream, drawn by weight; rows: every batch by quota from all");
  visitor("max_skipped_fraction", config.loader.max_skipped_fraction, "of the records seen; above it the run stops with exit code 3", config::kFraction);
  visitor.entries("streams", config.streams, StreamConfig(config.datasets), "sources of samples");
}

absl::StatusOr<DatasetPtr> open_data(const DataConfig& config, Split split) { return opened(config.dataset, {config.root, split}); }

absl::StatusOr<std::vector<Stream>> open_streams(const DataConfig& config, Split split) {
  std::vector<Stream> streams;
  std::vector<std::pair<std::string, StreamConfig>> wanted = config.streams;
  if (wanted.empty()) wanted.emplace_back("all", StreamConfig(config.datasets));
  DatasetPtr shared;
  for (const auto& [name, stream] : wanted) {
    DatasetPtr dataset = shared;
    if (!stream.dataset.empty()) {
      FGVL_ASSIGN_OR_RETURN(dataset, opened(stream.dataset, {stream.root.empty() ? config.root : stream.root, split}));
    } else if (!dataset) {
      FGVL_ASSIGN_OR_RETURN(shared, open_data(config, split));
      dataset = shared;
    }
    streams.push_back({name, dataset, stream.weight, stream.sample});
  }
  return streams;
}

absl::StatusOr<TextPipelinePtr> make_text_pipeline(const DataConfig& config, const std::vector<Stream>& streams) {
  if (!config.tokenizer.vocabulary.empty()) {
    absl::StatusOr<TokenizerPtr> tokenizer = open_tokenizer(config.tokenizer);
    if (!tokenizer.ok()) return with_exit_code(annotate(tokenizer.status(), "data.tokenizer"), ExitCode::kData);
    return pipeline_of(std::move(tokenizer), config, streams);
  }
  std::vector<std::string> prepared;
  std::vector<const Dataset*> read;
  for (const Stream& stream : streams) {
    if (std::find(read.begin(), read.end(), stream.dataset.get()) != read.end()) continue;
    read.push_back(stream.dataset.get());
    FGVL_ASSIGN_OR_RETURN(const std::vector<std::string> texts, stream.dataset->texts());
    for (const std::string& text : texts) {
      if (const auto caption = prepare_caption(text, config.tokenizer.max_words, config.tokenizer.prepare); caption.ok()) prepared.push_back(*caption);
    }
  }
  FGVL_ASSIGN_OR_RETURN(const std::vector<std::string> labels, label_texts(config.labels));
  for (const std::string& text : labels) {
    if (const auto caption = prepare_caption(text, config.tokenizer.max_words, config.tokenizer.prepare); caption.ok()) prepared.push_back(*caption);
  }
  return pipeline_of(open_tokenizer(config.tokenizer, build_vocabulary(prepared)), config, streams);
}

std::vector<std::string> stream_names(const DataConfig& config) {
  std::vector<std::string> names;
  for (const auto& [name, stream] : config.streams) names.push_back(name);
  if (names.empty()) names.emplace_back("all");
  return names;
}

}  // namespace fgvl::data
