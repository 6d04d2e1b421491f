#include "fgvl/models/deduce.hpp"

#include <algorithm>

#include "fgvl/losses/language_model.hpp"
#include "fgvl/models/blip.hpp"
#include "models/small_model.hpp"
#include "support/catch.hpp"

using namespace fgvl;
using namespace fgvl::models;

namespace {

using State = std::vector<std::pair<std::string, Tensor>>;

std::string value_of(const Deduced& deduced, const std::string& key) {
  const Setting* found = deduced.find(key);
  return found == nullptr ? "absent" : found->source == SettingSource::kUnknown ? "?" : found->value;
}

SettingSource source_of(const Deduced& deduced, const std::string& key) {
  REQUIRE(deduced.find(key) != nullptr);
  return deduced.find(key)->source;
}

void check(const Deduced& deduced, const std::vector<std::pair<std::string, std::string>>& expected) {
  for (const auto& [key, value] : expected) {
    INFO(key);
    CHECK(value_of(deduced, key) == value);
  }
}

State state_of(const Model& model, const losses::Criterion& criterion) {
  State state = named_state(model, "model.");
  for (auto& entry : named_state(criterion, "losses.")) state.push_back(std::move(entry));
  return state;
}

/// Shapes without numbers: published sizes cost nothing.
State shapes(const std::vector<std::pair<std::string, std::vector<std::int64_t>>>& entries) {
  State state;
  for (const auto& [name, shape] : entries) state.emplace_back(name, at::empty(shape, at::TensorOptions(at::kMeta)));
  return state;
}

const std::string kOptions = "model.vision.options.";

TEST_CASE("deduce: the tensors of a model give its configuration back, whatever its vision encoder, and list what they cannot tell", "[deduce]") {
  const std::vector<std::pair<std::string, std::vector<std::pair<std::string, std::string>>>> expected = {
      {"vit", {{"image_size", "32"}, {"patch_size", "8"}, {"width", "16"}, {"layers", "1"}, {"mlp_ratio", "2"}, {"stem", "linear"}, {"heads", "?"}}},
      {"clip_vit", {{"image_size", "32"}, {"patch_size", "8"}, {"width", "16"}, {"layers", "2"}, {"mlp_width", "32"}, {"heads", "?"}, {"local_attn_depth", "2"}}},
      {"beit", {{"image_size", "32"}, {"patch_size", "8"}, {"width", "16"}, {"layers", "2"}, {"mlp_ratio", "2"}, {"heads", "2"}, {"relative_positions", "block"}}},
      {"beit, shared positions", {{"image_size", "32"}, {"patch_size", "8"}, {"width", "16"}, {"layers", "2"}, {"mlp_ratio", "2"}, {"heads", "2"}, {"relative_positions", "shared"}}},
      {"deit", {{"image_size", "32"}, {"patch_size", "8"}, {"width", "16"}, {"layers", "2"}, {"mlp_ratio", "2"}, {"heads", "?"}, {"local_attn_depth", "2"}}},
      // Its last stage, 4 tokens a side, is larger than a window of 3: without masks nothing shows the picture's size.
      {"swin", {{"image_size", "24"}, {"patch_size", "4"}, {"width", "8"}, {"depths", "[2, 2]"}, {"heads", "[2, 2]"}, {"window", "3"}, {"mlp_ratio", "2"}}}};
  for (const auto& [name, vision] : every_vision()) {
    INFO(name);
    const ModelPtr model = make(vision);
    losses::Criterion criterion(model->spec());
    const Deduced deduced = deduce(state_of(*model, add_terms(criterion, "foils")), "fgvl");
    CHECK(deduced.problems.empty());
    CHECK(deduced.vocab_size == kVocabulary);
    CHECK(deduced.max_tokens == 8);
    check(deduced, {{"model.vision.type", name.substr(0, name.find(','))},
                    {"model.text.type", "bert"},
                    {"model.text.options.width", "16"},
                    {"model.text.options.layers", "1"},
                    {"model.text.options.mlp_width", "32"},
                    {"model.text.options.max_tokens", "8"},
                    {"model.text.options.token_types", "2"},
                    {"model.text.options.embedding_norm", "true"},
                    {"model.text.options.norm", "post"},
                    {"model.text.options.heads", "?"},
                    {"model.fusion.options.layers", "2"},
                    {"model.fusion.options.mlp_width", "32"},
                    {"model.embed_dim", "8"},
                    {"losses.itc.type", "contrastive"},
                    {"losses.itm.type", "matching"},
                    {"losses.itm.options.temperature", "itc"},
                    {"losses.mlm.type", "masked_language"},
                    {"losses.box.type", "box_regression"},
                    {"model.box_head", "absent"}});
    const auto found = std::find_if(expected.begin(), expected.end(), [&, kind = name](const auto& entry) { return entry.first == kind; });
    REQUIRE(found != expected.end());
    for (const auto& [key, value] : found->second) {
      INFO(key);
      CHECK(value_of(deduced, kOptions + key) == value);
    }
  }
  // Norms before the layers, with one at the end.
  check(deduce(named_state(*make(false, 0, Norm::kPre), "model."), "fgvl"), {{"model.text.options.norm", "pre"}, {"model.fusion.options.norm", "pre"}, {"losses.itc.type", "absent"}});
}

TEST_CASE("deduce: BLIP's fusion is known by its decoder and has the text encoder's sizes, its language model by its head", "[deduce]") {
  const TextEncoderPtr text = make_text_encoder(BertOptions{.width = kWidth, .layers = 2, .heads = 2, .mlp_width = 32, .max_tokens = 8, .token_types = 0}, {.vocab_size = kVocabulary});
  const FusionEncoderPtr fusion =
      make_fusion_encoder(BlipFusionOptions{}, {.text_width = kWidth, .vision_width = kWidth, .text = text, .token_id = [](const std::string&) -> std::int64_t { return 7; }});
  const ModelPtr model = make_region_vlm({every_vision().front().second, text, fusion}, {.embed_dim = 8, .box_head = false});
  losses::Criterion criterion(model->spec());
  criterion.add("itm", losses::MatchingOptions{.head = losses::MatchingHead::kLinear}).add("say", losses::LanguageModelOptions{});
  const Deduced deduced = deduce(state_of(*model, criterion), "blip");
  CHECK(deduced.problems.empty());
  check(deduced, {{"model.fusion.type", "blip"},
                  {"model.fusion.options.layers", "absent"},
                  {"model.text.options.layers", "2"},
                  {"model.text.options.token_types", "0"},
                  {"model.box_head", "false"},
                  {"losses.itm.options.head", "linear"},
                  {"losses.say.type", "language_model"}});
}

TEST_CASE("deduce: a conv stem is read off its convolutions", "[deduce]") {
  const ModelPtr model = make(make_vision_encoder(VitOptions{.image_size = kImage, .patch_size = kPatch, .width = kWidth, .layers = 0, .heads = 2, .stem = Stem::kConv, .stem_channels = {6, 10}}));
  check(deduce(named_state(*model, "model."), "fgvl"),
        {{kOptions + "stem", "conv"}, {kOptions + "stem_channels", "[6, 10]"}, {kOptions + "patch_size", "8"}, {kOptions + "image_size", "32"}, {kOptions + "layers", "0"}, {kOptions + "width", "16"}});
}

TEST_CASE("deduce: heads are 64 channels wide where the width allows it, and listed as assumed", "[deduce]") {
  const Deduced deduced = deduce(shapes({{"model.vision_encoder.cls_token", {1, 1, 768}},
                                         {"model.vision_encoder.pos_embed", {1, 197, 768}},
                                         {"model.vision_encoder.patch_embed.proj.weight", {768, 3, 16, 16}},
                                         {"model.vision_encoder.blocks.11.mlp.fc1.weight", {3072, 768}},
                                         {"model.vision_encoder.blocks.0.mlp.fc1.weight", {3072, 768}}}),
                                 "xvlm");
  check(deduced, {{"model.vision.type", "deit"}, {kOptions + "image_size", "224"}, {kOptions + "layers", "12"}, {kOptions + "heads", "12"}, {kOptions + "mlp_ratio", "4"}, {kOptions + "local_attn_depth", "4"}});
  CHECK(source_of(deduced, kOptions + "heads") == SettingSource::kPublished);
  CHECK(source_of(deduced, kOptions + "local_attn_depth") == SettingSource::kPublished);
  CHECK(source_of(deduced, kOptions + "width") == SettingSource::kTensors);
  CHECK(deduced.problems.size() == 2);  // neither text nor fusion
  // ALBEF's ViT has no regions.
  check(deduce(shapes({{"model.vision_encoder.cls_token", {1, 1, 768}}, {"model.vision_encoder.blocks.11.norm1.weight", {768}}}), "albef"), {{kOptions + "local_attn_depth", "0"}, {kOptions + "width", "?"}});
}

TEST_CASE("deduce: a Swin's picture size comes from its masks, else the configuration, else it is assumed; contradictions are nobody's guess", "[deduce]") {
  const auto swin = [](std::int64_t window, const std::vector<std::pair<std::string, std::vector<std::int64_t>>>& more, const SavedConfiguration& saved) {
    State state = shapes({{"model.vision_encoder.patch_embed.proj.weight", {128, 3, 4, 4}}, {"model.vision_encoder.layers.0.blocks.0.mlp.fc1.weight", {512, 128}}});
    const std::vector<std::int64_t> depths = {2, 2, 18, 2};
    for (std::size_t stage = 0; stage < depths.size(); ++stage) {
      for (std::int64_t block = 0; block < depths[stage]; ++block) {
        const std::int64_t rows = (2 * window - 1) * (2 * window - 1), heads = std::int64_t{4} << stage;
        state.emplace_back("model.vision_encoder.layers." + std::to_string(stage) + ".blocks." + std::to_string(block) + ".attn.relative_position_bias_table", at::empty({rows, heads}, at::TensorOptions(at::kMeta)));
      }
    }
    for (auto& entry : shapes(more)) state.push_back(std::move(entry));
    return deduce(state, "xvlm", saved);
  };
  const std::pair<std::string, std::vector<std::int64_t>> masks = {"model.vision_encoder.layers.0.blocks.1.attn_mask", {64, 49, 49}}, other = {"model.vision_encoder.layers.1.blocks.1.attn_mask", {25, 49, 49}};
  const Deduced shown = swin(7, {masks}, {});
  check(shown, {{"model.vision.type", "swin"}, {kOptions + "image_size", "224"}, {kOptions + "window", "7"}, {kOptions + "depths", "[2, 2, 18, 2]"}, {kOptions + "heads", "[4, 8, 16, 32]"}, {kOptions + "mlp_ratio", "4"}});
  CHECK(source_of(shown, kOptions + "image_size") == SettingSource::kTensors);
  const Deduced written = swin(12, {}, {{"image_res", "768"}});
  check(written, {{kOptions + "image_size", "768"}, {kOptions + "window", "12"}});
  CHECK(source_of(written, kOptions + "image_size") == SettingSource::kConfiguration);
  const Deduced assumed = swin(12, {}, {});
  check(assumed, {{kOptions + "image_size", "384"}});
  CHECK(source_of(assumed, kOptions + "image_size") == SettingSource::kPublished);
  check(swin(7, {masks}, {{"image_res", "384"}}), {{kOptions + "image_size", "?"}});
  check(swin(7, {masks, other}, {}), {{kOptions + "image_size", "?"}});
}

TEST_CASE("deduce: what no encoder or loss of ours holds is named", "[deduce]") {
  const Deduced deduced = deduce(shapes({{"model.vision_encoder.conv1.weight", {8, 3, 7, 7}}, {"losses.mine.weight", {2}}, {"losses.m.itm_head.weight", {2, 16}}, {"losses.c.temperature.logit_scale", {}}}), "fgvl");
  REQUIRE(deduced.problems.size() == 4);
  CHECK_THAT(deduced.problems[0], Catch::Contains("vision encoder"));
  CHECK_THAT(deduced.problems[3], Catch::Contains("'mine'"));
  check(deduced, {{"losses.m.options.head", "linear"}, {"losses.m.options.temperature", "c"}, {"losses.c.options.temperature.kind", "log_scale"}, {"model.box_head", "false"}});
}

}  // namespace
