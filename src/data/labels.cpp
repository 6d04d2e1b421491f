#include "fgvl/data/labels.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <span>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <torch/torch.h>

#include "fgvl/core/files.hpp"
#include "fgvl/data/sample.hpp"

namespace fgvl::data {
namespace {

absl::Status wrong(const std::string& message) { return absl::InvalidArgumentError(absl::StrCat("data.labels.", message)); }

/// The texts of `negatives` and of the lines of the file.
absl::StatusOr<std::vector<std::string>> vocabulary_of(const LabelOptions& options) {
  std::vector<std::string> labels = options.negatives;
  if (!options.negatives_file.empty()) {
    const absl::StatusOr<std::string> content = read_file(options.negatives_file);
    if (!content.ok()) return with_exit_code(annotate(content.status(), "data.labels.negatives_file"), ExitCode::kData);
    for (const absl::string_view line : absl::StrSplit(*content, absl::ByAnyChar("\r\n"), absl::SkipWhitespace())) labels.emplace_back(line);
  }
  return labels;
}

absl::StatusOr<std::string> prepared(const std::string& text, const char* key, const TextPipeline& texts) {
  absl::StatusOr<std::string> made = texts.prepare(text);
  if (!made.ok()) return wrong(absl::StrCat(key, ": \"", text, "\": ", made.status().message()));
  return made;
}

absl::Status add_vocabulary(const LabelOptions& options, const TextPipeline& texts, Labels& labels) {
  FGVL_ASSIGN_OR_RETURN(const std::vector<std::string> written, vocabulary_of(options));
  std::vector<std::int64_t> keys;
  std::vector<std::vector<std::int64_t>> ids;
  std::size_t longest = 1;
  for (const std::string& label : written) {
    FGVL_ASSIGN_OR_RETURN(const std::string text, prepared(label, "negatives", texts));
    if (std::find(keys.begin(), keys.end(), text_key(text)) != keys.end()) continue;
    keys.push_back(text_key(text));
    ids.push_back(texts.encode(text));
    longest = std::max(longest, ids.back().size());
  }
  if (keys.empty()) return absl::OkStatus();
  const auto count = static_cast<std::int64_t>(keys.size()), tokens = static_cast<std::int64_t>(longest);
  labels.key = torch::tensor(keys, torch::kLong);
  labels.ids = at::full({count, tokens}, texts.tokenizer().pad_id(), at::kLong);
  labels.mask = at::zeros({count, tokens}, at::kBool);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::vector<std::int64_t>& one = ids[static_cast<std::size_t>(i)];
    std::copy(one.begin(), one.end(), labels.ids.mutable_data_ptr<std::int64_t>() + i * tokens);
    std::fill_n(labels.mask.mutable_data_ptr<bool>() + i * tokens, one.size(), true);
  }
  return absl::OkStatus();
}

absl::Status add_weights(const LabelOptions& options, const TextPipeline& texts, Labels& labels) {
  for (const auto& [label, written] : options.weights) {
    FGVL_ASSIGN_OR_RETURN(const std::string text, prepared(label, "weights", texts));
    float weight = 0;
    const auto parsed = std::from_chars(written.data(), written.data() + written.size(), weight);
    if (parsed.ec != std::errc() || parsed.ptr != written.data() + written.size() || !std::isfinite(weight) || weight < 0) {
      return wrong(absl::StrCat("weights: \"", label, "\": expected a number of at least 0, got \"", written, "\""));
    }
    labels.weight_of[text_key(text)] = weight;
  }
  labels.weighted = !options.weights.empty();
  return absl::OkStatus();
}

/// How often regions of the streams bear each text: a region with n texts, of which one is drawn a visit, counts 1 / n for each. By prepared text.
absl::StatusOr<std::unordered_map<std::int64_t, double>> frequencies(const std::vector<Stream>& streams, const TextPipeline& texts) {
  std::unordered_map<std::int64_t, double> counts;
  for (const Stream& stream : streams) {
    if (stream.sample.max_regions == 0) continue;
    for (std::int64_t index = 0; index < stream.dataset->size(); ++index) {
      const absl::StatusOr<Record> record = stream.dataset->get(index);
      if (!record.ok()) continue;  // the loader skips and counts it
      for (const Region& region : record->regions) {
        const std::span<const std::string> borne = region_texts(region, stream.sample);
        for (const std::string& text : borne) {
          if (const auto made = texts.prepare(text); made.ok()) counts[text_key(*made)] += 1.0 / static_cast<double>(borne.size());
        }
      }
    }
  }
  return counts;
}

absl::Status add_inverse_frequencies(const TextPipeline& texts, const std::vector<Stream>& streams, Labels& labels) {
  FGVL_ASSIGN_OR_RETURN(const auto counts, frequencies(streams, texts));
  double total = 0;
  for (const auto& [key, count] : counts) total += count;
  // total / (texts * count): over all regions 1 on average, and every text as heavy as any other.
  for (const auto& [key, count] : counts) labels.weight_of[key] = static_cast<float>(total / (static_cast<double>(counts.size()) * count));
  labels.weighted = true;
  return absl::OkStatus();
}

}  // namespace

void visit_fields(config::Visitor& visitor, LabelOptions& options) {
  visitor("negatives", options.negatives, "labels that regions are told from in every batch, whether or not a region of it bears them");
  visitor("negatives_file", options.negatives_file, "file of further ones, one a line");
  visitor("parents", options.parents, "label -> a label that is true of whatever it is true of: {truck: vehicle}; chains are followed");
  visitor("weights", options.weights, "label -> how much it counts, 1 where it is not named");
  visitor("inverse_frequency", options.inverse_frequency, "texts count in inverse proportion to how often regions bear them; reads every record once");
  visitor.check(options.weights.empty() || !options.inverse_frequency, "weights, inverse_frequency: only one of them can say what texts count");
}

void Labels::add_to(RegionBatch& batch) const {
  batch.label_ids = ids;
  batch.label_mask = mask;
  batch.label_key = key;
  batch.implied_keys = implied_keys;
  if (!weighted) return;
  batch.text_weight = at::ones({batch.text_count()}, at::kFloat);
  const std::int64_t* keys = batch.text_key.const_data_ptr<std::int64_t>();
  for (std::int64_t row = 0; row < batch.text_count(); ++row) {
    if (const auto known = weight_of.find(keys[row]); known != weight_of.end()) batch.text_weight.mutable_data_ptr<float>()[row] = known->second;
  }
}

absl::StatusOr<std::vector<std::string>> label_texts(const LabelOptions& options) {
  FGVL_ASSIGN_OR_RETURN(std::vector<std::string> texts, vocabulary_of(options));
  for (const auto& [child, parent] : options.parents) texts.insert(texts.end(), {child, parent});
  return texts;
}

absl::StatusOr<Implications> implied_texts(const LabelOptions& options, const TextPipeline& texts) {
  std::unordered_map<std::string, std::string> parent_of;
  std::vector<std::string> children;
  for (const auto& [child, parent] : options.parents) {
    FGVL_ASSIGN_OR_RETURN(const std::string from, prepared(child, "parents", texts));
    FGVL_ASSIGN_OR_RETURN(const std::string to, prepared(parent, "parents", texts));
    const auto [known, added] = parent_of.emplace(from, to);
    if (!added && known->second != to) return wrong(absl::StrCat("parents: \"", from, "\" has two: \"", known->second, "\" and \"", to, "\""));
    if (added) children.push_back(from);
  }
  Implications pairs;
  for (const std::string& child : children) {
    std::vector<std::string> way = {child};
    for (auto parent = parent_of.find(child); parent != parent_of.end(); parent = parent_of.find(way.back())) {
      const bool seen = std::find(way.begin(), way.end(), parent->second) != way.end();
      way.push_back(parent->second);
      if (seen) return wrong(absl::StrCat("parents: ", absl::StrJoin(way, " -> "), " leads back to where it was"));
      pairs.emplace_back(child, parent->second);
    }
  }
  return pairs;
}

absl::StatusOr<LabelsPtr> make_labels(const LabelOptions& options, const TextPipeline& texts, const std::vector<Stream>& streams) {
  if (!options.weights.empty() && options.inverse_frequency) return wrong("weights, inverse_frequency: only one of them can say what texts count");
  auto labels = std::make_shared<Labels>();
  FGVL_RETURN_IF_ERROR(add_vocabulary(options, texts, *labels));
  FGVL_ASSIGN_OR_RETURN(labels->implied, implied_texts(options, texts));
  if (!labels->implied.empty()) {
    std::vector<std::int64_t> keys;
    for (const auto& [text, also] : labels->implied) keys.insert(keys.end(), {text_key(text), text_key(also)});
    labels->implied_keys = torch::tensor(keys, torch::kLong).view({-1, 2});
  }
  FGVL_RETURN_IF_ERROR(add_weights(options, texts, *labels));
  if (options.inverse_frequency) FGVL_RETURN_IF_ERROR(add_inverse_frequencies(texts, streams, *labels));
  if (!labels->key.defined() && !labels->implied_keys.defined() && !labels->weighted) return LabelsPtr();
  return labels;
}

}  // namespace fgvl::data
