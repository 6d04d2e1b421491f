// Text encoders, cross encoders and word prediction beside transformers' and X2-VLM's own classes: tests/reference/text_encoders.py writes what they compute. The small fixtures are
// committed; a BERT of ordinary size and a trained MiniLM are compared where FGVL_ORDINARY_MODELS and FGVL_MINILM name the folders that the script wrote.
#include <fstream>
#include <map>

#include <nlohmann/json.hpp>
#include <torch/torch.h>

#include "fgvl/core/checkpoint_file.hpp"
#include "fgvl/data/text_pipeline.hpp"
#include "fgvl/losses/box_regression.hpp"
#include "fgvl/losses/contrastive.hpp"
#include "fgvl/losses/criterion.hpp"
#include "fgvl/losses/masked_language.hpp"
#include "fgvl/losses/matching.hpp"
#include "fgvl/models/bert.hpp"
#include "fgvl/models/pretrained.hpp"
#include "fgvl/models/region_vlm.hpp"
#include "fgvl/models/roberta.hpp"
#include "fgvl/models/vit.hpp"
#include "models/dropout.hpp"
#include "support/catch.hpp"

namespace fgvl {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using Tensors = std::map<std::string, Tensor>;

constexpr double kLossTolerance = 1e-5, kOutputTolerance = 2e-5;  // of the golden values; see also check_gradients

Json read_json(const fs::path& path) {
  std::ifstream stream(path);
  INFO(path);
  REQUIRE(stream.good());
  return Json::parse(stream);
}

CheckpointFile opened(const fs::path& path) {
  auto file = open_checkpoint(path.string());
  INFO(file.status());
  REQUIRE(file.ok());
  return std::move(*file);
}

/// Entries "<prefix>name" as "name".
Tensors with_prefix(const CheckpointFile& file, const std::string& prefix) {
  Tensors chosen;
  for (const auto& [name, value] : file.tensors) {
    if (name.rfind(prefix, 0) == 0) chosen[name.substr(prefix.size())] = value;
  }
  return chosen;
}

void check_close(const std::string& name, const Tensor& ours, const Tensor& expected, double tolerance) {
  INFO(name);
  REQUIRE(ours.sizes() == expected.sizes());
  CHECK((ours.to(at::kDouble) - expected.to(at::kDouble)).abs().max().item<double>() <= tolerance);
}

struct Fixture {
  explicit Fixture(const std::string& name) : json(read_json(folder() / (name + ".json"))), file(opened(folder() / (name + ".safetensors"))) {
    in = with_prefix(file, "in.");
    out = with_prefix(file, "out.");
  }
  static fs::path folder() { return fs::path(FGVL_SOURCE_DIR) / "tests" / "reference" / "text"; }

  Json json;
  CheckpointFile file;
  Tensors in, out;
};

/// A config.json of transformers as ours.
models::TextEncoderPtr make_text(const Json& config, std::int64_t layers) {
  const models::TextContext context{.vocab_size = config["vocab_size"], .pad_id = config["pad_token_id"].get<std::int64_t>()};
  if (config["model_type"] == "roberta") {
    return make_text_encoder(models::RobertaOptions{.width = config["hidden_size"], .layers = layers, .heads = config["num_attention_heads"], .mlp_width = config["intermediate_size"],
                                                    .max_tokens = config["max_position_embeddings"].get<std::int64_t>() - 2, .token_types = config["type_vocab_size"],
                                                    .layer_norm_eps = config["layer_norm_eps"], .dropout = 0},
                             context);
  }
  return make_text_encoder(models::BertOptions{.width = config["hidden_size"], .layers = layers, .heads = config["num_attention_heads"], .mlp_width = config["intermediate_size"],
                                               .max_tokens = config["max_position_embeddings"], .token_types = config["type_vocab_size"], .layer_norm_eps = config["layer_norm_eps"], .dropout = 0},
                           context);
}
models::TextEncoderPtr make_text(const Json& config) { return make_text(config, config["num_hidden_layers"]); }

using Parts = std::vector<std::pair<std::string, torch::nn::Module*>>;

NamedTensors state_of(const Parts& parts) {
  NamedTensors targets;
  for (const auto& [prefix, module] : parts) {
    for (auto& entry : models::named_state(*module, prefix)) targets.push_back(std::move(entry));
  }
  return targets;
}

/// Strictly: nothing missing or unexpected but what is named.
void load(const Parts& parts, const Tensors& weights, const models::NameMap& names, const std::vector<std::string>& allow_missing = {}, const std::vector<std::string>& allow_unexpected = {}) {
  const NamedTensors targets = state_of(parts), stored(weights.begin(), weights.end());
  const models::LoadReport report = models::load_named(
      targets, stored,
      {.names = &names, .text_layers = models::text_layers_of(names, models::names_of(stored), models::names_of(targets)), .allow_missing = allow_missing, .allow_unexpected = allow_unexpected});
  INFO(report.problems());
  REQUIRE(report.ok());
}

void check_gradients(const Parts& parts, const Tensors& expected, const models::NameMap& names, std::int64_t text_layers) {
  std::size_t compared = 0;
  for (const auto& [prefix, module] : parts) {
    for (const auto& parameter : module->named_parameters()) {
      const std::string name = models::to_official(names, prefix + parameter.key(), text_layers).value_or("");
      INFO("gradient of " << prefix << parameter.key() << " (" << name << ")");
      const auto found = expected.find(name);
      if (found == expected.end()) {
        const Tensor& own = parameter.value().grad();
        CHECK((!own.defined() || own.abs().max().item<double>() == 0));
        continue;
      }
      REQUIRE(parameter.value().grad().defined());
      CHECK((parameter.value().grad() - found->second).norm().item<double>() <= 2e-4 * found->second.norm().item<double>() + 1e-5);
      ++compared;
    }
  }
  CHECK(compared == expected.size());
}

losses::WordPredictor& words_of(losses::Criterion& criterion) { return dynamic_cast<losses::WordPredictor&>(*criterion.find("mlm")); }

/// [N, M, D] of [N, L, D].
Tensor at_masked(const Tensor& embeds, const Tensor& positions) { return embeds.gather(1, positions.unsqueeze(2).expand({-1, -1, embeds.size(2)})); }

TEST_CASE("RoBERTa: outputs, word prediction, losses and gradients equal transformers'", "[text_parity]") {
  const Fixture fixture("roberta");
  const Json& config = fixture.json["config"]["text"];
  const models::NameMap& names = *models::find_name_map("roberta");
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    const models::TextEncoderPtr text = make_text(config);
    CHECK(text->max_tokens() == 12);
    losses::Criterion criterion({.fusion_width = text->width(), .embed_dim = 1, .vocab_size = text->vocab_size(), .text_layer_norm_eps = text->layer_norm_eps()});
    criterion.add("mlm", losses::MaskedLanguageOptions{});
    const Parts parts = {{"model.text_encoder.", text.get()}, {"losses.", &criterion}};
    const Tensors weights = with_prefix(fixture.file, "model.");
    REQUIRE(models::recognise(models::names_of(NamedTensors(weights.begin(), weights.end()))) == &names);
    load(parts, weights, names);
    text->to(dtype);
    criterion.to(dtype);

    models::Dropout none;
    const Tensor mask = fixture.in.at("text_atts").to(at::kBool), positions = fixture.in.at("masked_pos"), labels = fixture.in.at("masked_ids");
    const Tensor embeds = text->encode(fixture.in.at("text_ids"), mask, none), masked = text->encode(fixture.in.at("text_ids_masked"), mask, none);
    const Tensor logits = words_of(criterion).word_logits(at_masked(masked, positions), text->word_embedding());
    const Tensor loss = at::cross_entropy_loss(logits.flatten(0, 1), labels.flatten()), probe = (embeds * fixture.in.at("weight").to(dtype)).mean(), total = loss + probe;
    const Json& expected = fixture.json[dtype == at::kFloat ? "losses" : "losses_float64"];
    for (const auto& [name, value] : std::map<std::string, Tensor>{{"loss_mlm", loss}, {"probe", probe}, {"total", total}}) {
      INFO(name);
      const double wanted = expected[name];
      CHECK(std::abs(value.item<double>() - wanted) <= (dtype == at::kFloat ? kLossTolerance : 1e-9 * std::abs(wanted)));
    }
    if (dtype != at::kFloat) continue;
    check_close("text_embeds", embeds.index({mask}), fixture.out.at("text_embeds").index({mask}), kOutputTolerance);
    check_close("mlm_logits", logits, fixture.out.at("mlm_logits"), kOutputTolerance);
    total.backward();
    check_gradients(parts, with_prefix(fixture.file, "grad."), names, config["num_hidden_layers"]);
  }
}

TEST_CASE("X2-VLM: texts, cross encoder, losses and gradients equal the official classes', with one encoder and with two", "[text_parity]") {
  const std::map<std::string, std::string> loss_names = {{"loss_itc", "itc"}, {"loss_itm", "itm"}, {"loss_mlm", "mlm"}, {"loss_bbox", "box.l1"}, {"loss_giou", "box.giou"}};
  for (const std::string kind : {"x2vlm", "x2vlm_plus"}) {
    INFO(kind);
    const Fixture fixture(kind);
    const Json &config = fixture.json["config"], &cross = config["cross"];
    const models::NameMap& names = *models::find_name_map(kind);
    const std::int64_t text_layers = config["text"]["num_hidden_layers"], width = config["vision_width"], count = fixture.in.at("text_ids").size(0), tokens = fixture.in.at("image_embeds").size(1);
    for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
      // The fixture gives pictures already encoded, in four patches: this vision encoder never runs.
      REQUIRE(tokens == 1 + 2 * 2);
      const models::TextEncoderPtr text = make_text(config["text"]);
      const models::BertFusionOptions fusion{.layers = cross["num_hidden_layers"], .heads = cross["num_attention_heads"], .mlp_width = cross["intermediate_size"], .layer_norm_eps = cross["layer_norm_eps"],
                                             .dropout = 0};
      const models::ModelPtr model = models::make_region_vlm({make_vision_encoder(models::VitOptions{.image_size = 8, .patch_size = 4, .width = width, .layers = 0, .heads = 1}), text,
                                                              make_fusion_encoder(fusion, {.text_width = text->width(), .vision_width = width})},
                                                             {.embed_dim = config["embed_dim"]});
      losses::Criterion criterion(model->spec());
      criterion.add("itc", losses::ContrastiveOptions{.temperature = {.init = config["temp"].get<double>()}, .reference = true})
          .add("itm", losses::MatchingOptions{.temperature = "itc", .reference = true, .given = {.visual_for_text = fixture.in.at("neg_image_idx"), .text_for_visual = fixture.in.at("neg_text_idx")}})
          .add("mlm", losses::MaskedLanguageOptions{.decoder = kind == "x2vlm" ? losses::WordDecoder::kTied : losses::WordDecoder::kOwn})
          .add("box", losses::BoxRegressionOptions{.all_rows = true});
      const Parts parts = {{"model.", model.get()}, {"losses.", &criterion}};
      load(parts, with_prefix(fixture.file, "model."), names, {"model.vision_encoder.*"});
      model->to(dtype);
      criterion.to(dtype);

      RegionBatch batch;
      batch.text_ids = fixture.in.at("text_ids");
      batch.text_mask = fixture.in.at("text_atts").to(at::kBool);
      batch.masked_ids = fixture.in.at("text_ids_masked");
      batch.masked_positions = fixture.in.at("masked_pos");
      batch.masked_labels = fixture.in.at("masked_ids");
      batch.text_to_image = at::arange(count);
      batch.is_region = at::zeros({count}, at::kBool);
      batch.boxes = fixture.in.at("target_bbox").to(dtype);
      batch.text_key = at::arange(count);
      const Tensor images = fixture.in.at("image_embeds").to(dtype);
      const auto parameters = model->named_parameters();
      const Tensor projected = at::linear(images.select(1, 0), parameters["vision_proj.weight"], parameters["vision_proj.bias"]);
      models::PassOptions given;
      given.given.image = {images, projected / projected.norm(2, 1, /*keepdim=*/true)};
      const auto pass = model->begin(batch, given);
      const losses::LossReport report = criterion.forward(*pass);
      for (const auto& [name, value] : fixture.json[dtype == at::kFloat ? "losses" : "losses_float64"].items()) {
        INFO(name);
        const double ours = name == "total" ? report.total.item<double>() : report.mean(loss_names.at(name)).value(), wanted = value;
        CHECK(std::abs(ours - wanted) <= (dtype == at::kFloat ? kLossTolerance : 1e-9 * std::abs(wanted)));
      }
      if (dtype != at::kFloat) continue;
      const Tensor all = at::arange(count), valid = batch.text_mask;
      const Tensor fused = pass->fuse({.text_index = all, .visual_index = all});
      check_close("text_embeds", pass->text().embeds.index({valid}), fixture.out.at("text_embeds").index({valid}), kOutputTolerance);
      check_close("text_feat", pass->text().features, fixture.out.at("text_feat"), kOutputTolerance);
      check_close("image_feat", pass->image().features, fixture.out.at("image_feat"), kOutputTolerance);
      check_close("cross_embeds", fused.index({valid}), fixture.out.at("cross_embeds").index({valid}), kOutputTolerance);
      check_close("itm_logits", dynamic_cast<losses::PairScorer&>(*criterion.find("itm")).pair_logits(fused.select(1, 0)), fixture.out.at("itm_logits"), kOutputTolerance);
      const Tensor masked = pass->fuse({.text = TextInput::kMasked, .text_index = all, .visual_index = all, .positions = batch.masked_positions});
      check_close("mlm_logits", words_of(criterion).word_logits(masked, pass->word_embedding()), fixture.out.at("mlm_logits"), kOutputTolerance);
      check_close("output_coord", pass->predicted_boxes(all), fixture.out.at("output_coord"), kOutputTolerance);
      report.total.backward();
      check_gradients(parts, with_prefix(fixture.file, "grad."), names, text_layers);
    }
  }
}

/// The folder that the variable names; empty, with a message, where it is not set.
fs::path folder_of(const char* variable, const char* what) {
  const char* given = std::getenv(variable);
  if (given == nullptr) {
    std::cout << "SKIPPED: " << what << " (set " << variable << " to the folder that tests/reference/text_encoders.py wrote)" << std::endl;
    return {};
  }
  INFO(variable << "=" << given);
  REQUIRE(fs::is_directory(given));
  return given;
}

TEST_CASE("a BERT of ordinary size, as transformers saves it, computes what transformers computes", "[text_parity]") {
  const fs::path folder = folder_of("FGVL_ORDINARY_MODELS", "a BERT of ordinary size");
  if (folder.empty()) return;
  torch::NoGradGuard guard;
  const CheckpointFile file = opened(folder / "bert"), expected = opened(folder / "bert" / "expected.safetensors");
  const models::NameMap* names = models::recognise(models::names_of(file.tensors));
  REQUIRE(names != nullptr);
  CHECK(names->family == "bert");
  const models::TextEncoderPtr text = make_text(Json::parse(file.config_json));
  losses::Criterion criterion({.fusion_width = text->width(), .embed_dim = 1, .vocab_size = text->vocab_size(), .text_layer_norm_eps = text->layer_norm_eps()});
  criterion.add("mlm", losses::MaskedLanguageOptions{});
  load({{"model.text_encoder.", text.get()}, {"losses.", &criterion}}, {file.tensors.begin(), file.tensors.end()}, *names);
  const Tensors in = with_prefix(expected, "in."), out = with_prefix(expected, "out.");
  models::Dropout none;
  const Tensor mask = in.at("text_atts").to(at::kBool), embeds = text->encode(in.at("text_ids"), mask, none);
  check_close("text_embeds", embeds.index({mask}), out.at("text_embeds").index({mask}), 1e-5);
  check_close("mlm_logits", words_of(criterion).word_logits(embeds.select(1, 1), text->word_embedding()), out.at("mlm_logits"), 1e-5);
}

TEST_CASE("a trained MiniLM gives its own package's sentence embeddings, from the sentences on", "[text_parity]") {
  const fs::path folder = folder_of("FGVL_MINILM", "a trained MiniLM");
  if (folder.empty()) return;
  torch::NoGradGuard guard;
  const CheckpointFile file = opened(folder);
  const models::NameMap* names = models::recognise(models::names_of(file.tensors));
  REQUIRE(names != nullptr);
  CHECK(names->family == "bert_encoder");
  const models::TextEncoderPtr text = make_text(Json::parse(file.config_json));
  load({{"model.text_encoder.", text.get()}}, {file.tensors.begin(), file.tensors.end()}, *names, {}, {"pooler.*"});

  data::TextOptions options;
  options.vocabulary = (folder / "vocab.txt").string();
  options.prepare = data::CaptionStyle::kNone;
  options.max_tokens = 256;
  options.add_sep = true;
  const data::TextPipeline pipeline(data::open_tokenizer(options).value(), options);
  std::vector<Tensor> embeddings;
  const Json sentences = read_json(folder / "sentences.json");
  for (const std::string sentence : sentences) {
    models::Dropout none;
    const Tensor ids = torch::tensor(pipeline.encode(pipeline.prepare(sentence).value()), at::kLong).unsqueeze(0);
    const Tensor mean = text->encode(ids, at::ones_like(ids, at::kBool), none).mean(1);
    embeddings.push_back(mean / mean.norm(2, 1, /*keepdim=*/true));
  }
  CHECK(embeddings.size() >= 20);
  const Tensor expected = with_prefix(opened(folder / "expected.safetensors"), "out.").at("embeddings");
  check_close("embeddings", at::cat(embeddings), expected, 1e-5);
  std::cout << "MiniLM: " << embeddings.size() << " sentences, largest difference " << (at::cat(embeddings) - expected).abs().max().item<double>() << std::endl;
}

}  // namespace
}  // namespace fgvl
