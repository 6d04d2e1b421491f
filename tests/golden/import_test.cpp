// golden/xvlm, albef and pevl: official weights, imported, give what the official code computed of the same inputs.
#include <fstream>
#include <functional>

#include <torch/torch.h>

#include "fgvl/eval/inference.hpp"
#include "fgvl/train/import.hpp"
#include "golden/official_model.hpp"
#include "support/catch.hpp"
#include "support/folders.hpp"

namespace fgvl::test {
namespace {

namespace fs = std::filesystem;

std::string text_of(const nlohmann::json& value) {
  std::string text = value.dump();  // [2,2] -> [2, 2]
  for (std::size_t comma = text.find(','); comma != std::string::npos; comma = text.find(',', comma + 1)) text.insert(comma + 1, " ");
  return text;
}

std::string family_of(const OfficialModel& official) { return official.folder.filename().string(); }

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
                                                 {"data.image.size", text_of(config["image_res"])},
                                                 {"data.tokenizer.prepare", family_of(official)},
                                                 {"data.tokenizer.max_tokens", text_of(std::min<std::int64_t>(text["max_pos"].get<std::int64_t>(), family_of(official) == "pevl" ? 200 : 30))}};
  const auto add = [&](const char* key, const nlohmann::json& value) { expected[std::string("model.vision.options.") + key] = text_of(value); };
  if (family_of(official) == "xvlm") {
    expected["losses.box.type"] = "box_regression";
    expected["data.tokenizer.max_words"] = text_of(official.json["checkpoint_config"]["max_words"]);
  } else {
    expected["model.box_head"] = "false";
    expected["losses.itm.options.head"] = "linear";
    add("local_attn_depth", 0);
  }
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
  if (vision.contains("local_attn_depth")) add("local_attn_depth", vision["local_attn_depth"]);
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

/// BERT's special tokens at the fixture's ids, its unused ones where position tokens take their places, and any words else.
std::string write_vocabulary(const fs::path& folder, const OfficialModel& official) {
  const nlohmann::json& ids = official.json["special_ids"];
  std::vector<std::string> tokens(official.json["config"]["text"]["vocab"].get<std::size_t>());
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = "word" + std::to_string(i);
  if (ids.contains("pos_0")) {
    for (std::size_t i = ids["min_pos"].get<std::size_t>(); i <= ids["max_pos"].get<std::size_t>(); ++i) tokens[i] = "[unused" + std::to_string(i - 5) + "]";
  }
  const std::vector<std::pair<std::string, std::string>> special = {{"pad", "[PAD]"}, {"unk", "[UNK]"}, {"cls", "[CLS]"}, {"sep", "[SEP]"}, {"mask", "[MASK]"}};
  for (const auto& [key, token] : special) tokens[ids[key].get<std::size_t>()] = token;
  std::ofstream file(folder / "words.txt");
  for (const std::string& token : tokens) file << token << '\n';
  return (folder / "words.txt").string();
}

/// The files of a fixture. Where it has weights alone, one is written to `folder` as the official code does.
std::vector<fs::path> files_of(const OfficialModel& official, const fs::path& folder) {
  std::vector<fs::path> files;
  for (const char* ending : {".th", ".legacy.th"}) {
    const fs::path path = official.folder / (official.name() + ending);
    if (fs::exists(path)) files.push_back(path);
  }
  if (!files.empty()) return files;
  const Tensors weights = official.weights();
  REQUIRE(write_torch_file((folder / "written.th").string(), {weights.begin(), weights.end()}).ok());
  return {folder / "written.th"};
}

/// Captions of whole pictures.
RegionBatch captions(const Tensor& images, const Tensor& ids, const Tensor& mask) {
  const std::int64_t texts = ids.size(0);
  RegionBatch batch;
  batch.images = images;
  batch.text_ids = ids;
  batch.text_mask = mask.to(at::kBool);
  batch.text_to_image = at::arange(texts);
  batch.is_region = at::zeros({texts}, at::kBool);
  batch.boxes = torch::tensor({0.5f, 0.5f, 1.f, 1.f}).expand({texts, 4}).contiguous();
  batch.text_key = at::arange(texts);
  return batch;
}

eval::Scores scores_of(const eval::Inference& inference, const RegionBatch& batch) {
  const auto pass = inference.run()->model->begin(batch);
  const eval::EncodedImages images{pass->image()};
  return inference.score(images, {std::vector<std::string>(static_cast<std::size_t>(batch.text_count()), "text"), batch.text_ids, pass->text(), {}});
}

double largest_difference(const Tensor& a, const Tensor& b) { return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>(); }

/// Imports every file of the fixture, checks the settings against what the fixture says, and hands the opened model to `use`.
int import_all(const OfficialModel& official, const std::function<void(const eval::Inference&)>& use) {
  int files = 0;
  const auto expected = configuration_of(official);
  const fs::path folder = fresh_folder("golden_import");
  for (const fs::path& path : files_of(official, folder)) {
    INFO(path);
    fs::remove_all(folder / "model");
    const auto imported = train::import_checkpoint(path.string(), (folder / "model").string(), {.vocabulary = write_vocabulary(folder, official), .overrides = needed_overrides(expected)});
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
    use(*inference);
    ++files;
  }
  return files;
}

TEST_CASE("X-VLM's files become folders whose configuration is the fixture's and whose scores and boxes are those of the official code", "[golden]") {
  FGVL_NEEDS_GOLDEN();
  const torch::NoGradGuard guard;
  int files = 0;
  for (const OfficialModel& official : official_models("xvlm")) {
    const Tensors pairs = official.scenario("image_text"), regions = official.scenario("region"), out = with_prefix(pairs, "out.");
    files += import_all(official, [&](const eval::Inference& inference) {
      const eval::Scores scores = scores_of(inference, captions(pairs.at("in.image"), pairs.at("in.text_ids"), pairs.at("in.text_atts")));
      CHECK(largest_difference(scores.itc / *inference.temperature(), out.at("sim_i2t")) < kOutputTolerance);
      CHECK(largest_difference(scores.itm.t(), out.at("match_prob_text_by_image")) < kOutputTolerance);
      RegionBatch batch = captions(regions.at("in.image"), regions.at("in.text_ids"), regions.at("in.text_atts"));
      batch.text_to_image = regions.at("in.idx_to_group_img");
      const auto pass = inference.run()->model->begin(batch);
      CHECK(largest_difference(pass->predicted_boxes(at::arange(batch.text_count())), regions.at("out.output_coord")) < kOutputTolerance);
    });
  }
  std::cout << "X-VLM: " << files << " official files used" << std::endl;
  CHECK(files > 0);
}

TEST_CASE("ALBEF's and PEVL's weights become folders likewise: linear matching head, no boxes, position tokens", "[golden]") {
  FGVL_NEEDS_GOLDEN();
  const torch::NoGradGuard guard;
  for (const std::string family : {"albef", "pevl"}) {
    INFO(family);
    int files = 0;
    for (const OfficialModel& official : official_models(family)) {
      const Tensors step = official.scenario("step1");
      files += import_all(official, [&](const eval::Inference& inference) {
        const RegionBatch batch = captions(step.at("in.image"), step.at("in.input_ids"), step.at("in.attention_mask"));
        // The first rows of itm_logits are the true pairs.
        const Tensor expected = step.at("out.itm_logits").slice(0, 0, batch.text_count()).softmax(1).select(1, 1);
        CHECK(largest_difference(scores_of(inference, batch).itm.diagonal(), expected) < kOutputTolerance);
        CHECK(inference.run()->texts->tokenizer().ids("[pos_3]").size() == (family == "pevl" ? 1U : 5U));
        CHECK_FALSE(inference.has_box_head());
        REQUIRE(inference.has_position_tokens() == (family == "pevl"));
        if (!inference.has_position_tokens()) return;
        CHECK(inference.run()->config.losses.back().first == "position");
        const data::Image picture{64, 32, std::vector<std::uint8_t>(64 * 32 * 3, 90)};
        const data::PixelBox box = inference.ground({picture}, inference.encode_texts_to_ground({"[MASK]"}).value())[0][0].box;
        CHECK((box[0] <= box[2] && box[2] < 64 && box[1] <= box[3] && box[3] < 32));
        for (const double side : box) CHECK(std::fmod(side * kPositionBins, 32) == 0);
      });
    }
    CHECK(files == 1);
  }
}

TEST_CASE("official files of small models ask for the heads that no tensor shows", "[golden]") {
  FGVL_NEEDS_GOLDEN();
  int files = 0;
  for (const OfficialModel& official : official_models("xvlm")) {
    const fs::path folder = fresh_folder("golden_import");
    for (const fs::path& path : files_of(official, folder)) {
      INFO(path);
      const auto imported = train::import_checkpoint(path.string(), (folder / "model").string(), {.vocabulary = write_vocabulary(folder, official)});
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
