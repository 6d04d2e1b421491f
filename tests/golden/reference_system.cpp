#include "golden/reference_system.hpp"

#include "fgvl/core/config.hpp"
#include "support/catch.hpp"

namespace fgvl::test {
namespace {

using Json = nlohmann::json;

std::string assignment(const std::string& key, const Json& value) { return key + "=" + value.dump(); }

void add_vision(const Json& config, std::vector<std::string>& overrides) {
  const Json& vision = config["vision"];
  const std::string options = "model.vision.options.", kind = vision["kind"];
  const auto add = [&](const char* key, const Json& value) { overrides.push_back(assignment(options + key, value)); };
  if (kind == "swin") {
    for (const auto& [ours, official] : {std::pair{"width", "embed_dim"}, {"depths", "depths"}, {"heads", "num_heads"}, {"window", "window_size"}}) add(ours, vision[official]);
    add("drop_path", 0);
  } else {
    // The files are written for one kind of vision encoder; others replace it.
    if (kind == "clip") overrides.insert(overrides.end(), {"model.vision=null", "model.vision.type=clip_vit"});
    if (kind == "vit") overrides.insert(overrides.end(), {"model.vision=null", "model.vision.type=deit"});
    add("patch_size", config["patch_size"]);
    add("width", config["vision_width"]);
    add("layers", vision[kind == "vit" ? "depth" : "num_hidden_layers"]);
    add("heads", vision[kind == "vit" ? "num_heads" : "num_attention_heads"]);
    if (kind != "vit") add("mlp_width", vision["intermediate_size"]);
    add("local_attn_depth", vision.value("local_attn_depth", 0));
  }
  add("image_size", config["image_res"]);
}

void add_text(const OfficialModel& official, std::vector<std::string>& overrides) {
  const Json &json = official.json, &text = json["config"]["text"];
  const bool shared = official.names().family == "blip";  // its fusion encoder is the text encoder
  const std::int64_t layers = text["layers"], text_layers = shared ? layers : official.text_layers();
  for (const std::string part : {"text", "fusion"}) {
    const std::string options = "model." + part + ".options.";
    const auto add = [&](const char* key, const Json& value) { overrides.push_back(assignment(options + key, value)); };
    if (part == "fusion" && shared) continue;
    add("layers", part == "text" ? text_layers : layers - text_layers);
    add("heads", text["heads"]);
    add("mlp_width", text["inter"]);
    add("layer_norm_eps", json["text_config"]["layer_norm_eps"]);
    add("dropout", 0);
    add("attention_dropout", 0);
    if (part == "fusion") continue;
    add("width", text["hidden"]);
    add("max_tokens", text["max_pos"]);
  }
}

/// The share of the momentum model's soft targets in each step of the fixture; PEVL's has one step and one share.
void add_alpha(const std::string& key, const Json& shares, std::vector<std::string>& overrides) {
  const Json alpha = shares.is_array() ? shares : Json::array({shares});
  overrides.push_back(key + "=null");
  Json steps = Json::array();
  for (std::size_t step = 0; step < alpha.size(); ++step) steps.push_back(step);
  overrides.push_back(key + "={type: step, steps: " + steps.dump() + ", values: " + alpha.dump() + "}");
}

}  // namespace

train::RunConfig reference_config(const OfficialModel& official, const losses::GivenNegatives& negatives, const std::vector<std::string>& overrides) {
  const Json& config = official.json["config"];
  const std::string family = official.names().family;
  std::vector<std::string> all = {assignment("model.embed_dim", config["embed_dim"]), assignment("data.image.size", config["image_res"]), "losses.itc.options.temperature.init=" + Json(config.value("temp", 0.07)).dump()};
  add_vision(config, all);
  add_text(official, all);
  if (config.contains("momentum")) {
    all.push_back(assignment("model.momentum.decay", config["momentum"]));
    all.push_back(assignment("losses.itc.options.queue.size", config["queue_size"]));
    add_alpha("losses.itc.options.alpha", config["alpha"], all);
    if (family != "blip") add_alpha("losses.mlm.options.distillation.alpha", config["alpha"], all);
  }
  all.insert(all.end(), overrides.begin(), overrides.end());
  auto document = config::Document::load(std::string(FGVL_SOURCE_DIR) + "/configs/reference/" + family + ".yaml");
  INFO(document.status().ToString());
  REQUIRE(document.ok());
  const absl::Status overridden = document->override_with(all);
  INFO(overridden.ToString());
  REQUIRE(overridden.ok());
  train::RunRegistries registries;
  // Negatives of the fixture instead of drawn ones, which no file can hold.
  registries.terms->add("matching", [negatives](losses::MatchingOptions options, const FeatureSpec& spec) {
    options.given = negatives;
    return make_term(options, spec);
  }, losses::MatchingOptions{});
  auto read = config::read(*document, train::RunConfig(registries));
  INFO(read.status().ToString());
  REQUIRE(read.ok());
  return *read;
}

OfficialRun prepare_reference(const OfficialModel& official, const Tensors& scenario, const at::TensorOptions& where, const std::vector<std::string>& overrides) {
  const Json& json = official.json;
  const Tensors in = with_prefix(scenario, "in.");
  OfficialRun run;
  run.negatives = {.visual_for_text = at::zeros_like(in.at("neg_image_idx"), where.device()), .text_for_visual = at::zeros_like(in.at("neg_text_idx"), where.device())};
  const train::RunConfig config = reference_config(official, run.negatives, overrides);
  const auto token_id = [ids = json.value("special_ids", Json::object())](const std::string& token) -> std::int64_t { return token == "[ENC]" ? ids.value("enc", -1) : token == "[DEC]" ? ids.value("bos_dec", -1) : token == "[pos_0]" ? ids.value("pos_0", -1) : -1; };
  run.model = models::make_model(config.model, {.vocab_size = json["text_config"]["vocab_size"], .token_id = token_id}, /*seed=*/0);
  run.criterion = losses::make_criterion(config.losses, run.model->spec());
  run.grid = json["config"]["image_res"].get<std::int64_t>() / json["config"]["patch_size"].get<std::int64_t>();
  load(run, official, official.weights(), {.new_objective = true});
  const at::ScalarType dtype = c10::typeMetaToScalarType(where.dtype());
  for (torch::nn::Module* module : std::initializer_list<torch::nn::Module*>{run.model.get(), run.criterion.get()}) {
    module->to(dtype);  // floating-point values alone, unlike both at once
    module->to(where.device());
  }
  run.take_inputs(scenario);
  return run;
}

}  // namespace fgvl::test
