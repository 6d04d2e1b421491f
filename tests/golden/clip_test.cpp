// Parity with transformers' CLIPModel and OpenCLIP's classes, by what tests/reference/clip.py wrote.
#include <algorithm>
#include <cstring>
#include <set>

#include "fgvl/core/checkpoint_file.hpp"
#include "fgvl/core/config.hpp"
#include "fgvl/core/glob.hpp"
#include "fgvl/data/data_config.hpp"
#include "fgvl/losses/contrastive.hpp"
#include "fgvl/models/clip_text.hpp"
#include "fgvl/models/clip_vit.hpp"
#include "fgvl/models/pretrained.hpp"
#include "golden/official_model.hpp"
#include "support/catch.hpp"

namespace fgvl {
namespace {

using models::Activation;
using models::LoadOutcome;
using models::LoadReport;
using models::NameMap;
using test::Tensors;
using test::with_prefix;
using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr double kLossTolerance = 1e-5, kOutputTolerance = 2e-5, kLogitTolerance = 1e-4;  // logits are 14 times a similarity

fs::path fixture(const std::string& name) { return fs::path(FGVL_SOURCE_DIR) / "tests/reference/clip" / name; }

Json read_json(const fs::path& path) {
  INFO(path);
  std::ifstream stream(path);
  REQUIRE(stream.good());
  return Json::parse(stream);
}

NamedTensors named(const Tensors& tensors) { return {tensors.begin(), tensors.end()}; }

NamedTensors read_weights(const fs::path& path) {
  auto file = open_checkpoint(path.string());
  INFO(file.status().ToString());
  REQUIRE(file.ok());
  return file->tensors;
}

/// A CLIP made the way a user makes one.
struct Clip {
  models::ModelPtr model;
  std::shared_ptr<losses::Criterion> criterion;

  NamedTensors state() const {
    NamedTensors all = models::named_state(*model, "model.");
    for (auto& entry : models::named_state(*criterion, "losses.")) all.push_back(std::move(entry));
    return all;
  }
  void to(at::ScalarType dtype) const {
    model->to(dtype);
    criterion->to(dtype);
  }
};

/// `config`: of transformers' CLIPConfig.
Clip make_clip(const Json& config, Activation activation = Activation::kQuickGelu) {
  const Json &vision = config["vision_config"], &text = config["text_config"];
  const models::ClipVitOptions images{.image_size = vision["image_size"], .patch_size = vision["patch_size"], .width = vision["hidden_size"], .layers = vision["num_hidden_layers"],
                                      .heads = vision["num_attention_heads"], .mlp_width = vision["intermediate_size"], .local_attn_depth = 1, .activation = activation};
  const models::ClipTextOptions texts{.width = text["hidden_size"], .layers = text["num_hidden_layers"], .heads = text["num_attention_heads"], .mlp_width = text["intermediate_size"],
                                      .max_tokens = text["max_position_embeddings"], .activation = activation};
  Clip clip;
  clip.model = models::make_region_vlm({make_vision_encoder(images), make_text_encoder(texts, {.vocab_size = text["vocab_size"]}), make_fusion_encoder(models::NoFusionOptions{}, {})},
                                       {.embed_dim = config["projection_dim"], .projection_bias = false});
  clip.criterion = std::make_shared<losses::Criterion>(clip.model->spec());
  clip.criterion->add("itc", losses::ContrastiveOptions{.temperature = {.kind = losses::TemperatureKind::kLogScale, .min = 0.01}});
  clip.model->eval();
  return clip;
}

/// Loads every tensor of a checkpoint of family `family`, nothing missing and nothing left over.
void load(const Clip& clip, const NamedTensors& weights, const std::string& family) {
  const NameMap* map = models::recognise(models::names_of(weights));
  REQUIRE(map != nullptr);
  CHECK(map->family == family);
  const NamedTensors targets = clip.state();
  const LoadReport report = models::load_named(targets, weights, {.names = map});
  INFO(report.table());
  REQUIRE(report.ok());
  CHECK(report.count(LoadOutcome::kLoaded) == static_cast<std::int64_t>(targets.size()));
  CHECK(report.count(LoadOutcome::kLoaded) + report.count(LoadOutcome::kDerived) == static_cast<std::int64_t>(report.rows.size()));
}

RegionBatch make_batch(const Tensors& in) {
  RegionBatch batch;
  batch.images = in.at("pixel_values");
  batch.text_ids = in.at("input_ids");
  batch.text_mask = in.at("attention_mask").to(at::kBool);
  const std::int64_t texts = batch.text_ids.size(0);
  batch.text_to_image = batch.text_key = at::arange(texts);
  batch.is_region = at::zeros({texts}, at::kBool);
  batch.boxes = torch::tensor({0.5f, 0.5f, 1.f, 1.f}).repeat({texts, 1});
  batch.validate();
  return batch;
}

void check_close(const std::string& name, const Tensor& ours, const Tensor& expected, double tolerance) {
  INFO(name);
  REQUIRE(ours.sizes() == expected.sizes());
  CHECK((ours.to(at::kDouble) - expected.to(at::kDouble)).abs().max().item<double>() <= tolerance);
}

void check_features(ForwardPass& pass, const Tensors& expected, double tolerance) {
  check_close("image_features", pass.image().features, expected.at("image_features"), tolerance);
  check_close("text_features", pass.text().features, expected.at("text_features"), tolerance);
}

/// Features, logits and loss; the loss with its graph.
Tensor check_outputs(const Clip& clip, const RegionBatch& batch, const Tensors& expected) {
  const auto pass = clip.model->begin(batch);
  check_features(*pass, expected, kOutputTolerance);
  const Tensor divisor = dynamic_cast<losses::TemperatureSource&>(*clip.criterion->find("itc")).divisor();
  check_close("logits_per_image", at::matmul(pass->image().features, pass->text().features.t()) / divisor, expected.at("logits_per_image"), kLogitTolerance);
  const losses::LossReport report = clip.criterion->forward(*pass);
  check_close("loss", report.total, expected.at("loss"), kLossTolerance);
  return report.total;
}

bool same_bytes(const Tensor& a, const Tensor& b) {
  if (a.sizes() != b.sizes() || a.scalar_type() != b.scalar_type()) return false;
  const Tensor first = a.contiguous(), second = b.contiguous();
  return std::memcmp(first.const_data_ptr(), second.const_data_ptr(), first.nbytes()) == 0;
}

void check_same(const NamedTensors& found, const NamedTensors& expected) {
  const Tensors by_name(found.begin(), found.end());
  CHECK(by_name.size() == expected.size());
  for (const auto& [name, tensor] : expected) {
    INFO(name);
    REQUIRE(by_name.count(name) == 1);
    CHECK(same_bytes(by_name.at(name), tensor));
  }
}

NamedTensors translated(const NamedTensors& tensors, const std::string& to) {
  const NameMap* from = models::recognise(models::names_of(tensors));
  REQUIRE(from != nullptr);
  const models::Translated result = models::translate(tensors, *from, *models::find_name_map(to));
  CHECK(result.problems == std::vector<std::string>{});
  return result.tensors;
}

/// The three forms of the small model: transformers' names, OpenAI's, and OpenCLIP's with a text tower of its own.
std::vector<std::pair<std::string, NamedTensors>> forms(const Tensors& fixture_tensors) {
  const NamedTensors openai = read_weights(fixture("clip_tiny.openai.pt"));
  NamedTensors apart;
  for (const auto& [name, tensor] : openai) apart.emplace_back(matches_any({"visual.*", "logit_scale"}, name) ? name : "text." + name, tensor);
  return {{"clip_transformers", named(with_prefix(fixture_tensors, "model."))}, {"clip", openai}, {"open_clip", apart}};
}

TEST_CASE("CLIP: outputs, loss and gradients equal transformers', whatever names the weights come under", "[golden]") {
  const Json json = read_json(fixture("clip_tiny.json"));
  const Tensors tensors = test::read_tensors(fixture("clip_tiny.safetensors")), gradients = with_prefix(tensors, "grad.");
  RegionBatch batch = make_batch(with_prefix(tensors, "in."));
  for (const auto& [family, weights] : forms(tensors)) {
    INFO(family);
    const Clip clip = make_clip(json["config"]);
    load(clip, weights, family);
    check_outputs(clip, batch, with_prefix(tensors, "out.")).backward();
    std::size_t compared = 0;
    for (const auto& [name, parameter] : clip.state()) {
      const std::string official = models::to_official(*models::find_name_map("clip_transformers"), name, 0).value();
      INFO("gradient of " << official);
      REQUIRE(gradients.count(official) == 1);
      const Tensor& expected = gradients.at(official);
      CHECK((parameter.grad() - expected).norm().item<double>() <= 2e-4 * expected.norm().item<double>() + 1e-5);
      ++compared;
    }
    CHECK(compared == gradients.size());
    // OpenCLIP's own class, of the same weights.
    check_features(*clip.model->begin(batch), with_prefix(tensors, "open_clip."), kOutputTolerance);
  }
  const Clip exact = make_clip(json["config"], Activation::kGelu);
  load(exact, named(with_prefix(tensors, "model.")), "clip_transformers");
  check_outputs(exact, batch, with_prefix(tensors, "gelu."));

  const Clip twice = make_clip(json["config"]);
  load(twice, named(with_prefix(tensors, "model.")), "clip_transformers");
  twice.to(at::kDouble);
  batch.images = batch.images.to(at::kDouble);
  batch.boxes = batch.boxes.to(at::kDouble);
  const double loss = twice.criterion->forward(*twice.model->begin(batch)).total.item<double>(), expected = json["loss_float64"];
  CHECK(std::abs(loss - expected) <= 1e-9 * std::abs(expected));
}

TEST_CASE("CLIP: an archive like OpenAI's, in half precision and with sizes among its tensors, is read whole", "[golden]") {
  const Json json = read_json(fixture("clip_tiny.json"));
  const Clip half = make_clip(json["config"]), full = make_clip(json["config"]);
  const NamedTensors archive = read_weights(fixture("clip_tiny.openai.jit.pt"));
  CHECK(models::names_of(archive).size() == read_weights(fixture("clip_tiny.openai.pt")).size() + 3);
  load(half, archive, "clip");
  load(full, read_weights(fixture("clip_tiny.openai.pt")), "clip");
  const NamedTensors rounded = half.state(), exact = full.state();
  for (std::size_t i = 0; i < exact.size(); ++i) {
    INFO(exact[i].first);
    CHECK(at::equal(rounded[i].second, exact[i].second.to(at::kHalf).to(at::kFloat)));
  }
}

TEST_CASE("CLIP: official -> fgvl -> official gives every tensor back byte for byte", "[golden]") {
  const Tensors tensors = test::read_tensors(fixture("clip_tiny.safetensors"));
  auto all = forms(tensors);
  all.emplace_back("clip", read_weights(fixture("clip_tiny.openai.jit.pt")));
  all[0].second.emplace_back("text_model.embeddings.position_ids", torch::arange(10).unsqueeze(0));  // as transformers' files had them until 4.31
  all[0].second.emplace_back("vision_model.embeddings.position_ids", torch::arange(17).unsqueeze(0));
  for (const auto& [family, weights] : all) {
    INFO(family);
    const NamedTensors ours = translated(weights, "fgvl");
    CHECK(models::recognise(models::names_of(ours))->family == "fgvl");
    check_same(translated(ours, family), weights);
  }
  // From one family to another, without the tables that only one of them keeps.
  check_same(translated(all[3].second, "clip_transformers"), translated(translated(all[3].second, "fgvl"), "clip_transformers"));
  const NamedTensors transformers = named(with_prefix(tensors, "model."));
  check_same(translated(all[1].second, "clip_transformers"), transformers);
  check_same(translated(transformers, "clip"), all[1].second);
}

TEST_CASE("CLIP: on the way to our names, parts of an official tensor are views of it", "[golden]") {
  const NamedTensors weights = read_weights(fixture("clip_tiny.openai.pt"));
  std::set<const void*> storages;
  for (const auto& [name, tensor] : weights) storages.insert(tensor.storage().data());
  for (const auto& [name, tensor] : translated(weights, "fgvl")) {
    INFO(name);
    CHECK(storages.count(tensor.storage().data()) == 1);
  }
}

TEST_CASE("CLIP: a run's own checkpoint is recognised, loads again and becomes an official file", "[golden]") {
  const Json json = read_json(fixture("clip_tiny.json"));
  const NamedTensors official = read_weights(fixture("clip_tiny.openai.pt"));
  const Clip trained = make_clip(json["config"]), again = make_clip(json["config"]);
  load(trained, official, "clip");
  NamedTensors saved = trained.state();
  const std::vector<std::string> names = models::checkpoint_names(models::names_of(saved));
  for (std::size_t i = 0; i < saved.size(); ++i) saved[i].first = names[i];
  load(again, saved, "fgvl_dual");
  check_same(again.state(), trained.state());
  check_same(translated(saved, "clip"), official);
}

TEST_CASE("CLIP: what does not fit is named", "[golden]") {
  const Json json = read_json(fixture("clip_tiny.json"));
  const NamedTensors official = read_weights(fixture("clip_tiny.openai.pt"));
  const auto changed = [&](const std::string& name, const Tensor& value) {
    NamedTensors weights;
    for (const auto& entry : official) {
      if (entry.first != name) weights.push_back(entry);
      if (entry.first == name && value.defined()) weights.emplace_back(name, value);
    }
    return weights;
  };
  const auto problems = [&](const NamedTensors& weights) {
    return models::load_named(make_clip(json["config"]).state(), weights, {.names = models::find_name_map("clip")}).problems();
  };
  const std::string joined = "visual.transformer.resblocks.1.attn.in_proj_weight";
  CHECK_THAT(problems(changed(joined, torch::ones({71, 24}))), Catch::Contains("[71, 24] in the checkpoint, part 2 of 3"));
  CHECK_THAT(problems(changed(joined, {})), Catch::Contains("MISSING") && Catch::Contains("encoder.layers.1.self_attn.k_proj.weight <- " + joined));
  CHECK_THAT(problems(changed("visual.proj", torch::ones({24, 11}))), Catch::Contains("[11, 24] in the checkpoint, transposed, [12, 24] in the model"));
  // A tensor of which a part is not there is not made.
  NamedTensors ours = translated(official, "fgvl");
  std::erase_if(ours, [](const auto& entry) { return entry.first == "model.text_encoder.text_model.encoder.layers.0.self_attn.v_proj.bias"; });
  const auto missing = models::translate(ours, *models::find_name_map("fgvl"), *models::find_name_map("clip")).problems;
  REQUIRE(missing.size() == 1);
  CHECK_THAT(missing[0], Catch::Contains("transformer.resblocks.0.attn.in_proj_bias"));
}

TEST_CASE("CLIP: models of ordinary size equal transformers' and OpenCLIP's", "[golden]") {
  const char* named_folder = std::getenv("FGVL_ORDINARY_MODELS");
  if (named_folder == nullptr || !fs::exists(fs::path(named_folder) / "clip_vit_b32.json")) {
    std::cout << "SKIPPED: CLIP of ordinary size (tests/reference/clip.py ordinary FOLDER; set FGVL_ORDINARY_MODELS=FOLDER)" << std::endl;
    SUCCEED("skipped");
    return;
  }
  torch::NoGradGuard guard;
  const fs::path folder = named_folder;
  const Json config = read_json(folder / "clip_vit_b32.json")["config"];
  constexpr double kTolerance = 1e-5;
  struct Case {
    std::string weights, family, expected;
    Activation activation;
  };
  for (const Case& one : {Case{"clip_vit_b32", "clip_transformers", "clip_vit_b32", Activation::kQuickGelu}, Case{"open_clip_vit_b32.pt", "open_clip", "open_clip_vit_b32", Activation::kGelu}}) {
    INFO(one.weights);
    const Tensors tensors = test::read_tensors(folder / (one.expected + ".expected.safetensors"));
    const Clip clip = make_clip(config, one.activation);
    load(clip, read_weights(folder / one.weights), one.family);
    check_features(*clip.model->begin(make_batch(with_prefix(tensors, "in."))), with_prefix(tensors, "out."), kTolerance);
  }
}

/// What a file of configs/models says of a model.
struct ModelFile {
  std::int64_t format = 1;
  models::ModelConfig model{};
  losses::CriterionConfig losses{};
  data::DataConfig data{};
};
void visit_fields(config::Visitor& visitor, ModelFile& file) {
  visitor("format", file.format, "");
  visitor("model", file.model, "");
  visitor.entries("losses", file.losses, losses::TermConfig{Choice<losses::LossTermPtr, FeatureSpec>(losses::builtin_terms(), ""), 1.0, {}}, "");
  visitor("data", file.data, "");
}

TEST_CASE("CLIP: the configurations in configs/models make models of the published sizes", "[golden]") {
  const auto read = [](const std::string& name) {
    auto document = config::Document::load((fs::path(FGVL_SOURCE_DIR) / "configs/models" / (name + ".yaml")).string());
    INFO(name << ": " << document.status().ToString());
    REQUIRE(document.ok());
    const auto file = config::read(*document, ModelFile{});
    INFO(file.status().ToString());
    REQUIRE(file.ok());
    const std::string yaml = config::to_yaml(*file);  // reads back to the same, `fusion: {type: none}` and its options without fields too
    const auto again = config::Document::parse(yaml);
    REQUIRE(again.ok());
    const auto read_back = config::read(*again, ModelFile{});
    REQUIRE(read_back.ok());
    CHECK(config::to_yaml(*read_back) == yaml);
    return *file;
  };
  const auto yaml_of = [&](const std::string& name) { return config::to_yaml(read(name)); };
  CHECK_THAT(yaml_of("clip_vit_b16"), Catch::Contains("patch_size: 16") && Catch::Contains("embed_dim: 512"));
  CHECK_THAT(yaml_of("clip_vit_l14"), Catch::Contains("patch_size: 14") && Catch::Contains("embed_dim: 768") && Catch::Contains("layers: 24") && Catch::Contains("mlp_width: 4096") && Catch::Contains("mlp_width: 3072"));

  const ModelFile b32 = read("clip_vit_b32");
  CHECK(b32.data.image.size == 224);
  CHECK((b32.data.tokenizer.add_sep && b32.data.tokenizer.max_tokens == 77 && b32.data.tokenizer.prepare == data::CaptionStyle::kNone));
  const models::ModelPtr model = models::make_model(b32.model, {.vocab_size = 49408}, 0);
  const auto criterion = losses::make_criterion(b32.losses, model->spec());
  std::int64_t parameters = models::describe(*model, 77).total_parameters;
  for (const Tensor& parameter : criterion->parameters()) parameters += parameter.numel();
  CHECK(parameters == 151277313);  // "Model parameters" of ViT-B/32 in openai/CLIP, notebooks/Interacting_with_CLIP.ipynb
}

TEST_CASE("CLIP: texts are <start_of_text> ... <end_of_text>, and a text cut short still ends so", "[golden]") {
  data::TextOptions options;
  auto document = config::Document::parse("{type: clip_bpe, prepare: none, max_tokens: 8, add_sep: true, masking: {probability: 0}, vocabulary: " +
                                          (fs::path(FGVL_SOURCE_DIR) / "tests/reference/tokenizers/clip_bpe/bpe_small_vocab.txt.gz").string() + "}");
  REQUIRE(document.ok());
  options = config::read(*document, options).value();
  const data::TextPipeline pipeline(data::open_tokenizer(options).value(), options);
  const std::int64_t words = pipeline.tokenizer().size(), start = words - 2, end = words - 1;  // the end-of-text token has the highest id, by which OpenAI's code finds it
  for (const char* text : {"A cat.", "a photo of a man riding a horse next to two umbrellas"}) {
    INFO(text);
    const std::vector<std::int64_t> ids = pipeline.encode(pipeline.prepare(text).value());
    CHECK(ids.size() <= 8);
    CHECK(ids.front() == start);
    CHECK(ids.back() == end);
    CHECK(std::max_element(ids.begin(), ids.end()) == ids.end() - 1);
  }
  CHECK(pipeline.tokenizer().pad_id() == 0);
}

}  // namespace
}  // namespace fgvl
