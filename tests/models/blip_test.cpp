// BLIP's fusion: encoder and decoder that share the text encoder's weights, and the language_model term over it.
#include <cmath>
#include <map>
#include <set>

#include <torch/torch.h>

#include "fgvl/core/config.hpp"
#include "fgvl/losses/language_model.hpp"
#include "models/small_blip.hpp"
#include "support/catch.hpp"

namespace fgvl::models {
namespace {

/// The rows `begin` to `end` of the texts, over all pictures.
RegionBatch texts_of(const RegionBatch& batch, std::int64_t begin, std::int64_t end) {
  RegionBatch part;
  part.images = batch.images;
  for (Tensor RegionBatch::*field : {&RegionBatch::text_to_image, &RegionBatch::is_region, &RegionBatch::boxes, &RegionBatch::text_ids, &RegionBatch::text_mask, &RegionBatch::text_key}) {
    part.*field = (batch.*field).slice(0, begin, end);
  }
  const std::int64_t longest = part.text_mask.sum(1).max().item<std::int64_t>();
  part.text_ids = part.text_ids.slice(1, 0, longest);
  part.text_mask = part.text_mask.slice(1, 0, longest);
  return part;
}

FusionQuery own_visuals(const RegionBatch& batch) {
  const Tensor all = torch::arange(batch.text_count());
  return {.text_index = all, .visual_index = all};
}

struct Outputs {
  Tensor text, fused, decoded;
};
Outputs outputs(Model& model, const RegionBatch& batch) {
  torch::NoGradGuard guard;
  const auto pass = model.begin(batch);
  return {pass->text().embeds, pass->fuse(own_visuals(batch)), pass->decoded(own_visuals(batch))};
}

double largest(const Tensor& difference) { return difference.abs().max().item<double>(); }

TEST_CASE("blip: a later token changes nothing that the decoder says before it, and everything that the encoder says", "[blip]") {
  for (const Norm norm : {Norm::kPost, Norm::kPre}) {
    const ModelPtr model = make_blip(0, norm);
    RegionBatch batch = blip_batch(1);
    const Outputs before = outputs(*model, batch);
    for (const std::int64_t changed : {1, 3, 4}) {
      INFO(changed);
      RegionBatch other = batch;
      other.text_ids = batch.text_ids.clone();
      other.text_ids.select(1, changed).copy_(batch.text_ids.select(1, changed).remainder(30) + 6);
      const Outputs after = outputs(*model, other);
      CHECK(largest(after.decoded.slice(1, 0, changed) - before.decoded.slice(1, 0, changed)) < 1e-6);
      CHECK(largest(after.decoded.select(1, changed) - before.decoded.select(1, changed)) > 1e-3);
      CHECK((after.fused - before.fused).abs().amax({0, 2}).min().item<double>() > 1e-4);
    }
  }
}

TEST_CASE("blip: encoder and decoder read tokens of their own in place of a text's first, which the text encoder reads", "[blip]") {
  const ModelPtr model = make_blip();
  RegionBatch batch = blip_batch(1), other = batch;
  other.text_ids = batch.text_ids.clone();
  other.text_ids.select(1, 0).fill_(7);
  const Outputs before = outputs(*model, batch), after = outputs(*model, other);
  CHECK(largest(after.text - before.text) > 1e-3);
  CHECK(at::equal(after.fused, before.fused));
  CHECK(at::equal(after.decoded, before.decoded));
  // Which tokens: their embeddings move the one and not the other.
  torch::NoGradGuard guard;
  for (auto& parameter : model->named_parameters()) {
    if (parameter.key() == "text_encoder.embeddings.word_embeddings.weight") parameter.value()[kDecoderId].add_(at::arange(kWidth).sin());  // not a constant, which the norm takes out
  }
  const Outputs moved = outputs(*model, batch);
  CHECK(at::equal(moved.fused, before.fused));
  CHECK(largest(moved.decoded - before.decoded) > 1e-3);
}

TEST_CASE("blip: a weight moves whoever shares it and nobody else, and is one parameter", "[blip]") {
  const ModelPtr model = make_blip();
  const RegionBatch batch = blip_batch(1);
  std::set<const void*> storages;
  std::int64_t parameters = 0;
  for (const auto& parameter : model->named_parameters()) {
    storages.insert(parameter.value().const_data_ptr());
    ++parameters;
  }
  CHECK(static_cast<std::int64_t>(storages.size()) == parameters);

  struct Case {
    std::string name;
    bool text, fused, decoded;
  };
  const std::vector<Case> cases = {{"text_encoder.embeddings.position_embeddings.weight", true, true, true},
                                   {"text_encoder.layer.0.attention.self.value.weight", true, true, false},
                                   {"text_encoder.layer.1.intermediate.dense.weight", true, true, true},
                                   {"text_encoder.layer.1.output.LayerNorm.bias", true, true, true},
                                   {"fusion_encoder.layer.0.crossattention.self.key.weight", false, true, true},
                                   {"fusion_encoder.layer.1.crossattention.output.dense.bias", false, true, true},
                                   {"fusion_encoder.layer.0.decoder_attention.self.query.weight", false, false, true},
                                   {"fusion_encoder.layer.1.decoder_attention.output.dense.weight", false, false, true}};
  const Outputs before = outputs(*model, batch);
  for (const Case& one : cases) {
    INFO(one.name);
    Tensor weight = model->named_parameters()[one.name];
    {
      torch::NoGradGuard guard;
      const Tensor kept = weight.clone();
      weight.add_(at::arange(weight.numel(), weight.options()).view(weight.sizes()).sin() * 0.1);
      const Outputs after = outputs(*model, batch);
      CHECK(at::equal(after.text, before.text) != one.text);
      CHECK(at::equal(after.fused, before.fused) != one.fused);
      CHECK(at::equal(after.decoded, before.decoded) != one.decoded);
      weight.copy_(kept);
    }
  }
}

TEST_CASE("blip: each stage draws its own dropout, so that decoding changes nothing of fusion", "[blip]") {
  const ModelPtr model = make_blip(0.3);
  model->train();
  const RegionBatch batch = ragged_batch();
  const FusionQuery query = own_visuals(batch);
  const PassOptions options{.seed = 5, .step = 2};
  const Tensor fused = model->begin(batch, options)->fuse(query), decoded = model->begin(batch, options)->decoded(query);
  const auto both = model->begin(batch, options);
  CHECK(at::equal(both->decoded(query), decoded));
  CHECK(at::equal(both->fuse(query), fused));
  CHECK_FALSE(at::equal(model->begin(batch, {.seed = 5, .step = 3})->decoded(query), decoded));
  // Of terms: matching without the language model is what it is beside it.
  const auto matching = [&](bool with_language_model) {
    losses::Criterion criterion(model->spec());
    criterion.add("itm", losses::MatchingOptions{.head = losses::MatchingHead::kLinear});
    if (with_language_model) criterion.add("lm", losses::LanguageModelOptions{});
    const auto pass = model->begin(batch, options);
    return criterion.forward(*pass).mean("itm").value();
  };
  CHECK(matching(true) == matching(false));
}

TEST_CASE("blip: texts of other lengths and the positions asked for change nothing of what is decoded", "[blip]") {
  const ModelPtr model = make_blip();
  const RegionBatch batch = ragged_batch();
  torch::NoGradGuard guard;
  const auto pass = model->begin(batch);
  const Tensor all = pass->decoded(own_visuals(batch));
  for (std::int64_t row = 0; row < batch.text_count(); ++row) {
    INFO(row);
    const RegionBatch alone = texts_of(batch, row, row + 1);
    const Tensor one = model->begin(alone)->decoded(own_visuals(alone));
    CHECK(largest(one[0] - all[row].slice(0, 0, one.size(1))) < 1e-5);
  }
  FusionQuery query = own_visuals(batch);
  query.positions = torch::tensor({{0, 4}, {1, 0}, {0, 1}, {1, 1}, {3, 2}, {3, 0}});
  const Tensor expected = all.gather(1, query.positions.unsqueeze(2).expand({-1, -1, kWidth}));
  // Short texts run in a group without the padding of long ones, so that no position may lie behind its text.
  CHECK(largest(pass->decoded(query) - expected) < 1e-5);
}

TEST_CASE("blip: gradient checkpointing changes no gradient, of shared weights neither", "[blip]") {
  const RegionBatch batch = ragged_batch();
  std::map<std::string, Tensor> gradients;
  for (const bool checkpointed : {false, true}) {
    const ModelPtr model = make_blip(0.2, Norm::kPost, checkpointed);
    model->train();
    losses::Criterion criterion(model->spec());
    criterion.add("itm", losses::MatchingOptions{.head = losses::MatchingHead::kLinear}).add("lm", losses::LanguageModelOptions{});
    const auto pass = model->begin(batch, {.seed = 5, .step = 2});
    criterion.forward(*pass).total.backward();
    for (const auto& parameter : model->named_parameters()) {
      INFO(parameter.key());
      const Tensor gradient = parameter.value().grad();
      if (parameter.key().find("fusion_encoder.") == 0 || parameter.key().find("text_encoder.") == 0) REQUIRE(gradient.defined());
      if (!gradient.defined()) continue;
      if (!checkpointed) {
        gradients[parameter.key()] = gradient.clone();
      } else {
        CHECK(largest(gradient - gradients.at(parameter.key())) <= 1e-5);
      }
    }
  }
  CHECK(gradients.size() > 40);
}

TEST_CASE("language_model: over ragged texts it is the mean over all predicted tokens, one by one", "[blip]") {
  const ModelPtr model = make_blip();
  const RegionBatch batch = ragged_batch();
  for (const double smoothing : {0.0, 0.1}) {
    losses::Criterion criterion(model->spec());
    criterion.add("lm", losses::LanguageModelOptions{.label_smoothing = smoothing});
    const auto pass = model->begin(batch);
    const losses::LossReport report = criterion.forward(*pass);
    auto& words = dynamic_cast<losses::WordPredictor&>(*criterion.find("lm"));
    torch::NoGradGuard guard;
    double sum = 0;
    std::int64_t count = 0;
    for (std::int64_t row = 0; row < batch.text_count(); ++row) {
      const RegionBatch alone = texts_of(batch, row, row + 1);
      const auto single = model->begin(alone);
      const Tensor log_probability = words.word_logits(single->decoded(own_visuals(alone))[0], single->word_embedding()).log_softmax(1).to(at::kDouble);
      for (std::int64_t token = 0; token + 1 < alone.text_ids.size(1); ++token) {
        const std::int64_t next = alone.text_ids[0][token + 1].item<std::int64_t>();
        sum -= (1 - smoothing) * log_probability[token][next].item<double>() + smoothing * log_probability[token].mean().item<double>();
        ++count;
      }
    }
    CHECK(count == 1 + 2 + 1 + 4 + 3 + 4);
    CHECK(report.values.at(0).count == static_cast<double>(count));
    CHECK(report.mean("lm").value() == Approx(sum / static_cast<double>(count)).epsilon(1e-5));
  }
}

TEST_CASE("language_model: texts without a token to predict give an exact zero with a gradient", "[blip]") {
  const ModelPtr model = make_blip();
  RegionBatch batch = blip_batch(1);
  batch.text_mask.slice(1, 1).fill_(false);
  losses::Criterion criterion(model->spec());
  criterion.add("lm", losses::LanguageModelOptions{});
  const auto pass = model->begin(batch);
  const losses::LossReport report = criterion.forward(*pass);
  CHECK(report.values.empty());
  CHECK(report.total.item<double>() == 0);
  CHECK(report.total.requires_grad());
}

TEST_CASE("blip: what does not fit is refused with what to do", "[blip]") {
  using Catch::Contains;
  const TextEncoderPtr text = small_text();
  FusionContext context = context_of(text);
  CHECK_THROWS_WITH(make_fusion_encoder(BlipFusionOptions{.encoder_token = "[ENCODE]"}, context), Contains("the vocabulary has no \"[ENCODE]\"") && Contains("append them"));
  CHECK_THROWS_WITH(make_fusion_encoder(BlipFusionOptions{.decoder_token = ""}, context), Contains("decoder_token"));
  context.token_id = nullptr;
  CHECK_THROWS_WITH(make_fusion_encoder(BlipFusionOptions{}, context), Contains("token_id"));
  context = context_of(text);
  context.token_id = [](const std::string&) { return kVocabulary; };
  CHECK_THROWS_WITH(make_fusion_encoder(BlipFusionOptions{}, context), Contains("beyond the text encoder's 40 words"));
  context = context_of(nullptr);
  CHECK_THROWS_WITH(make_fusion_encoder(BlipFusionOptions{}, context), Contains("type bert or roberta"));
  CHECK_THROWS_WITH(make_fusion_encoder(BlipFusionOptions{}, context_of(small_text(0, Norm::kPost, /*layers=*/0))), Contains("no layers"));
  // Another text encoder than the model's would train on its own.
  const VisionEncoderPtr vision = make_vision_encoder(VitOptions{.image_size = kImage, .patch_size = kPatch, .width = kWidth, .layers = 1, .heads = 2, .mlp_ratio = 2});
  CHECK_THROWS_WITH(make_region_vlm({vision, small_text(), make_fusion_encoder(BlipFusionOptions{}, context_of(text))}), Contains("another text encoder"));
  // A model without a decoder.
  const ModelPtr plain = make(false);
  losses::Criterion criterion(plain->spec());
  CHECK_THROWS_WITH(criterion.add("lm", losses::LanguageModelOptions{}), Contains("has no decoder") && Contains("type: blip"));
  CHECK_THROWS_WITH(plain->begin(batch_with(1))->decoded(own_visuals(batch_with(1))), Contains("no decoder"));
}

/// A run's model and losses as a user writes them.
struct FromYaml {
  ModelConfig model{};
  losses::CriterionConfig losses{};
};
void visit_fields(config::Visitor& visitor, FromYaml& config) {
  visitor("model", config.model, "");
  visitor.entries("losses", config.losses, losses::TermConfig{.term = {losses::builtin_terms(), ""}}, "");
}

constexpr const char* kYaml = R"(
model:
  vision: {type: deit, options: {image_size: 32, patch_size: 8, width: 16, layers: 1, heads: 2, mlp_ratio: 2, local_attn_depth: 0}}
  text: {type: bert, options: {width: 16, layers: 2, heads: 2, mlp_width: 32, max_tokens: 8, token_types: 0, dropout: 0}}
  fusion: {type: blip}
  embed_dim: 8
  box_head: false
losses:
  itc: {type: contrastive}
  itm: {type: matching, options: {head: linear, temperature: itc}}
  lm: {type: language_model, options: {label_smoothing: 0.1}}
)";

TEST_CASE("blip: a model and its losses from YAML learn to say what is in a picture", "[blip]") {
  auto document = config::Document::parse(kYaml);
  REQUIRE(document.ok());
  const auto config = config::read<FromYaml>(*document);
  INFO(config.status());
  REQUIRE(config.ok());
  const ModelPtr model = make_model(config->model, {.vocab_size = kVocabulary, .token_id = token_id}, 1);
  const auto criterion = losses::make_criterion(config->losses, model->spec());
  const RegionBatch batch = ragged_batch();
  std::vector<Tensor> parameters = model->parameters();
  for (const Tensor& parameter : criterion->parameters()) parameters.push_back(parameter);
  torch::optim::Adam optimizer(parameters, torch::optim::AdamOptions(1e-2));
  std::vector<double> language;
  for (std::uint64_t step = 0; step < 120; ++step) {
    const auto pass = model->begin(batch, {.seed = 1, .step = step});
    const losses::LossReport report = criterion->forward(*pass);
    language.push_back(report.mean("lm").value());
    optimizer.zero_grad();
    report.total.backward();
    optimizer.step();
  }
  // Smoothed targets leave at least their entropy, -0.9025 ln 0.9025 - 39 * 0.0025 ln 0.0025 = 0.677 with 40 words.
  CHECK(language.front() > 3.0);
  CHECK(language.back() < 1.5);
  CHECK(language.back() > 0.677);
}

}  // namespace
}  // namespace fgvl::models
