#include "fgvl/eval/inference.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <unordered_map>

#include <absl/strings/str_cat.h>
#include <torch/torch.h>

#include "eval/find_term.hpp"
#include "eval/pair_batch.hpp"
#include "fgvl/core/device.hpp"
#include "fgvl/data/sample.hpp"
#include "fgvl/eval/probes.hpp"
#include "fgvl/eval/query.hpp"
#include "fgvl/losses/masked_language.hpp"
#include "fgvl/losses/matching.hpp"
#include "fgvl/losses/temperature.hpp"
#include "train/inference_scope.hpp"

namespace fgvl::eval {
namespace {

std::vector<std::int64_t> to_vector(const Tensor& whole_numbers) {
  const Tensor host = whole_numbers.to(at::kCPU, at::kLong).contiguous();
  return {host.const_data_ptr<std::int64_t>(), host.const_data_ptr<std::int64_t>() + host.numel()};
}

/// Distinct values in order of first appearance, and the place among them of each.
struct Distinct {
  std::vector<std::int64_t> values{}, place{};
  void add(std::int64_t value) {
    const auto [entry, is_new] = places_.emplace(value, static_cast<std::int64_t>(values.size()));
    if (is_new) values.push_back(value);
    place.push_back(entry->second);
  }
  bool has(std::int64_t value) const { return places_.count(value) > 0; }

 private:
  std::unordered_map<std::int64_t, std::int64_t> places_{};
};

}  // namespace

Inference::Inference(const train::ProbeInput& model, const data::TextPipeline& pipeline, const data::ImageOptions& image, const InferenceOptions& options)
    : model_(model), pipeline_(pipeline), image_(image), options_(options) {
  TORCH_CHECK(options.batch_size > 0, "[InferenceOptions] batch_size: expected a positive number, got ", options.batch_size);
}

absl::Status Inference::find_terms() {
  FGVL_ASSIGN_OR_RETURN(temperature_, find_term<losses::TemperatureSource>(model_.criterion, options_.contrast, "contrastive"));
  FGVL_ASSIGN_OR_RETURN(scorer_, find_term<losses::PairScorer>(model_.criterion, options_.matching, "matching"));
  FGVL_ASSIGN_OR_RETURN(words_, find_term<losses::WordPredictor>(model_.criterion, options_.masked_language, "masked_language"));
  return absl::OkStatus();
}

absl::StatusOr<Inference> Inference::make(const train::ProbeInput& model, const data::TextPipeline& pipeline, const data::ImageOptions& image, const InferenceOptions& options) {
  Inference inference(model, pipeline, image, options);
  FGVL_RETURN_IF_ERROR(inference.find_terms());
  return inference;
}

absl::StatusOr<Inference> Inference::open(const std::string& path, const InferenceOptions& options, const std::vector<std::string>& overrides, const std::optional<train::RunRegistries>& registries) {
  train::RunRegistries ours;
  ours.probes = builtin_probes();
  FGVL_ASSIGN_OR_RETURN(train::LoadedRun loaded, train::load_run(path, registries.value_or(ours), overrides));
  const auto run = std::make_shared<train::LoadedRun>(std::move(loaded));
  const at::Device device = parse_device(run->config.device);
  run->model->to(device);
  run->criterion->to(device);
  FGVL_ASSIGN_OR_RETURN(Inference inference, make({*run->model, *run->criterion, device}, *run->texts, run->config.data.image, options));
  inference.run_ = run;
  return inference;
}

std::optional<double> Inference::temperature() const {
  if (temperature_ == nullptr) return std::nullopt;
  return temperature_->divisor().item<double>();
}

EncodedImages Inference::encode(std::int64_t capacity, const std::function<Tensor()>& next) const {
  const train::InferenceScope scope(model_.model, model_.criterion);
  const Tensor no_text = at::zeros({0}, at::TensorOptions(model_.device).dtype(at::kLong)), no_ids = no_text.view({0, 1});
  EncodedImages encoded;
  ImageFeatures& all = encoded.features;
  std::int64_t count = 0;
  std::vector<Tensor> inputs;
  const auto flush = [&] {
    if (inputs.empty()) return;
    RegionBatch batch = whole_image_batch(no_ids, no_ids.to(at::kBool), no_text);
    batch.images = at::stack(inputs).to(model_.device);
    const auto pass = model_.model.begin(batch);
    const ImageFeatures& image = pass->image();
    // Made once for all, so that joining batches never holds the encodings twice.
    if (!all.embeds.defined()) {
      all.embeds = at::empty({capacity, image.embeds.size(1), image.embeds.size(2)}, image.embeds.options());
      all.features = at::empty({capacity, image.features.size(1)}, image.features.options());
    }
    const std::int64_t end = count + batch.images.size(0);
    all.embeds.slice(0, count, end).copy_(image.embeds);
    all.features.slice(0, count, end).copy_(image.features);
    count = end;
    inputs.clear();
  };
  for (Tensor pixels = next(); pixels.defined(); pixels = next()) {
    inputs.push_back(pixels);
    if (static_cast<std::int64_t>(inputs.size()) == options_.batch_size) flush();
  }
  flush();
  if (all.embeds.defined()) all = {all.embeds.slice(0, 0, count), all.features.slice(0, 0, count)};
  return encoded;
}

EncodedImages Inference::encode_images(const std::vector<data::Image>& images) const {
  std::size_t at = 0;
  return encode(static_cast<std::int64_t>(images.size()), [&] { return at < images.size() ? data::model_input(images[at++], image_) : Tensor(); });
}

ReadImages Inference::encode_files(const std::vector<std::string>& paths) const {
  ReadImages read;
  std::size_t at = 0;
  read.encoded = encode(static_cast<std::int64_t>(paths.size()), [&] {
    for (; at < paths.size(); ++at) {
      const absl::StatusOr<data::Image> image = data::read_image(paths[at]);
      if (image.ok()) {
        read.paths.push_back(at++);
        return data::model_input(*image, image_);
      }
      read.unreadable.push_back({paths[at], std::string(image.status().message())});
    }
    return Tensor();
  });
  return read;
}

absl::StatusOr<EncodedTexts> Inference::encode_texts(const std::vector<std::string>& texts) const {
  if (texts.empty()) return absl::InvalidArgumentError("no text was given");
  std::vector<QueryText> queries;
  for (const std::string& text : texts) {
    const absl::StatusOr<std::string> prepared = pipeline_.prepare(text);
    if (!prepared.ok()) return annotate(prepared.status(), absl::StrCat("text \"", text, "\""));
    queries.push_back({.image = 0, .text = text});
  }
  FGVL_ASSIGN_OR_RETURN(RegionBatch batch, make_query(at::zeros({1, 3, 1, 1}), queries, pipeline_));
  const std::vector<std::int64_t> unknown = to_vector((batch.text_ids == pipeline_.tokenizer().unknown_id()).any(1));
  batch = batch.to(model_.device);
  EncodedTexts encoded{texts, batch.text_ids, {{}, {}, batch.text_mask}, {unknown.begin(), unknown.end()}};
  TextFeatures& all = encoded.features;
  const std::int64_t count = batch.text_count(), longest = batch.text_ids.size(1);
  const train::InferenceScope scope(model_.model, model_.criterion);
  for (std::int64_t begin = 0; begin < count; begin += options_.batch_size) {
    const std::int64_t end = std::min(count, begin + options_.batch_size);
    Tensor mask = batch.text_mask.slice(0, begin, end);
    const std::int64_t length = mask.sum(1).max().item<std::int64_t>();
    mask = mask.slice(1, 0, length);
    const auto pass = model_.model.begin(whole_image_batch(batch.text_ids.slice(0, begin, end).slice(1, 0, length), mask, batch.text_to_image.slice(0, begin, end)));
    const TextFeatures& text = pass->text();
    if (!all.embeds.defined()) {
      all.embeds = at::zeros({count, longest, text.embeds.size(2)}, text.embeds.options());
      all.features = at::empty({count, text.features.size(1)}, text.features.options());
    }
    all.embeds.slice(0, begin, end).slice(1, 0, length).copy_(text.embeds);
    all.features.slice(0, begin, end).copy_(text.features);
  }
  return encoded;
}

Tensor Inference::match(const EncodedImages& images, const EncodedTexts& texts, const Tensor& pairs) const {
  TORCH_CHECK(scorer_ != nullptr, "[Inference::match] this model has no matching term");
  TORCH_CHECK(pairs.dim() == 2 && pairs.size(1) == 2 && pairs.scalar_type() == at::kLong, "[Inference::match] pairs: expected [K, 2] int64, got ", pairs.scalar_type(), " ", pairs.sizes());
  const std::vector<std::int64_t> image = to_vector(pairs.select(1, 0)), text = to_vector(pairs.select(1, 1));
  const auto inside = [](const std::vector<std::int64_t>& index, std::int64_t size) { return std::all_of(index.begin(), index.end(), [&](std::int64_t i) { return i >= 0 && i < size; }); };
  TORCH_CHECK(inside(image, images.size()) && inside(text, texts.size()), "[Inference::match] pairs: expected (picture, text) in [0, ", images.size(), ") and [0, ", texts.size(), ")");
  std::vector<std::size_t> order(image.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return image[a] < image[b]; });

  const train::InferenceScope scope(model_.model, model_.criterion);
  const auto on_device = [&](const std::vector<std::int64_t>& values) { return torch::tensor(values, torch::kLong).to(model_.device); };
  const Tensor result = at::empty({pairs.size(0)}, at::kDouble);
  double* probability = result.mutable_data_ptr<double>();
  for (std::size_t begin = 0, end = 0; begin < order.size(); begin = end) {
    // All pairs of up to batch_size pictures share one pass: keys and values are projected once a picture.
    Distinct pictures, sentences;
    for (; end < order.size(); ++end) {
      const std::size_t pair = order[end];
      if (!pictures.has(image[pair]) && static_cast<std::int64_t>(pictures.values.size()) == options_.batch_size) break;
      pictures.add(image[pair]);
      sentences.add(text[pair]);
    }
    const Tensor picture_rows = on_device(pictures.values), text_index = on_device(sentences.place), visual_index = on_device(pictures.place);
    const TextRows rows = text_rows(texts, on_device(sentences.values), at::zeros({static_cast<std::int64_t>(sentences.values.size())}, picture_rows.options()));
    const ImageFeatures given{images.features.embeds.index_select(0, picture_rows), images.features.features.index_select(0, picture_rows)};
    const auto pass = model_.model.begin(rows.batch, {.given = {given, rows.given}});
    const auto count = static_cast<std::int64_t>(end - begin);
    for (std::int64_t first = 0; first < count; first += options_.batch_size) {
      const std::int64_t last = std::min(count, first + options_.batch_size);
      const Tensor fused = pass->fuse({.text_index = text_index.slice(0, first, last), .visual = VisualInput::kImage, .visual_index = visual_index.slice(0, first, last),
                                       .positions = at::zeros({last - first, 1}, text_index.options())});
      const Tensor found = match_probability(scorer_->pair_logits(fused.select(1, 0))).contiguous();
      for (std::int64_t i = first; i < last; ++i) probability[order[begin + static_cast<std::size_t>(i)]] = found.const_data_ptr<double>()[i - first];
    }
  }
  return result;
}

Scores Inference::score(const EncodedImages& images, const EncodedTexts& texts) const {
  Scores scores;
  const std::int64_t rows = images.size(), columns = texts.size();
  const train::InferenceScope scope(model_.model, model_.criterion);
  if (has_contrast()) {
    scores.itc = rows == 0 ? at::empty({0, columns}, at::kDouble) : at::matmul(images.features.features, texts.features.features.t()).to(at::kCPU, at::kDouble);
    scores.itc_share = (scores.itc / *temperature()).softmax(1);
  }
  if (has_matching()) {
    const Tensor pairs = at::stack({at::arange(rows, at::kLong).repeat_interleave(columns), at::arange(columns, at::kLong).repeat({rows})}, 1);
    scores.itm = match(images, texts, pairs).view({rows, columns});
  }
  return scores;
}

absl::StatusOr<Ranking> Inference::rank(const EncodedImages& images, const EncodedTexts& texts, const RankOptions& options, bool of_images) const {
  TORCH_CHECK(options.top_k >= 0, "[Inference::rank] top_k: expected a number of at least 0, got ", options.top_k);
  const std::int64_t queries = of_images ? texts.size() : images.size(), items = of_images ? images.size() : texts.size();
  const std::int64_t kept = options.top_k == 0 ? items : std::min(options.top_k, items);
  if (!has_contrast() && !has_matching()) return absl::InvalidArgumentError("this run has neither a contrastive nor a matching loss: nothing to rank by");
  if (!has_contrast() && kept < items) {
    return absl::InvalidArgumentError(absl::StrCat("this run has no contrastive loss, by which the best ", kept, " of ", items, " could be chosen; keep all (top_k 0), so that every pair is fused"));
  }
  Ranking ranking(static_cast<std::size_t>(queries));
  if (queries == 0 || items == 0) return ranking;
  Tensor cosine;  // [queries, items]
  if (has_contrast()) {
    cosine = at::matmul(images.features.features, texts.features.features.t()).to(at::kCPU, at::kDouble);
    cosine = (of_images ? cosine.t() : cosine).contiguous();
  }
  std::vector<std::int64_t> pairs;
  for (std::int64_t query = 0; query < queries; ++query) {
    std::vector<Ranked>& places = ranking[static_cast<std::size_t>(query)];
    for (std::int64_t item = 0; item < items; ++item) {
      places.push_back({item, cosine.defined() ? std::optional(cosine.const_data_ptr<double>()[query * items + item]) : std::nullopt, {}});
    }
    // A number that is none comes last: comparing it would leave no order at all.
    const auto value = [](const std::optional<double>& score) { return score && !std::isnan(*score) ? *score : -std::numeric_limits<double>::infinity(); };
    std::stable_sort(places.begin(), places.end(), [&](const Ranked& a, const Ranked& b) { return value(a.itc) > value(b.itc); });
    places.resize(static_cast<std::size_t>(kept));
    for (const Ranked& place : places) pairs.insert(pairs.end(), {of_images ? place.index : query, of_images ? query : place.index});
  }
  if (!has_matching()) return ranking;
  const Tensor found = match(images, texts, torch::tensor(pairs, torch::kLong).view({-1, 2}));
  const double* itm = found.const_data_ptr<double>();
  for (std::vector<Ranked>& places : ranking) {
    for (Ranked& place : places) place.itm = *itm++;
    const auto value = [](const Ranked& place) { return std::isnan(*place.itm) ? -1.0 : *place.itm; };
    std::stable_sort(places.begin(), places.end(), [&](const Ranked& a, const Ranked& b) { return value(a) > value(b); });
  }
  return ranking;
}

absl::StatusOr<Ranking> Inference::rank_texts(const EncodedImages& images, const EncodedTexts& texts, const RankOptions& options) const { return rank(images, texts, options, false); }
absl::StatusOr<Ranking> Inference::rank_images(const EncodedImages& images, const EncodedTexts& texts, const RankOptions& options) const { return rank(images, texts, options, true); }

}  // namespace fgvl::eval
