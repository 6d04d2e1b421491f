// import as a user meets it: an official file, a vocabulary and a picture.
#include <nlohmann/json.hpp>
#include <torch/torch.h>

#include "data/files.hpp"
#include "fgvl/core/checkpoint_file.hpp"
#include "fgvl/core/random.hpp"
#include "fgvl/data/text_pipeline.hpp"
#include "fgvl/eval/inference.hpp"
#include "fgvl/losses/box_regression.hpp"
#include "fgvl/losses/contrastive.hpp"
#include "fgvl/losses/criterion.hpp"
#include "fgvl/losses/masked_language.hpp"
#include "fgvl/losses/matching.hpp"
#include "fgvl/models/bert.hpp"
#include "fgvl/models/clip_vit.hpp"
#include "fgvl/models/name_map.hpp"
#include "fgvl/models/pretrained.hpp"
#include "fgvl/models/region_vlm.hpp"
#include "integration/program.hpp"
#include "support/catch.hpp"

namespace fgvl {
namespace {

namespace fs = std::filesystem;
using test::Arguments;
using test::Outcome;
using test::fgvl;
using test::read;

constexpr std::int64_t kImage = 32, kTokens = 16;
const std::vector<std::string> kWords = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "blue", "cup", "dog", "left", "right"};

/// A small X-VLM with weights of its own.
struct Official {
  explicit Official(std::int64_t width, std::int64_t heads) {
    const models::BertOptions text{.width = width, .layers = 1, .heads = heads, .mlp_width = 96, .max_tokens = kTokens};
    model = models::make_region_vlm({make_vision_encoder(models::ClipVitOptions{.image_size = kImage, .patch_size = 8, .width = width, .layers = 2, .heads = heads, .mlp_width = 80, .local_attn_depth = 2}),
                                     make_text_encoder(text, {.vocab_size = static_cast<std::int64_t>(kWords.size())}),
                                     make_fusion_encoder(models::BertFusionOptions{.layers = 2, .heads = heads, .mlp_width = 96}, {.text_width = width, .vision_width = width})},
                                    {.embed_dim = 16, .initializer_range = std::nullopt}, /*seed=*/11);
    criterion = std::make_shared<losses::Criterion>(model->spec());
    criterion->add("itc", losses::ContrastiveOptions{.temperature = {.init = 0.1}}).add("itm", losses::MatchingOptions{.temperature = "itc"}).add("mlm", losses::MaskedLanguageOptions{});
    criterion->add("box", losses::BoxRegressionOptions{});
    model->eval();
  }

  /// As the official code names them, second names of tied tensors included.
  NamedTensors tensors() const {
    NamedTensors ours = models::named_state(*model, "model.");
    for (auto& entry : models::named_state(*criterion, "losses.")) ours.push_back(std::move(entry));
    models::Translated official = models::translate(ours, *models::find_name_map("fgvl"), *models::find_name_map("xvlm"));
    REQUIRE(official.problems.empty());
    return official.tensors;
  }

  models::ModelPtr model;
  std::shared_ptr<losses::Criterion> criterion;
};

data::Image noise(std::int64_t width, std::int64_t height) {
  data::Image image = test::plain_image(width, height, 0);
  Generator generator({.seed = 5});
  for (std::uint8_t& value : image.pixels) value = static_cast<std::uint8_t>(generator.uniform_int(0, 255));
  return image;
}

void save(const fs::path& path, const NamedTensors& tensors, const std::string& config = "{\"image_res\": 32, \"max_tokens\": 40}") {
  const absl::Status written = write_torch_file(path.string(), tensors, {.config_json = config});
  INFO(written);
  REQUIRE(written.ok());
}

/// A folder with an official file, its vocabulary and a picture.
fs::path official_project(const std::string& name, const Official& official) {
  const fs::path folder = test::fresh_folder("cli_" + name);
  save(folder / "official.th", official.tensors());
  std::string vocabulary;
  for (const std::string& word : kWords) vocabulary += word + "\n";
  test::write(folder / "vocab.txt", vocabulary);
  test::write(folder / "picture.png", data::to_png(noise(50, 40)));
  return folder;
}

TEST_CASE("import: an official file scores, ranks and grounds a picture as the model that it is of; its folder stands alone", "[cli]") {
  const Official official(64, 1);
  const fs::path folder = official_project("import", official);
  const Outcome info = fgvl(folder, {"info", "official.th"});
  INFO(info.output);
  CHECK(info.code == 0);
  CHECK_THAT(info.output, Catch::Contains("vision     clip_vit, image_size 32, patch_size 8, width 64, layers 2, heads 1*, mlp_width 80, local_attn_depth 2*"));
  CHECK_THAT(info.output, Catch::Contains("losses     itc contrastive, itm matching, itm.temperature itc, mlm masked_language, box box_regression"));
  CHECK_THAT(info.output, Catch::Contains("fgvl import official.th FOLDER --vocabulary vocab.txt\n") && Catch::Contains("the vocabulary of 12 words") && Catch::Contains("MiB to run"));

  const Outcome imported = fgvl(folder, {"import", "official.th", "models/mine/", "--vocabulary", "vocab.txt"});
  INFO(imported.output);
  REQUIRE(imported.code == 0);
  CHECK_THAT(imported.output, Catch::Contains("* assumed") && Catch::Contains("model.vision.options.local_attn_depth=2") && Catch::Contains("data.image.mean=[0.48145466") && Catch::Contains("data.tokenizer.max_words=40"));
  CHECK_THAT(imported.output, Catch::Contains(" loaded") && Catch::Contains("2 tied"));
  CHECK_THAT(read(folder / "models/mine/init_from.txt"), Catch::Contains("official.th: PyTorch (zip), names of X-VLM"));
  for (const auto& entry : fs::directory_iterator(folder / "models")) CHECK(entry.path().filename() == "mine");  // nothing beside

  // Elsewhere, and without what it was made from.
  fs::rename(folder / "models/mine", folder / "moved");
  fs::rename(folder / "vocab.txt", folder / "other.txt");
  fs::remove(folder / "official.th");

  const data::TextPipeline pipeline(data::make_tokenizer(data::WordPieceOptions{}, kWords).value(), [] {
    data::TextOptions options;
    options.max_tokens = kTokens;
    return options;
  }());
  const auto by_hand = eval::Inference::make({*official.model, *official.criterion, at::kCPU}, pipeline, {.size = kImage});
  REQUIRE(by_hand.ok());
  const std::vector<std::string> sentences = {"a red cup", "The blue dog, on the left!"};
  const eval::EncodedTexts texts = by_hand->encode_texts(sentences).value();
  const data::Image picture = data::read_image((folder / "picture.png").string()).value();
  const eval::Scores expected = by_hand->score(by_hand->encode_images({picture}), texts);

  const Outcome scored = fgvl(folder, {"score", "moved", "picture.png", sentences[0], sentences[1], "--json", "s.json", "--device", "cpu"});
  INFO(scored.output);
  REQUIRE(scored.code == 0);
  const auto scores = nlohmann::json::parse(read(folder / "s.json"));
  CHECK(scores["temperature"].get<double>() == Approx(0.1));
  for (std::size_t i = 0; i < sentences.size(); ++i) {
    const auto column = static_cast<std::int64_t>(i);
    CHECK(scores["images"][0]["texts"][i]["itc"].get<double>() == Approx(expected.itc[0][column].item<double>()).margin(1e-6));
    CHECK(scores["images"][0]["texts"][i]["itm"].get<double>() == Approx(expected.itm[0][column].item<double>()).margin(1e-6));
  }
  const Outcome grounded = fgvl(folder, {"ground", "moved", "picture.png", sentences[0], "--json", "g.json", "--device", "cpu", "--no-picture"});
  INFO(grounded.output);
  REQUIRE(grounded.code == 0);
  const auto place = nlohmann::json::parse(read(folder / "g.json"))["images"][0]["texts"][0];
  const eval::Grounding box = by_hand->ground({picture}, texts)[0][0];
  for (std::size_t side = 0; side < 4; ++side) CHECK(place["box"][side].get<double>() == Approx(box.box[side]).margin(1e-3));
  CHECK(place["region_itc"].get<double>() == Approx(*box.region_itc).margin(1e-5));
  CHECK(fgvl(folder, {"rank", "moved", "picture.png", sentences[0], sentences[1], "--device", "cpu"}).code == 0);
  CHECK_THAT(fgvl(folder, {"info", "moved"}).output, Catch::Contains("image size 32, 17 visual tokens, embed dim 16"));
  CHECK_THAT(fgvl(folder, {"eval", "moved"}).output, Catch::Contains("this run has no probes"));
  // A damaged one is noticed as a run's would be.
  test::write(folder / "moved/vocab.txt", read(folder / "other.txt") + "more\n");
  const Outcome damaged = fgvl(folder, {"score", "moved", "picture.png", "a cup"});
  CHECK(damaged.code == 4);
  CHECK_THAT(damaged.output, Catch::Contains("moved/vocab.txt: damaged"));
}

TEST_CASE("import: settings are overridden as elsewhere, and every mistake has its own sentence and exit code", "[cli]") {
  const Official official(16, 2);
  const fs::path folder = official_project("import_mistakes", official);
  const Arguments heads = {"model.text.options.heads=2", "model.fusion.options.heads=2", "model.vision.options.heads=2"};
  const auto importing = [&](const std::string& file, const std::string& out, const Arguments& more, bool with_heads = true) {
    Arguments arguments = {"import", file, out};
    arguments.insert(arguments.end(), more.begin(), more.end());
    if (with_heads) arguments.insert(arguments.end(), heads.begin(), heads.end());
    return arguments;
  };
  const auto expect = [&](const Arguments& arguments, int code, const std::vector<std::string>& parts, const std::string& fault = "") {
    const Outcome outcome = fgvl(folder, arguments, {.fault = fault});
    INFO(outcome.output);
    CHECK(outcome.code == code);
    for (const std::string& part : parts) CHECK_THAT(outcome.output, Catch::Contains(part));
    CHECK(outcome.output.find("frame #") == std::string::npos);
    CHECK_FALSE(fs::exists(folder / "new"));
    CHECK_FALSE(fs::exists(folder / ".new.fgvl_partial"));
  };
  const Arguments words = {"--vocabulary", "vocab.txt"};
  expect(importing("official.th", "new", words, false), 2, {"model.vision.options.heads=...   no tensor shows the number of heads, and the width 16 is no multiple of 64", "model.text.options.heads=...", "model.fusion.options.heads=..."});
  expect({"info", "official.th"}, 0, {"heads ?", "? must be given", "FOLDER --vocabulary vocab.txt model.vision.options.heads=... model.text.options.heads=... model.fusion.options.heads=..."});
  expect(importing("official.th", "new", {}), 2, {"official.th: a file of weights has no tokenizer: name the vocabulary of 12 words", "--vocabulary"});
  expect(importing("official.th", "new", {"--vocabulary", "absent.txt"}), 2, {"absent.txt: cannot open"});
  std::string fewer = read(folder / "vocab.txt");
  test::write(folder / "fewer.txt", fewer.substr(0, fewer.rfind("right")));
  expect(importing("official.th", "new", {"--vocabulary", "fewer.txt"}), 2, {"fewer.txt: a vocabulary of 11 words, but the model has embeddings of 12"});
  test::write(folder / "text.bin", "no weights");
  expect(importing("text.bin", "new", words), 4, {"text.bin: neither a file of PyTorch nor safetensors"});
  expect(importing("absent.th", "new", words), 4, {"absent.th: cannot open"});
  save(folder / "stranger.th", {{"encoder.weight", at::ones({2})}});
  expect(importing("stranger.th", "new", words), 4, {"stranger.th: its names belong to no known family", "encoder.weight"});
  NamedTensors tensors = official.tensors(), fewer_tensors = tensors;
  std::erase_if(fewer_tensors, [](const auto& entry) { return entry.first == "text_proj.bias"; });
  save(folder / "fewer.th", fewer_tensors);
  expect(importing("fewer.th", "new", words), 4, {"fewer.th: its weights do not fit", "text_proj.bias"});
  std::erase_if(fewer_tensors, [](const auto& entry) { return entry.first == "vision_encoder.class_embedding"; });
  save(folder / "unknown_vision.th", fewer_tensors);
  expect(importing("unknown_vision.th", "new", words), 4, {"unknown_vision.th: these are weights of X-VLM, but its vision encoder is of a kind that this version does not know"});
  save(folder / "contradiction.th", tensors, "{\"image_res\": 64}");
  expect(importing("contradiction.th", "new", words), 2, {"model.vision.options.image_size=...   the tensors are of pictures of 32 pixels, the configuration beside them says 64"});
  expect(importing("official.th", "new", {"--vocabulary", "vocab.txt", "model.vision.options.depht=3"}), 2, {"model.vision.options.depht"});
  expect(importing("official.th", "new", {"--vocabulary", "vocab.txt", "nonsense"}), 2, {"argument 'nonsense': expected key=value"});
  expect(importing("official.th", "new", {"--vocabulary", "vocab.txt", "model.vision.options.width=24"}), 4, {"official.th: its weights do not fit"});
  expect({"import", "official.th", "new", "--vocabulary", "vocab.txt", "model.text.options.heads=2", "model.fusion.options.heads=2", "model.vision.options.heads=3"}, 2, {"model.vision.options: width: expected a multiple of heads 3, got 16"});
  expect(importing("official.th", "new", {"--vocabulary", "vocab.txt", "data.image.size=64"}), 2, {"data.image.size: 64, but the model sees pictures of 32"});
  expect(importing("official.th", "new", {"--vocabulary", "vocab.txt", "data.tokenizer.max_tokens=40"}), 2, {"data.tokenizer.max_tokens: 40, but the model has positions for 16"});
  expect(importing("official.th", "new", words), 4, {"No space left on device"}, "enospc:model.safetensors");
  test::write(folder / "full/notes.txt", "mine");
  expect(importing("official.th", "full", words), 2, {"full: exists already, and nothing is replaced"});
  CHECK(read(folder / "full/notes.txt") == "mine");
  expect({"convert", "official.th", "somewhere/"}, 2, {"fgvl import"});
  expect({"import", "--help"}, 0, {"FOLDER", "--vocabulary", "fgvl import official.th models/xvlm"});

  // Another picture size: positions are interpolated, and pictures are resized to it. An empty folder may be there.
  fs::create_directories(folder / "larger");
  const Outcome larger = fgvl(folder, importing("official.th", "larger", {"--vocabulary", "vocab.txt", "model.vision.options.image_size=64"}));
  INFO(larger.output);
  REQUIRE(larger.code == 0);
  CHECK_THAT(larger.output, Catch::Contains("1 reshaped") && Catch::Contains("model.vision.options.image_size=64") && Catch::Contains("pictures   size 64"));
  CHECK_THAT(read(folder / "larger/config.yaml"), Catch::Contains("  image:\n    size: 64\n"));
  CHECK(fgvl(folder, {"score", "larger", "picture.png", "a dog", "--device", "cpu"}).code == 0);
}

}  // namespace
}  // namespace fgvl
