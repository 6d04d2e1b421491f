#pragma once
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch/torch.h>

#include "fgvl/losses/box_regression.hpp"
#include "fgvl/losses/contrastive.hpp"
#include "fgvl/losses/criterion.hpp"
#include "fgvl/losses/language_model.hpp"
#include "fgvl/losses/masked_language.hpp"
#include "fgvl/losses/matching.hpp"
#include "fgvl/losses/position_tokens.hpp"
#include "fgvl/losses/region_label_contrastive.hpp"
#include "fgvl/losses/sigmoid_contrastive.hpp"
#include "losses/batch_parts.hpp"
#include "losses/fake_pass.hpp"

namespace fgvl::test {

constexpr std::int64_t kEmbed = 8, kFirstPosition = 30, kWords = kFirstPosition + kPositionBins + 2;
constexpr FeatureSpec kSceneSpec{.fusion_width = kEmbed, .embed_dim = kEmbed, .vocab_size = kWords, .first_position_id = kFirstPosition, .has_decoder = true, .momentum = 0.995, .seed = 11};

/// A batch and what a fake pass says of it, in float64: leaves that losses send gradients to.
struct Scene {
  RegionBatch batch;
  Tensor visual{}, text{}, predicted{}, foils{}, labels{};  ///< [T, E], [T, E], [T, 4], [F, E], [K, E]
  Tensor momentum_visual{}, momentum_text{};                ///< [T, E] of the momentum encoders
  std::uint64_t seed = 1;                                   ///< of the pass

  std::vector<Tensor*> leaves() { return {&visual, &text, &predicted, &foils, &labels}; }
  std::unique_ptr<FakePass> pass(const CollectivePtr& ranks = make_single_process()) const {
    auto pass = std::make_unique<FakePass>(batch, visual, text);
    pass->predicted = predicted;
    pass->foils = foils;
    pass->label_text_.features = labels;
    pass->momentum_pass = std::make_shared<FakePass>(batch, momentum_visual, momentum_text);
    pass->momentum_pass->foils = foils;
    for (FakePass* one : {pass.get(), pass->momentum_pass.get()}) one->set_word_embedding(torch::arange(kWords * kEmbed, text.options()).sin().view({kWords, kEmbed}));
    pass->ranks = pass->momentum_pass->ranks = ranks;
    pass->seed = seed;
    return pass;
  }
};

struct SceneOptions {
  std::int64_t images = 4, max_captions = 2, max_regions = 4;  ///< of an image, drawn; an image has one text at least
  std::int64_t different_texts = 6;
  bool labels = true;  ///< also a vocabulary, what texts imply, and weights
};

/// Captions and regions about a few pictures; texts repeat, and a text's feature is a function of the text. Row `t` of streams 0 and 1.
inline Scene random_scene(std::uint64_t seed, const SceneOptions& options = {}) {
  Generator generator({.seed = seed, .purpose = "scene"});
  at::Generator tensors = generator.torch_generator(at::kCPU);
  Scene scene;
  std::vector<std::int64_t> image, key, region;
  const auto add = [&](std::int64_t of, bool is_region) {
    image.push_back(of);
    region.push_back(is_region);
    key.push_back(generator.uniform_int(1, options.different_texts));
  };
  for (std::int64_t i = 0; i < options.images; ++i) {
    const std::int64_t captions = generator.uniform_int(0, options.max_captions), regions = generator.uniform_int(captions == 0 && options.max_regions > 0 ? 1 : 0, options.max_regions);
    for (std::int64_t n = 0; n < std::max(captions, options.max_regions == 0 ? std::int64_t{1} : 0); ++n) add(i, false);
    for (std::int64_t n = 0; n < regions; ++n) add(i, true);
  }
  // A caption may stand before or after its image's regions.
  RegionBatch& batch = scene.batch = batch_of(image, key);
  const std::int64_t texts = batch.text_count();
  batch.images = torch::zeros({options.images, 3, 4, 4});
  batch.is_region = torch::tensor(region, torch::kLong).to(at::kBool);
  const Tensor random_boxes = torch::cat({torch::empty({texts, 2}).uniform_(0.3, 0.7, tensors), torch::empty({texts, 2}).uniform_(0.1, 0.6, tensors)}, 1);
  batch.boxes = torch::where(batch.is_region.unsqueeze(1), random_boxes, batch.boxes);
  batch.is_unambiguous = torch::rand({texts}, tensors) < 0.7;
  batch.text_stream = torch::randint(0, 2, {texts}, tensors, torch::kLong);
  batch.text_ids = torch::randint(0, kWords, {texts, 4}, tensors, torch::kLong);
  batch.text_mask = torch::arange(4).unsqueeze(0) < torch::randint(1, 5, {texts, 1}, tensors, torch::kLong);
  batch.masked_ids = batch.text_ids;
  batch.masked_positions = torch::randint(0, 4, {texts, 2}, tensors, torch::kLong);
  batch.masked_labels = torch::where(torch::rand({texts, 2}, tensors) < 0.6, torch::randint(0, kWords, {texts, 2}, tensors, torch::kLong), torch::full({texts, 2}, -100, torch::kLong));
  const std::int64_t foils = texts / 3;
  batch.foil_ids = torch::ones({foils, 4}, torch::kLong);
  batch.foil_mask = torch::ones({foils, 4}, torch::kBool);
  batch.foil_to_text = torch::randint(0, texts, {foils}, tensors, torch::kLong);
  const Tensor features = unit_rows(options.different_texts + 4, kEmbed, seed * 3 + 1);
  scene.visual = unit_rows(texts, kEmbed, seed * 3 + 2);
  scene.text = features.index_select(0, batch.text_key).clone();
  scene.predicted = torch::cat({torch::empty({texts, 2}, at::kDouble).uniform_(0.3, 0.7, tensors), torch::empty({texts, 2}, at::kDouble).uniform_(0.1, 0.6, tensors)}, 1);
  scene.foils = unit_rows(foils, kEmbed, seed * 3 + 3);
  scene.momentum_visual = unit_rows(texts, kEmbed, seed * 3 + 4);
  scene.momentum_text = scene.text;
  scene.seed = seed;
  scene.labels = torch::zeros({0, kEmbed}, at::kDouble);
  if (options.labels) {
    batch.label_key = torch::arange(options.different_texts - 1, options.different_texts + 3);  // two that rows may bear, two that none does
    batch.label_ids = torch::ones({4, 2}, torch::kLong);
    batch.label_mask = torch::ones({4, 2}, torch::kBool);
    scene.labels = features.index_select(0, batch.label_key).clone();
    batch.implied_keys = torch::tensor(std::vector<std::int64_t>{1, 2, 1, 3, 2, 3, 4, options.different_texts + 2}, torch::kLong).view({4, 2});
    batch.text_weight = (batch.text_key.to(at::kFloat) + 1) / 4;
  }
  return scene;
}

/// The scene of some of the images, as a rank of its own would have it.
inline Scene part_of(const Scene& whole, std::int64_t first, std::int64_t last) {
  const BatchPart part = part_of(whole.batch, first, last);
  const auto rows = [&](const Tensor& of) { return of.detach().index_select(0, part.texts).clone(); };
  const Tensor foils = at::isin(whole.batch.foil_to_text, part.texts).nonzero().squeeze(1);
  return {part.batch, rows(whole.visual), rows(whole.text), rows(whole.predicted), whole.foils.detach().index_select(0, foils).clone(), whole.labels.detach().clone(),
          rows(whole.momentum_visual), rows(whole.momentum_text), whole.seed};
}

/// The same texts in another order: row n of the result is row order[n].
inline Scene reordered(const Scene& scene, const Tensor& order) {
  Scene other = scene;
  for (Tensor RegionBatch::*field : {&RegionBatch::text_to_image, &RegionBatch::is_region, &RegionBatch::boxes, &RegionBatch::is_unambiguous, &RegionBatch::text_ids, &RegionBatch::text_mask,
                                     &RegionBatch::masked_ids, &RegionBatch::masked_positions, &RegionBatch::masked_labels, &RegionBatch::text_key, &RegionBatch::text_stream, &RegionBatch::text_weight}) {
    if ((scene.batch.*field).defined()) other.batch.*field = (scene.batch.*field).index_select(0, order);
  }
  other.batch.foil_to_text = order.argsort().index_select(0, scene.batch.foil_to_text);
  for (Tensor Scene::*field : {&Scene::visual, &Scene::text, &Scene::predicted, &Scene::momentum_visual, &Scene::momentum_text}) other.*field = (scene.*field).index_select(0, order);
  return other;
}

/// One objective under a name.
struct NamedTerm {
  std::string name;
  std::function<losses::LossTermPtr()> make;
  bool draws_among_own_rows = false;  ///< its negatives are random, and those of a rank its own: another split of the batch is another objective
};

/// Everything that a configuration file can name, with its default options, and further ways to set it.
inline std::vector<NamedTerm> every_term() {
  using namespace losses;
  std::vector<NamedTerm> terms;
  const auto registry = builtin_terms();
  for (const std::string& name : registry->names()) terms.push_back({name, [registry, name] { return registry->options(name)->make(kSceneSpec); }, name == "matching"});
  const auto add = [&]<class O>(const std::string& name, const O& options) { terms.push_back({name, [options] { return make_term(options, kSceneSpec); }}); };
  add("contrastive, same_text ignored", ContrastiveOptions{.same_text = SameText::kIgnored});
  add("contrastive, regions, log_scale", ContrastiveOptions{.rows = Rows::kRegion, .temperature = {.kind = TemperatureKind::kLogScale, .init = 0.1}});
  add("sigmoid_contrastive, images, same_text ignored", SigmoidContrastiveOptions{.rows = Rows::kImage, .same_text = SameText::kIgnored});
  add("sigmoid_contrastive, reference", SigmoidContrastiveOptions{.reference = true});
  add("region_label_contrastive, implied ignored", RegionLabelContrastiveOptions{.implied = Implied::kIgnored});
  add("contrastive, soft targets and a queue", ContrastiveOptions{.queue = QueueOptions{.size = 24}, .alpha = 0.4});
  add("masked_language, distillation", MaskedLanguageOptions{.distillation = DistillationOptions{}});
  add("contrastive, foils", ContrastiveOptions{.foils = true});
  add("contrastive, soft targets, foils of regions", ContrastiveOptions{.rows = Rows::kRegion, .alpha = Schedule(0.4), .foils = true});
  add("matching, all ranks, foils", MatchingOptions{.negatives_from = NegativesFrom::kAllRanks, .foils = true});
  add("matching, all ranks", MatchingOptions{.negatives_from = NegativesFrom::kAllRanks});
  add("matching, all ranks, uniform, images", MatchingOptions{.rows = Rows::kImage, .negatives = Negatives::kUniform, .negatives_from = NegativesFrom::kAllRanks, .head = MatchingHead::kLinear});
  add("matching, all ranks, momentum, regions", MatchingOptions{.rows = Rows::kRegion, .floor = 0, .similarity = Similarity::kMomentum, .negatives_from = NegativesFrom::kAllRanks});
  add("matching, all ranks, reference", MatchingOptions{.negatives_from = NegativesFrom::kAllRanks, .reference = true});
  add("masked_language, regions, own decoder", MaskedLanguageOptions{.rows = Rows::kRegion, .decoder = WordDecoder::kOwn});
  add("language_model, images", LanguageModelOptions{.rows = Rows::kImage});
  add("box_regression, diou, unambiguous", BoxRegressionOptions{.iou = BoxIou::kDiou, .only_unambiguous = true});
  add("box_regression, ciou, all rows", BoxRegressionOptions{.iou = BoxIou::kCiou, .all_rows = true});
  return terms;
}

/// The term in float64, with the terms `itm` and `mlm` beside it whose heads terms may read and which themselves count nothing.
inline std::shared_ptr<losses::Criterion> criterion_of(const NamedTerm& named, std::vector<std::int64_t> streams = {}) {
  auto criterion = std::make_shared<losses::Criterion>(kSceneSpec);
  criterion->add("itm", losses::MatchingOptions{.negatives = losses::Negatives::kUniform, .negatives_from = losses::NegativesFrom::kAllRanks}, /*weight=*/0.0).add("mlm", losses::MaskedLanguageOptions{}, 0.0);
  losses::LossTermPtr term = named.make();
  initialize(*term, kSceneSpec.seed, kSceneSpec.initializer_range, "term");
  criterion->add("term", std::move(term), 1.0, std::move(streams));
  criterion->to(at::kDouble);
  return criterion;
}

}  // namespace fgvl::test
