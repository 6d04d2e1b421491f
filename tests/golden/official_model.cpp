#include "golden/official_model.hpp"

#include "fgvl/core/boxes.hpp"
#include "fgvl/core/safetensors.hpp"
#include "fgvl/losses/box_regression.hpp"
#include "fgvl/losses/contrastive.hpp"
#include "fgvl/losses/language_model.hpp"
#include "fgvl/losses/masked_language.hpp"
#include "fgvl/models/bert.hpp"
#include "fgvl/models/blip.hpp"
#include "fgvl/models/clip_vit.hpp"
#include "fgvl/models/deit.hpp"
#include "fgvl/models/name_map.hpp"
#include "fgvl/models/pretrained.hpp"
#include "support/catch.hpp"

namespace fgvl::test {
namespace {

using Json = nlohmann::json;

/// X-VLM's name of an input, or ALBEF's.
const Tensor& either(const Tensors& in, const std::string& xvlm, const std::string& albef) { return in.count(xvlm) > 0 ? in.at(xvlm) : in.at(albef); }

/// ALBEF's labels [T, L], -100 on tokens that are not masked, as positions and labels [T, M].
void set_masked(RegionBatch& batch, const Tensor& labels) {
  const Tensor masked = labels != -100;
  const Tensor places = masked.to(at::kLong).argsort(/*stable=*/true, /*dim=*/1, /*descending=*/true).slice(1, 0, masked.sum(1).max().item<std::int64_t>());
  batch.masked_positions = places.masked_fill(masked.gather(1, places).logical_not(), 0);
  batch.masked_labels = labels.gather(1, places);
}

/// The golden inputs as our batch: the mask of each region becomes the box that covers its patches.
RegionBatch make_batch(const Tensors& in, std::int64_t grid) {
  RegionBatch batch;
  batch.images = in.at("image");
  batch.text_ids = either(in, "text_ids", "input_ids");
  batch.text_mask = either(in, "text_atts", "attention_mask").to(at::kBool);
  if (in.count("text_ids_masked") > 0) {
    batch.masked_ids = in.at("text_ids_masked");
    batch.masked_positions = in.at("masked_pos");
    batch.masked_labels = in.at("masked_ids");
  } else if (in.count("mlm_input_ids") > 0) {
    batch.masked_ids = in.at("mlm_input_ids");
    set_masked(batch, in.at("mlm_labels"));
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

/// Modules and the beginning of their parameters' names.
std::vector<std::pair<std::string, torch::nn::Module*>> modules_of(const OfficialRun& run) { return {{"model.", run.model.get()}, {"losses.", run.criterion.get()}}; }

/// What every run begins with.
OfficialRun new_run(const OfficialModel& official) {
  const Json& config = official.json["config"];
  OfficialRun run;
  run.model = make_model(official);
  run.criterion = std::make_shared<losses::Criterion>(run.model->spec());
  run.grid = config["image_res"].get<std::int64_t>() / config["patch_size"].get<std::int64_t>();
  return run;
}

bool is_xvlm(const OfficialModel& official) { return official.names().family == "xvlm"; }
bool is_blip(const OfficialModel& official) { return official.names().family == "blip"; }

models::FusionEncoderPtr make_blip_fusion(const Json& json, const models::TextEncoderPtr& text) {
  const auto token_id = [ids = json["special_ids"]](const std::string& token) -> std::int64_t { return token == "[ENC]" ? ids["enc"] : token == "[DEC]" ? ids["bos_dec"] : Json(-1); };
  return make_fusion_encoder(models::BlipFusionOptions{}, {.text_width = text->width(), .vision_width = json["config"]["vision_width"], .text = text, .token_id = token_id});
}

}  // namespace

Tensors read_tensors(const std::filesystem::path& path) {
  auto read = read_safetensors(path.string());
  INFO(read.status().ToString());
  REQUIRE(read.ok());
  return {read->begin(), read->end()};
}

Tensors with_prefix(const Tensors& tensors, const std::string& prefix) {
  Tensors chosen;
  for (const auto& [name, value] : tensors) {
    if (name.rfind(prefix, 0) == 0) chosen[name.substr(prefix.size())] = value;
  }
  return chosen;
}

const models::NameMap& OfficialModel::names() const {
  const models::NameMap* found = models::find_name_map(folder.filename().string());
  INFO(folder);
  REQUIRE(found != nullptr);
  return *found;
}

Tensors OfficialModel::weights() const { return with_prefix(read_tensors(folder / (name() + ".weights.safetensors")), "model."); }
Tensors OfficialModel::scenario(const std::string& scenario) const { return read_tensors(folder / (name() + "." + scenario + ".safetensors")); }

std::vector<OfficialModel> official_models(const std::string& family) {
  std::vector<OfficialModel> models;
  for (Fixture& fixture : golden_json("state_dict")) {
    if (fixture.path.parent_path().filename() == family) models.push_back({fixture.path.parent_path(), std::move(fixture.json)});
  }
  return models;
}

models::SwinOptions swin_options(const Json& config) {
  const Json& vision = config["vision"];
  return {.image_size = config["image_res"], .width = vision["embed_dim"], .depths = vision["depths"], .heads = vision["num_heads"], .window = vision["window_size"], .drop_path = 0};
}

models::VisionEncoderPtr make_vision(const Json& config) {
  const Json& vision = config["vision"];
  if (vision["kind"] == "swin") return make_vision_encoder(swin_options(config));
  if (vision["kind"] == "vit") {
    return make_vision_encoder(models::DeitOptions{.image_size = config["image_res"], .patch_size = config["patch_size"], .width = config["vision_width"], .layers = vision["depth"],
                                                   .heads = vision["num_heads"], .local_attn_depth = vision.value("local_attn_depth", 0)});
  }
  return make_vision_encoder(models::ClipVitOptions{.image_size = config["image_res"], .patch_size = config["patch_size"], .width = config["vision_width"],
                                                    .layers = vision["num_hidden_layers"], .heads = vision["num_attention_heads"], .mlp_width = vision["intermediate_size"],
                                                    .local_attn_depth = vision["local_attn_depth"]});
}

models::ModelPtr make_model(const OfficialModel& official) {
  const Json &config = official.json["config"], &text_config = official.json["text_config"], &text = config["text"];
  const std::int64_t layers = text["layers"], text_layers = is_blip(official) ? layers : official.text_layers();
  const models::BertOptions bert{.width = text["hidden"], .layers = text_layers, .heads = text["heads"], .mlp_width = text["inter"], .max_tokens = text["max_pos"],
                                 .token_types = is_blip(official) ? 0 : text_config["type_vocab_size"].get<std::int64_t>(), .layer_norm_eps = text_config["layer_norm_eps"], .dropout = 0};
  const models::TextEncoderPtr encoder = make_text_encoder(bert, {.vocab_size = text_config["vocab_size"]});
  const models::BertFusionOptions fusion{.layers = layers - text_layers, .heads = text["heads"], .mlp_width = text["inter"], .layer_norm_eps = text_config["layer_norm_eps"], .dropout = 0};
  return models::make_region_vlm({make_vision(config), encoder, is_blip(official) ? make_blip_fusion(official.json, encoder) : make_fusion_encoder(fusion, {.text_width = text["hidden"], .vision_width = config["vision_width"]})},
                                 {.embed_dim = config["embed_dim"], .box_head = is_xvlm(official)});
}

void load(OfficialRun& run, const OfficialModel& official, const Tensors& weights, models::LoadOptions options) {
  options.names = &official.names();
  options.text_layers = official.text_layers();
  std::vector<std::pair<std::string, Tensor>> targets;
  for (const auto& [prefix, module] : modules_of(run)) {
    for (auto& entry : models::named_state(*module, prefix)) targets.push_back(std::move(entry));
  }
  run.loaded = models::load_named(targets, {weights.begin(), weights.end()}, options);
  INFO(run.loaded.problems());
  REQUIRE(run.loaded.ok());
}

OfficialRun prepare(const OfficialModel& official, const Tensors& scenario, at::ScalarType dtype) {
  OfficialRun run = new_run(official);
  const Tensors in = with_prefix(scenario, "in.");
  // Retrieval fine-tuning, where pairs have identities: equal ones are positives of one another, which is what ours do without `reference`.
  const bool retrieval = in.count("idx") > 0;
  run.negatives = {.visual_for_text = at::zeros_like(in.at("neg_image_idx")), .text_for_visual = at::zeros_like(in.at("neg_text_idx"))};
  run.criterion->add("itc", losses::ContrastiveOptions{.temperature = {.init = official.json["config"].value("temp", 0.07)}, .reference = !retrieval})
      .add("itm", losses::MatchingOptions{.temperature = "itc", .reference = !retrieval, .head = is_xvlm(official) ? losses::MatchingHead::kMlp : losses::MatchingHead::kLinear,
                                          .given = run.negatives});
  if (in.count("text_ids_masked") + in.count("mlm_input_ids") > 0) run.criterion->add("mlm", losses::MaskedLanguageOptions{});
  if (is_blip(official)) run.criterion->add("lm", losses::LanguageModelOptions{.label_smoothing = official.json["label_smoothing"]});
  if (in.count("idx_to_group_img") > 0) run.criterion->add("box", losses::BoxRegressionOptions{});
  // A retrieval scenario has no masked words, and so no head for them.
  load(run, official, official.weights(), {.allow_unexpected = retrieval ? std::vector<std::string>{"text_encoder.cls.*"} : std::vector<std::string>()});
  run.model->to(dtype);
  run.criterion->to(dtype);
  run.take_inputs(scenario);
  return run;
}

void OfficialRun::take_inputs(const Tensors& scenario) {
  const Tensors in = with_prefix(scenario, "in.");
  if (negatives.visual_for_text.defined()) {
    negatives.visual_for_text.copy_(in.at("neg_image_idx"));
    negatives.text_for_visual.copy_(in.at("neg_text_idx"));
  }
  const at::ScalarType dtype = model->parameters().front().scalar_type();
  batch = make_batch(in, grid);
  batch.images = batch.images.to(dtype);
  batch.boxes = batch.boxes.to(dtype);
  batch = batch.to(model->parameters().front().device());
}

void OfficialRun::forward() {
  pass = model->begin(batch);
  report = criterion->forward(*pass);
}

Tensor OfficialRun::matching_logits() {
  const Tensor all = at::arange(batch.text_count(), batch.text_ids.options());
  const Tensor negative = pass->fuse({.text_index = at::cat({all, negatives.text_for_visual}), .visual_index = at::cat({negatives.visual_for_text, all}),
                                      .positions = at::zeros({2 * batch.text_count(), 1}, all.options())});
  return dynamic_cast<losses::PairScorer&>(*criterion->find("itm")).pair_logits(at::cat({pass->matched(), negative.select(1, 0)}));
}

void check_close(const std::string& name, const Tensor& ours, const Tensor& golden, double tolerance) {
  INFO(name);
  REQUIRE(ours.sizes() == golden.sizes());
  const double difference = (ours.cpu().to(at::kDouble) - golden.to(at::kDouble)).abs().max().item<double>();
  CHECK(difference <= tolerance);
  compared_numbers += ours.numel();
}

void check_gradients(const OfficialModel& official, const OfficialRun& run, const Tensor& total, const Tensors& golden) {
  total.backward();
  Tensors ours;
  for (const auto& [prefix, module] : modules_of(run)) {
    for (const auto& parameter : module->named_parameters()) {
      const std::string name = prefix + parameter.key();
      ours[models::to_official(official.names(), name, official.text_layers()).value_or(name)] = parameter.value().grad();
    }
  }
  std::int64_t compared = 0;
  for (const auto& [name, expected] : golden) {
    INFO("gradient of " << name);
    REQUIRE(ours.count(name) == 1);
    REQUIRE(ours[name].defined());
    const double difference = (ours[name].cpu() - expected).norm().item<double>();
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

}  // namespace fgvl::test
