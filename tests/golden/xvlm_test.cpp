// Parity with the official X-VLM (zengyan-97/X-VLM cb4fff1), run the way a user runs a model: make_region_vlm, begin, Criterion.
#include <map>

#include <torch/torch.h>

#include "fgvl/core/boxes.hpp"
#include "fgvl/core/safetensors.hpp"
#include "fgvl/losses/box_regression.hpp"
#include "fgvl/losses/contrastive.hpp"
#include "fgvl/losses/criterion.hpp"
#include "fgvl/losses/masked_language.hpp"
#include "fgvl/losses/matching.hpp"
#include "fgvl/models/bert.hpp"
#include "fgvl/models/clip_vit.hpp"
#include "fgvl/models/deit.hpp"
#include "fgvl/models/pretrained.hpp"
#include "fgvl/models/region_vlm.hpp"
#include "fgvl/models/swin.hpp"
#include "golden/fixtures.hpp"
#include "support/catch.hpp"

namespace fgvl {
namespace {

using Json = nlohmann::json;
using Tensors = std::map<std::string, Tensor>;

Tensors read_tensors(const std::filesystem::path& path) {
  auto read = read_safetensors(path.string());
  INFO(read.status().ToString());
  REQUIRE(read.ok());
  return {read->begin(), read->end()};
}

/// Entries "<prefix>name" as "name".
Tensors with_prefix(const Tensors& tensors, const std::string& prefix) {
  Tensors chosen;
  for (const auto& [name, value] : tensors) {
    if (name.rfind(prefix, 0) == 0) chosen[name.substr(prefix.size())] = value;
  }
  return chosen;
}

std::int64_t compared_numbers = 0;

void check_close(const std::string& name, const Tensor& ours, const Tensor& golden, double tolerance) {
  INFO(name);
  REQUIRE(ours.sizes() == golden.sizes());
  const double difference = (ours.to(at::kDouble) - golden.to(at::kDouble)).abs().max().item<double>();
  CHECK(difference <= tolerance);
  compared_numbers += ours.numel();
}

struct Fixture {
  std::filesystem::path folder;
  Json json;
  std::string name() const { return json["name"]; }
};

models::SwinOptions swin_options(const Json& config) {
  const Json& vision = config["vision"];
  return {.image_size = config["image_res"], .width = vision["embed_dim"], .depths = vision["depths"], .heads = vision["num_heads"], .window = vision["window_size"], .drop_path = 0};
}

models::VisionEncoderPtr make_vision(const Json& config) {
  const Json& vision = config["vision"];
  if (vision["kind"] == "swin") return make_vision_encoder(swin_options(config));
  if (vision["kind"] == "vit") {
    return make_vision_encoder(models::DeitOptions{.image_size = config["image_res"], .patch_size = config["patch_size"], .width = config["vision_width"], .layers = vision["depth"],
                                                   .heads = vision["num_heads"], .local_attn_depth = vision["local_attn_depth"]});
  }
  return make_vision_encoder(models::ClipVitOptions{.image_size = config["image_res"], .patch_size = config["patch_size"], .width = config["vision_width"],
                                                    .layers = vision["num_hidden_layers"], .heads = vision["num_attention_heads"], .mlp_width = vision["intermediate_size"],
                                                    .local_attn_depth = vision["local_attn_depth"]});
}

models::ModelPtr make_model(const Json& config, const Json& text_config) {
  const Json& text = config["text"];
  const std::int64_t text_layers = text["fusion_layer"], layers = text["layers"];
  const models::BertOptions bert{.width = text["hidden"], .layers = text_layers, .heads = text["heads"], .mlp_width = text["inter"], .max_tokens = text["max_pos"],
                                 .token_types = text_config["type_vocab_size"], .layer_norm_eps = text_config["layer_norm_eps"], .dropout = 0};
  const models::BertFusionOptions fusion{.layers = layers - text_layers, .heads = text["heads"], .mlp_width = text["inter"], .layer_norm_eps = text_config["layer_norm_eps"], .dropout = 0};
  return models::make_region_vlm({make_vision(config), make_text_encoder(bert, {.vocab_size = text["vocab"]}),
                                  make_fusion_encoder(fusion, {.text_width = text["hidden"], .vision_width = config["vision_width"]})},
                                 {.embed_dim = config["embed_dim"]});
}

/// The golden inputs as our batch: the mask of each region becomes the box that covers its patches.
RegionBatch make_batch(const Tensors& in, std::int64_t grid) {
  RegionBatch batch;
  batch.images = in.at("image");
  batch.text_ids = in.at("text_ids");
  batch.text_mask = in.at("text_atts").to(at::kBool);
  if (in.count("text_ids_masked") > 0) {
    batch.masked_ids = in.at("text_ids_masked");
    batch.masked_positions = in.at("masked_pos");
    batch.masked_labels = in.at("masked_ids");
  }
  const std::int64_t texts = batch.text_ids.size(0);
  const bool regions = in.count("idx_to_group_img") > 0;
  batch.text_to_image = regions ? in.at("idx_to_group_img") : at::arange(texts);
  batch.is_region = regions ? in.at("is_image") == 0 : at::zeros({texts}, at::kBool);
  batch.boxes = regions ? in.at("target_bbox") : torch::tensor({0.5f, 0.5f, 1.f, 1.f}).expand({texts, 4}).contiguous();
  batch.text_key = in.count("idx") > 0 ? in.at("idx") : at::arange(texts);
  if (regions) {
    const Tensor ours = patch_mask(batch.boxes, grid, grid).logical_or(batch.is_region.logical_not().unsqueeze(1));
    REQUIRE(at::equal(ours, in.at("image_atts").slice(1, 1).to(at::kBool)));
  }
  batch.validate();
  return batch;
}

struct Run {
  models::ModelPtr model;
  std::shared_ptr<losses::Criterion> criterion;
  std::unique_ptr<ForwardPass> pass;
  RegionBatch batch;
  losses::LossReport report;
};

Run run(const Fixture& fixture, const Tensors& scenario, at::ScalarType dtype) {
  const Json& config = fixture.json["config"];
  Run run;
  run.model = make_model(config, fixture.json["text_config"]);
  const Tensors in = with_prefix(scenario, "in.");
  run.batch = make_batch(in, config["image_res"].get<std::int64_t>() / config["patch_size"].get<std::int64_t>());
  // Retrieval fine-tuning, where pairs have identities: equal ones are positives of one another, which is what ours do without `reference`.
  const bool retrieval = in.count("idx") > 0;
  losses::MatchingOptions matching{.temperature = "itc", .reference = !retrieval};
  matching.given = {.visual_for_text = in.at("neg_image_idx"), .text_for_visual = in.at("neg_text_idx")};
  run.criterion = std::make_shared<losses::Criterion>(run.model->spec());
  run.criterion->add("itc", losses::ContrastiveOptions{.temperature = {.init = config["temp"]}, .reference = !retrieval}).add("itm", matching);
  if (run.batch.masked_ids.defined()) run.criterion->add("mlm", losses::MaskedLanguageOptions{});
  if (in.count("idx_to_group_img") > 0) run.criterion->add("box", losses::BoxRegressionOptions{});
  const std::int64_t text_layers = config["text"]["fusion_layer"];
  const Tensors weights = with_prefix(read_tensors(fixture.folder / (fixture.name() + ".weights.safetensors")), "model.");
  const auto official = [&](const std::string& name) { return models::xvlm_name(name, text_layers); };
  models::load_tensors(*run.model, "model.", weights, official);
  models::load_tensors(*run.criterion, "losses.", weights, official);
  run.model->to(dtype);
  run.criterion->to(dtype);
  run.batch.images = run.batch.images.to(dtype);
  run.batch.boxes = run.batch.boxes.to(dtype);
  run.pass = run.model->begin(run.batch);
  run.report = run.criterion->forward(*run.pass);
  return run;
}

constexpr double kLossTolerance = 1e-5, kOutputTolerance = 2e-5;
const std::map<std::string, std::string> kLossNames = {{"loss_itc", "itc"}, {"loss_itm", "itm"}, {"loss_mlm", "mlm"}, {"loss_bbox", "box.l1"}, {"loss_giou", "box.giou"}};

/// What each text's visual consists of, as the official code lays it out: its own [CLS], then all patches. Regions that share a sequence have theirs behind it.
Tensor visual_tokens(const RegionFeatures& regions, std::int64_t patches) {
  const Tensor tokens = regions.sequences.index_select(0, regions.sequence_index);
  const auto apart = [&](const Tensor& of_tokens) { return at::cat({of_tokens.slice(1, 0, 1), of_tokens.slice(1, 1 + patches)}, 1); };
  const Tensor shown = apart(regions.mask).to(tokens.scalar_type());
  REQUIRE(at::equal(shown.sum(1), at::ones_like(shown.select(1, 0))));
  return at::cat({at::bmm(shown.unsqueeze(1), apart(tokens)), tokens.slice(1, 1, 1 + patches)}, 1);
}

void check_outputs(Run& run, const Tensors& in, const Tensors& out) {
  ForwardPass& pass = *run.pass;
  const RegionFeatures& regions = pass.regions();
  check_close("image_embeds", visual_tokens(regions, out.at("image_embeds").size(1) - 1), out.at("image_embeds"), kOutputTolerance);
  check_close("image_feat", regions.features, out.at("image_feat"), kOutputTolerance);
  if (out.count("image_embeds_fullatts") > 0) {
    check_close("image_embeds_fullatts", pass.image().embeds.index_select(0, run.batch.text_to_image), out.at("image_embeds_fullatts"), kOutputTolerance);
  }
  const Tensor valid = run.batch.text_mask;
  check_close("text_embeds", pass.text().embeds.index({valid}), out.at("text_embeds").index({valid}), kOutputTolerance);
  check_close("text_feat", pass.text().features, out.at("text_feat"), kOutputTolerance);
  const Tensor temperature = dynamic_cast<losses::TemperatureSource&>(*run.criterion->find("itc")).divisor();
  check_close("temp_after", temperature, out.at("temp_after"), 1e-7);
  check_close("sim_i2t", at::matmul(regions.features, pass.text().features.t()) / temperature, out.at("sim_i2t"), 1e-4);  // similarities / 0.07: 14 times the error of a feature

  auto& scorer = dynamic_cast<losses::PairScorer&>(*run.criterion->find("itm"));
  const std::int64_t texts = run.batch.text_count();
  const Tensor all = at::arange(texts);
  const auto first_tokens = [&](const Tensor& text, const Tensor& visual) {
    return pass.fuse({.text_index = text, .visual_index = visual, .positions = at::zeros({text.size(0), 1}, at::kLong)}).select(1, 0);
  };
  const Tensor negatives = first_tokens(at::cat({all, in.at("neg_text_idx")}), at::cat({in.at("neg_image_idx"), all}));
  check_close("itm_logits", scorer.pair_logits(at::cat({pass.matched(), negatives})), out.at("itm_logits"), kOutputTolerance);
  if (out.count("match_prob_text_by_image") > 0) {
    const Tensor grid = scorer.pair_logits(first_tokens(all.repeat_interleave(texts), all.repeat({texts}))).softmax(1).select(1, 1);
    check_close("match_prob_text_by_image", grid.view({texts, texts}), out.at("match_prob_text_by_image"), kOutputTolerance);
  }
  if (out.count("mlm_logits") > 0) {
    const Tensor fused = pass.fuse({.text = TextInput::kMasked, .text_index = all, .visual_index = all, .positions = run.batch.masked_positions});
    auto& words = dynamic_cast<losses::WordPredictor&>(*run.criterion->find("mlm"));
    check_close("mlm_logits", words.word_logits(fused, pass.word_embedding()), out.at("mlm_logits"), kOutputTolerance);
  }
  if (out.count("output_coord") > 0) {
    const Tensor boxes = pass.predicted_boxes(all);
    check_close("output_coord", boxes, out.at("output_coord"), kOutputTolerance);
    losses::Criterion all_rows(run.model->spec());
    all_rows.add("box", losses::BoxRegressionOptions{.all_rows = true});
    const losses::LossReport report = all_rows.forward(pass);
    check_close("loss_bbox_all", torch::tensor(report.mean("box.l1").value()), out.at("loss_bbox_all").to(at::kDouble), kLossTolerance);
    check_close("loss_giou_all", torch::tensor(report.mean("box.giou").value()), out.at("loss_giou_all").to(at::kDouble), kLossTolerance);
  }
}

void check_gradients(Run& run, const Tensors& golden, std::int64_t text_layers) {
  run.report.total.backward();
  Tensors ours;
  for (const auto& [prefix, module] : std::vector<std::pair<std::string, torch::nn::Module*>>{{"model.", run.model.get()}, {"losses.", run.criterion.get()}}) {
    for (const auto& parameter : module->named_parameters()) ours[models::xvlm_name(prefix + parameter.key(), text_layers)] = parameter.value().grad();
  }
  std::int64_t compared = 0;
  for (const auto& [name, expected] : golden) {
    INFO("gradient of " << name);
    REQUIRE(ours.count(name) == 1);
    REQUIRE(ours[name].defined());
    const double difference = (ours[name] - expected).norm().item<double>();
    CHECK(difference <= 2e-4 * expected.norm().item<double>() + 1e-5);
    compared_numbers += expected.numel();
    ++compared;
    ours.erase(name);
  }
  for (const auto& [name, gradient] : ours) {
    INFO("no golden gradient of " << name);
    CHECK((!gradient.defined() || gradient.abs().max().item<double>() == 0.0));
  }
  CHECK(compared > 0);
}

/// Every tensor of an official Swin is either a parameter of ours or follows from its sizes.
void check_derived_tensors(const Fixture& fixture, const Tensors& weights) {
  const std::string prefix = "vision_encoder.";
  Tensors vision = with_prefix(weights, prefix);
  for (const auto& [name, value] : models::derived_tensors(swin_options(fixture.json["config"]))) {
    INFO(name);
    REQUIRE(vision.count(name) == 1);
    CHECK(vision[name].scalar_type() == value.scalar_type());
    CHECK(at::equal(vision[name], value));
    vision.erase(name);
  }
  for (const auto& parameter : make_vision(fixture.json["config"])->named_parameters()) CHECK(vision.erase(parameter.key()) == 1);
  CHECK(vision.empty());
}

/// "xvlm clip", "xvlm swin", ..., or the family's folder: "albef", "blip", "pevl".
std::string kind_of(const Fixture& fixture) {
  if (!fixture.json.contains("scenarios")) return fixture.folder.filename().string();
  return "xvlm " + fixture.json["config"]["vision"]["kind"].get<std::string>();
}

TEST_CASE("X-VLM: outputs, losses and gradients equal the official implementation's", "[golden]") {
  FGVL_NEEDS_GOLDEN();
  int fixtures = 0, scenarios = 0;
  for (const test::Fixture& model : test::golden_json("state_dict")) {
    const Fixture fixture{model.path.parent_path(), model.json};
    const std::string kind = kind_of(fixture);
    if (kind != "xvlm clip" && kind != "xvlm swin" && kind != "xvlm vit") {
      std::cout << "SKIPPED: " << fixture.name() << ": models of kind " << kind << " are not built yet" << std::endl;
      continue;
    }
    ++fixtures;
    if (kind == "xvlm swin") check_derived_tensors(fixture, with_prefix(read_tensors(fixture.folder / (fixture.name() + ".weights.safetensors")), "model."));
    for (const auto& [scenario, expected] : fixture.json["scenarios"].items()) {
      const std::filesystem::path path = fixture.folder / (fixture.name() + "." + scenario + ".safetensors");
      if (scenario != "image_text" && scenario != "region" && scenario != "retrieval") {
        std::cout << "SKIPPED: " << fixture.name() << " " << scenario << ": this scenario is not built yet" << std::endl;
        continue;
      }
      INFO(path.string());
      const Tensors tensors = read_tensors(path), in = with_prefix(tensors, "in."), out = with_prefix(tensors, "out.");
      Run single = run(fixture, tensors, at::kFloat);
      for (const auto& [name, value] : expected["losses"].items()) {
        INFO(name);
        const double ours = name == "total" ? single.report.total.item<double>() : single.report.mean(kLossNames.at(name)).value();
        CHECK(std::abs(ours - value.get<double>()) <= kLossTolerance);
      }
      check_outputs(single, in, out);
      check_gradients(single, with_prefix(tensors, "grad."), fixture.json["config"]["text"]["fusion_layer"]);
      Run twice = run(fixture, tensors, at::kDouble);
      for (const auto& [name, value] : expected["losses_float64"].items()) {
        INFO(name << " in float64");
        const double ours = name == "total" ? twice.report.total.item<double>() : twice.report.mean(kLossNames.at(name)).value();
        CHECK(std::abs(ours - value.get<double>()) <= 1e-9 * std::abs(value.get<double>()));
      }
      ++scenarios;
    }
  }
  std::cout << "X-VLM parity: " << fixtures << " fixtures, " << scenarios << " scenarios, " << compared_numbers << " numbers compared" << std::endl;
  CHECK(scenarios > 0);
  CHECK(compared_numbers > 0);
}

}  // namespace
}  // namespace fgvl
