#include "golden/official_model.hpp"

#include "fgvl/core/boxes.hpp"
#include "fgvl/core/safetensors.hpp"
#include "fgvl/losses/box_regression.hpp"
#include "fgvl/losses/contrastive.hpp"
#include "fgvl/losses/masked_language.hpp"
#include "fgvl/models/bert.hpp"
#include "fgvl/models/clip_vit.hpp"
#include "fgvl/models/deit.hpp"
#include "fgvl/models/name_map.hpp"
#include "fgvl/models/pretrained.hpp"
#include "support/catch.hpp"

namespace fgvl::test {
namespace {

using Json = nlohmann::json;

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

std::string OfficialModel::kind() const {
  if (!json.contains("scenarios")) return folder.filename().string();
  return "xvlm " + json["config"]["vision"]["kind"].get<std::string>();
}

Tensors OfficialModel::weights() const { return with_prefix(read_tensors(folder / (name() + ".weights.safetensors")), "model."); }
Tensors OfficialModel::scenario(const std::string& scenario) const { return read_tensors(folder / (name() + "." + scenario + ".safetensors")); }

std::vector<OfficialModel> official_models() {
  std::vector<OfficialModel> models;
  for (Fixture& fixture : golden_json("state_dict")) models.push_back({fixture.path.parent_path(), std::move(fixture.json)});
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
                                                   .heads = vision["num_heads"], .local_attn_depth = vision["local_attn_depth"]});
  }
  return make_vision_encoder(models::ClipVitOptions{.image_size = config["image_res"], .patch_size = config["patch_size"], .width = config["vision_width"],
                                                    .layers = vision["num_hidden_layers"], .heads = vision["num_attention_heads"], .mlp_width = vision["intermediate_size"],
                                                    .local_attn_depth = vision["local_attn_depth"]});
}

models::ModelPtr make_model(const OfficialModel& official) {
  const Json &config = official.json["config"], &text_config = official.json["text_config"], &text = config["text"];
  const std::int64_t text_layers = official.text_layers(), layers = text["layers"];
  const models::BertOptions bert{.width = text["hidden"], .layers = text_layers, .heads = text["heads"], .mlp_width = text["inter"], .max_tokens = text["max_pos"],
                                 .token_types = text_config["type_vocab_size"], .layer_norm_eps = text_config["layer_norm_eps"], .dropout = 0};
  const models::BertFusionOptions fusion{.layers = layers - text_layers, .heads = text["heads"], .mlp_width = text["inter"], .layer_norm_eps = text_config["layer_norm_eps"], .dropout = 0};
  return models::make_region_vlm({make_vision(config), make_text_encoder(bert, {.vocab_size = text["vocab"]}),
                                  make_fusion_encoder(fusion, {.text_width = text["hidden"], .vision_width = config["vision_width"]})},
                                 {.embed_dim = config["embed_dim"]});
}

OfficialRun prepare(const OfficialModel& official, const Tensors& scenario, at::ScalarType dtype) {
  const Json& config = official.json["config"];
  OfficialRun run;
  run.model = make_model(official);
  const Tensors in = with_prefix(scenario, "in.");
  run.batch = make_batch(in, config["image_res"].get<std::int64_t>() / config["patch_size"].get<std::int64_t>());
  // Retrieval fine-tuning, where pairs have identities: equal ones are positives of one another, which is what ours do without `reference`.
  const bool retrieval = in.count("idx") > 0;
  run.negatives = {.visual_for_text = in.at("neg_image_idx").clone(), .text_for_visual = in.at("neg_text_idx").clone()};
  run.criterion = std::make_shared<losses::Criterion>(run.model->spec());
  run.criterion->add("itc", losses::ContrastiveOptions{.temperature = {.init = config["temp"]}, .reference = !retrieval})
      .add("itm", losses::MatchingOptions{.temperature = "itc", .reference = !retrieval, .given = run.negatives});
  if (run.batch.masked_ids.defined()) run.criterion->add("mlm", losses::MaskedLanguageOptions{});
  if (in.count("idx_to_group_img") > 0) run.criterion->add("box", losses::BoxRegressionOptions{});
  const Tensors weights = official.weights();
  auto targets = models::named_state(*run.model, "model.");
  for (auto& entry : models::named_state(*run.criterion, "losses.")) targets.push_back(std::move(entry));
  // A scenario without boxes or masked words has no head for them.
  const models::LoadReport loaded = models::load_named(targets, {weights.begin(), weights.end()}, {.names = models::find_name_map("xvlm"), .text_layers = official.text_layers(), .allow_unexpected = {"text_encoder.cls.*"}});
  INFO(loaded.problems());
  REQUIRE(loaded.ok());
  run.model->to(dtype);
  run.criterion->to(dtype);
  run.batch.images = run.batch.images.to(dtype);
  run.batch.boxes = run.batch.boxes.to(dtype);
  return run;
}

void OfficialRun::forward() {
  pass = model->begin(batch);
  report = criterion->forward(*pass);
}

}  // namespace fgvl::test
