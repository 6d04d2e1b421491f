// golden/xvlm: official files, imported, give what the official code computed of the same inputs.
#include <fstream>

#include <torch/torch.h>

#include "fgvl/eval/inference.hpp"
#include "fgvl/train/import.hpp"
#include "golden/official_model.hpp"
#include "support/catch.hpp"

namespace fgvl::test {
namespace {

namespace fs = std::filesystem;

constexpr double kOutputTolerance = 2e-5;

std::string text_of(const nlohmann::json& value) {
  std::string text = value.dump();  // [2,2] -> [2, 2]
  for (std::size_t comma = text.find(','); comma != std::string::npos; comma = text.find(',', comma + 1)) text.insert(comma + 1, " ");
  return text;
}

/// What the fixture says of its model, as settings.
std::map<std::string, std::string> configuration_of(const OfficialModel& official) {
  const nlohmann::json &config = official.json["config"], &vision = config["vision"], &text = config["text"];
  const std::int64_t layers = text["layers"], text_layers = official.text_layers();
  std::map<std::string, std::string> expected = {{"model.embed_dim", text_of(config["embed_dim"])},
                                                 {"model.vision.options.image_size", text_of(config["image_res"])},
                                                 {"model.text.options.width", text_of(text["hidden"])},
                                                 {"model.text.options.layers", std::to_string(text_layers)},
                                                 {"model.text.options.heads", text_of(text["heads"])},
                                                 {"model.text.options.mlp_width", text_of(text["inter"])},
                                                 {"model.text.options.max_tokens", text_of(text["max_pos"])},
                                                 {"model.text.options.token_types", text_of(official.json["text_config"]["type_vocab_size"])},
                                                 {"model.text.options.layer_norm_eps", text_of(official.json["text_config"]["layer_norm_eps"])},
                                                 {"model.fusion.options.layers", std::to_string(layers - text_layers)},
                                                 {"model.fusion.options.heads", text_of(text["heads"])},
                                                 {"model.fusion.options.mlp_width", text_of(text["inter"])},
                                                 {"losses.itc.type", "contrastive"},
                                                 {"losses.itm.type", "matching"},
                                                 {"losses.mlm.type", "masked_language"},
                                                 {"losses.box.type", "box_regression"},
                                                 {"data.image.size", text_of(config["image_res"])},
                                                 {"data.tokenizer.max_tokens", text_of(text["max_pos"])},
                                                 {"data.tokenizer.max_words", text_of(official.json["checkpoint_config"]["max_words"])}};
  const auto add = [&](const char* key, const nlohmann::json& value) { expected[std::string("model.vision.options.") + key] = text_of(value); };
  if (vision["kind"] == "swin") {
    expected["model.vision.type"] = "swin";
    add("width", vision["embed_dim"]);
    add("depths", vision["depths"]);
    add("heads", vision["num_heads"]);
    add("window", vision["window_size"]);
    return expected;
  }
  add("patch_size", config["patch_size"]);
  add("width", config["vision_width"]);
  add("local_attn_depth", vision["local_attn_depth"]);
  if (vision["kind"] == "vit") {
    expected["model.vision.type"] = "deit";
    add("layers", vision["depth"]);
    add("heads", vision["num_heads"]);
  } else {
    expected["model.vision.type"] = "clip_vit";
    add("layers", vision["num_hidden_layers"]);
    add("heads", vision["num_attention_heads"]);
    add("mlp_width", vision["intermediate_size"]);
  }
  return expected;
}

/// Keys that no tensor shows, and that these small models have otherwise than published ones.
std::vector<std::string> needed_overrides(const std::map<std::string, std::string>& expected) {
  std::vector<std::string> overrides;
  for (const char* key : {"model.text.options.heads", "model.fusion.options.heads", "model.vision.options.heads", "model.vision.options.local_attn_depth"}) {
    const bool is_shown = std::string(key) == "model.vision.options.heads" && expected.at("model.vision.type") == "swin";
    if (expected.count(key) > 0 && !is_shown) overrides.push_back(std::string(key) + "=" + expected.at(key));
  }
  return overrides;
}

std::string write_vocabulary(const fs::path& folder, std::int64_t words) {
  std::ofstream file(folder / "words.txt");
  const std::vector<std::string> special = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
  for (const std::string& token : special) file << token << '\n';
  for (std::int64_t i = static_cast<std::int64_t>(special.size()); i < words; ++i) file << "word" << i << '\n';
  return (folder / "words.txt").string();
}

std::vector<fs::path> files_of(const OfficialModel& official) {
  std::vector<fs::path> files;
  for (const char* ending : {".th", ".legacy.th"}) {
    const fs::path path = official.folder / (official.name() + ending);
    if (fs::exists(path)) files.push_back(path);
  }
  return files;
}

double largest_difference(const Tensor& a, const Tensor& b) { return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>(); }

TEST_CASE("official files become folders whose configuration is the fixture's and whose scores are those of the official code", "[golden]") {
  FGVL_NEEDS_GOLDEN();
  const torch::NoGradGuard guard;
  int files = 0;
  for (const OfficialModel& official : official_models()) {
    if (official.kind().rfind("xvlm ", 0) != 0) continue;
    const auto expected = configuration_of(official);
    const OfficialRun reference = prepare(official, official.scenario("image_text"), at::kFloat);  // for its batch
    const Tensors out = with_prefix(official.scenario("image_text"), "out.");
    for (const fs::path& path : files_of(official)) {
      INFO(path);
      const fs::path folder = fresh_folder("golden_import");
      const train::ImportOptions options{.vocabulary = write_vocabulary(folder, official.json["config"]["text"]["vocab"]), .overrides = needed_overrides(expected)};
      const auto imported = train::import_checkpoint(path.string(), (folder / "model").string(), options);
      INFO(imported.status());
      REQUIRE(imported.ok());
      std::map<std::string, std::string> found;
      for (const models::Setting& setting : imported->settings) found[setting.key] = setting.value;
      for (const auto& [key, value] : expected) {
        INFO(key);
        CHECK(found[key] == value);
      }
      CHECK(imported->table.find("reshaped") == std::string::npos);
      CHECK(imported->table.find("missing") == std::string::npos);

      const auto inference = eval::Inference::open((folder / "model").string());
      INFO(inference.status());
      REQUIRE(inference.ok());
      const RegionBatch& batch = reference.batch;
      const auto pass = inference->run()->model->begin(batch);
      const eval::EncodedImages images{pass->image()};
      const eval::EncodedTexts texts{std::vector<std::string>(static_cast<std::size_t>(batch.text_count()), "text"), batch.text_ids, pass->text(), {}};
      const eval::Scores scores = inference->score(images, texts);
      CHECK(largest_difference(scores.itc / *inference->temperature(), out.at("sim_i2t")) < kOutputTolerance);
      CHECK(largest_difference(scores.itm.t(), out.at("match_prob_text_by_image")) < kOutputTolerance);
      const Tensors regions = official.scenario("region");
      const OfficialRun with_boxes = prepare(official, regions, at::kFloat);
      const auto region_pass = inference->run()->model->begin(with_boxes.batch);
      CHECK(largest_difference(region_pass->predicted_boxes(at::arange(with_boxes.batch.text_count())), with_prefix(regions, "out.").at("output_coord")) < kOutputTolerance);
      ++files;
    }
  }
  std::cout << "official files used: " << files << std::endl;
  CHECK(files > 0);
}

TEST_CASE("official files of small models ask for the heads that no tensor shows", "[golden]") {
  FGVL_NEEDS_GOLDEN();
  int files = 0;
  for (const OfficialModel& official : official_models()) {
    for (const fs::path& path : official.kind().rfind("xvlm ", 0) == 0 ? files_of(official) : std::vector<fs::path>()) {
      INFO(path);
      const fs::path folder = fresh_folder("golden_import");
      const auto imported = train::import_checkpoint(path.string(), (folder / "model").string(), {.vocabulary = write_vocabulary(folder, official.json["config"]["text"]["vocab"])});
      CHECK(exit_code(imported.status()) == ExitCode::kUsage);
      CHECK_THAT(std::string(imported.status().message()), Catch::Contains("model.text.options.heads=...") && Catch::Contains("model.fusion.options.heads=..."));
      CHECK_FALSE(fs::exists(folder / "model"));
      ++files;
    }
  }
  CHECK(files > 0);
}

}  // namespace
}  // namespace fgvl::test
