#include <torch/torch.h>

#include "fgvl/core/glob.hpp"
#include "fgvl/models/interpolate.hpp"
#include "fgvl/models/pretrained.hpp"
#include "support/catch.hpp"

namespace fgvl::models {
namespace {

using Tensors = std::vector<std::pair<std::string, Tensor>>;

const NameMap& xvlm() { return *find_name_map("xvlm"); }

/// A model of four tensors under our names.
Tensors targets() {
  return {{"model.text_encoder.embeddings.word_embeddings.weight", torch::zeros({5, 2})},
          {"model.fusion_encoder.layer.0.crossattention.self.query.weight", torch::zeros({2, 2})},
          {"losses.words.bias", torch::zeros({5})},
          {"model.vision_encoder.layers.0.attn.relative_position_index", torch::zeros({2}, at::kLong)}};
}

/// Its official checkpoint, after 3 text layers.
Tensors official() {
  const Tensor words = torch::randn({5, 2}), bias = torch::randn({5});
  return {{"text_encoder.bert.embeddings.word_embeddings.weight", words},
          {"text_encoder.bert.encoder.layer.3.crossattention.self.query.weight", torch::randn({2, 2})},
          {"text_encoder.cls.predictions.bias", bias},
          {"text_encoder.cls.predictions.decoder.weight", words},
          {"text_encoder.cls.predictions.decoder.bias", bias.clone()},
          {"text_encoder.bert.embeddings.position_ids", torch::arange(4)}};
}

LoadOptions options() { return {.names = &xvlm(), .text_layers = 3}; }

TEST_CASE("globs: a star takes any characters, dots too", "[pretrained]") {
  CHECK(matches_glob("vision.*", "vision.layers.0.weight"));
  CHECK(matches_glob("*.layer.?.*.bias", "text.layer.7.output.dense.bias"));
  CHECK(matches_glob("a*b*c", "abbbc"));
  CHECK(matches_glob("*", ""));
  CHECK_FALSE(matches_glob("vision", "vision.layers"));
  CHECK_FALSE(matches_glob("*.bias", "bias.weight"));
  CHECK_FALSE(matches_glob("a?c", "ac"));
}

TEST_CASE("name maps translate both ways, and layers move by the number of text layers", "[pretrained]") {
  const std::vector<std::pair<std::string, std::string>> pairs = {
      {"model.fusion_encoder.layer.0.crossattention.self.key.weight", "text_encoder.bert.encoder.layer.6.crossattention.self.key.weight"},
      {"model.text_encoder.layer.5.output.dense.bias", "text_encoder.bert.encoder.layer.5.output.dense.bias"},
      {"model.text_encoder.embeddings.LayerNorm.weight", "text_encoder.bert.embeddings.LayerNorm.weight"},
      {"model.vision_encoder.layers.2.blocks.11.attn.qkv.weight", "vision_encoder.layers.2.blocks.11.attn.qkv.weight"},
      {"model.bbox_head.0.weight", "bbox_head.0.weight"},
      {"losses.itm.itm_head.1.bias", "itm_head.1.bias"},
      {"losses.itc.temperature.temp", "temp"},
      {"losses.mlm.dense.weight", "text_encoder.cls.predictions.transform.dense.weight"},
      {"losses.mlm.LayerNorm.bias", "text_encoder.cls.predictions.transform.LayerNorm.bias"},
      {"losses.mlm.bias", "text_encoder.cls.predictions.bias"}};
  for (const auto& [ours, theirs] : pairs) {
    CHECK(to_official(xvlm(), ours, 6) == theirs);
    CHECK(to_ours(xvlm(), theirs, 6) == ours);
  }
  // Terms carry the user's names.
  CHECK(to_official(xvlm(), "losses.any name.itm_head.0.weight", 6) == "itm_head.0.weight");
  CHECK_FALSE(to_official(xvlm(), "losses.foil.head.weight", 6).has_value());
  CHECK_FALSE(to_ours(xvlm(), "visual_encoder.cls_token", 6).has_value());
}

TEST_CASE("families are recognised by their names", "[pretrained]") {
  const auto family = [](const std::vector<std::string>& names) {
    const NameMap* map = recognise(names);
    return map == nullptr ? std::string() : map->family;
  };
  CHECK(family({"vision_encoder.norm.weight", "text_encoder.bert.encoder.layer.6.crossattention.self.key.bias", "vision_proj.weight"}) == "xvlm");
  CHECK(family({"model.vision_encoder.x", "model.text_encoder.x", "model.fusion_encoder.x", "model.vision_proj.weight"}) == "fgvl");
  CHECK(family({"visual_encoder.cls_token", "text_encoder.bert.embeddings.LayerNorm.bias", "vision_proj.weight"}) == "albef");
  CHECK(family({"visual_encoder.cls_token", "text_encoder.bert.embeddings.LayerNorm.bias", "vision_proj.weight", "image_idx_queue"}) == "pevl");
  CHECK(family({"visual_encoder.cls_token", "text_encoder.encoder.layer.0.crossattention.self.key.bias", "text_decoder.bert.embeddings.LayerNorm.bias"}) == "blip");
  CHECK(family({"visual.proj", "transformer.resblocks.0.ln_1.bias", "logit_scale"}) == "clip");
  CHECK(family({"vision_encoder.blocks.0.attn.q_bias", "vision_encoder.norm.weight", "text_encoder.bert.encoder.layer.12.crossattention.self.key.bias", "vision_proj.weight"}) == "x2vlm");
  CHECK(family({"vision_encoder.norm.weight", "text_encoder.encoder.layer.0.x", "cross_encoder.encoder.layer.0.crossattention.self.key.bias", "vision_proj.weight"}) == "x2vlm_plus");
  CHECK(family({"vision_encoder.norm.weight", "text_encoder.embeddings.LayerNorm.bias", "text_encoder.encoder.layer.6.crossattention.self.key.bias"}) == "xvlm_finetuned");
  CHECK(family({"bert.embeddings.word_embeddings.weight", "bert.embeddings.LayerNorm.weight", "bert.encoder.layer.0.attention.self.query.weight"}) == "bert");
  CHECK(family({"bert.embeddings.word_embeddings.weight", "bert.embeddings.LayerNorm.gamma", "bert.encoder.layer.0.attention.self.query.weight"}) == "bert_tensorflow");
  CHECK(family({"roberta.embeddings.word_embeddings.weight", "roberta.encoder.layer.0.attention.self.query.weight"}) == "roberta");
  CHECK(family({"embeddings.word_embeddings.weight", "encoder.layer.0.attention.self.query.weight"}) == "bert_encoder");
  CHECK(family({"fc.weight"}).empty());
  CHECK(text_layers_of({"text_encoder.bert.encoder.layer.7.crossattention.x", "text_encoder.bert.encoder.layer.6.crossattention.x", "text_encoder.bert.encoder.layer.5.x"}) == 6);
  CHECK(text_layers_of({"model.text_encoder.layer.0.x", "model.text_encoder.layer.3.x"}) == 4);
  CHECK(text_layers_of({"text_encoder.encoder.layer.13.crossattention.x", "text_encoder.encoder.layer.12.crossattention.x", "text_encoder.encoder.layer.11.x"}) == 12);
  CHECK(text_layers_of({"text_encoder.encoder.layer.11.x", "cross_encoder.encoder.layer.0.crossattention.x"}) == 12);
  CHECK(text_layers_of({"roberta.encoder.layer.11.x"}) == 12);
}

/// A BERT of `layers` layers; every tensor holds another number.
Tensors bert_file(std::int64_t layers, const std::string& prefix, bool tensorflow) {
  Tensors file = {{prefix + "embeddings.word_embeddings.weight", torch::full({5, 2}, 100.0)},
                  {prefix + (tensorflow ? "embeddings.LayerNorm.gamma" : "embeddings.LayerNorm.weight"), torch::full({2}, 101.0)},
                  {prefix + "encoder.layer.0.attention.self.query.weight", torch::full({2, 2}, 102.0)}};
  for (std::int64_t i = 0; i < layers; ++i) file.emplace_back(prefix + "encoder.layer." + std::to_string(i) + ".output.LayerNorm." + (tensorflow ? "beta" : "bias"), torch::full({2}, static_cast<double>(i)));
  file.emplace_back(prefix + "pooler.dense.bias", torch::ones({2}));
  return file;
}

TEST_CASE("a BERT starts text and fusion layers: the first of its layers, and its last", "[pretrained]") {
  for (const bool tensorflow : {false, true}) {
    for (const std::string prefix : {"bert.", "roberta.", ""}) {
      if (tensorflow && prefix != "bert.") continue;
      // X-VLM splits 12 layers into 6 + 6, X2-VLM takes 12 + 6 of them.
      for (const std::int64_t text_layers : {6, 12}) {
        INFO(prefix << " " << tensorflow << " " << text_layers);
        Tensors model = {{"model.text_encoder.embeddings.word_embeddings.weight", torch::zeros({5, 2})},
                         {"model.text_encoder.embeddings.LayerNorm.weight", torch::zeros({2})},
                         {"model.text_encoder.layer.0.attention.self.query.weight", torch::zeros({2, 2})},
                         {"model.fusion_encoder.layer.0.crossattention.self.query.weight", torch::zeros({2, 2})},
                         {"model.vision_encoder.pos_embed", torch::zeros({1})}};
        const std::size_t first = model.size();
        for (std::int64_t i = 0; i < text_layers; ++i) model.emplace_back("model.text_encoder.layer." + std::to_string(i) + ".output.LayerNorm.bias", torch::zeros({2}));
        for (std::int64_t i = 0; i < 6; ++i) model.emplace_back("model.fusion_encoder.layer." + std::to_string(i) + ".output.LayerNorm.bias", torch::zeros({2}));
        const Tensors file = bert_file(12, prefix, tensorflow);
        const NameMap* map = recognise(names_of(file));
        REQUIRE(map != nullptr);
        LoadOptions from_bert{.names = map, .text_layers = text_layers_of(*map, names_of(file), names_of(model))};
        CHECK_FALSE(load_named(model, file, from_bert).ok());
        from_bert.allow_missing = {"model.vision_encoder.*", "model.fusion_encoder.*.crossattention.*"};
        from_bert.allow_unexpected = {"*pooler.*"};
        const LoadReport report = load_named(model, file, from_bert);
        INFO(report.table());
        REQUIRE(report.ok());
        CHECK(model[0].second[0][0].item<double>() == 100);
        CHECK(model[1].second[0].item<double>() == 101);
        CHECK(model[2].second[0][0].item<double>() == 102);
        for (std::int64_t i = 0; i < text_layers; ++i) CHECK(model[first + static_cast<std::size_t>(i)].second[0].item<std::int64_t>() == i);
        for (std::int64_t i = 0; i < 6; ++i) CHECK(model[first + static_cast<std::size_t>(text_layers + i)].second[0].item<std::int64_t>() == 6 + i);
      }
    }
  }
}

TEST_CASE("text encoders of transformers and X2-VLM's models translate there and back", "[pretrained]") {
  const NameMap& fgvl = *find_name_map("fgvl");
  const auto round_trip = [&](const Tensors& file, const std::string& family) {
    const NameMap* map = recognise(names_of(file));
    REQUIRE(map != nullptr);
    CHECK(map->family == family);
    const Translated ours = translate(file, *map, fgvl);
    INFO(::Catch::Detail::stringify(ours.problems));
    CHECK(ours.problems.empty());
    const std::map<std::string, Tensor> expected(file.begin(), file.end());
    const Translated back = translate(ours.tensors, fgvl, *map);
    CHECK(std::map<std::string, Tensor>(back.tensors.begin(), back.tensors.end()).size() == expected.size());
    for (const auto& [name, tensor] : back.tensors) {
      INFO(name);
      REQUIRE(expected.count(name) == 1);
      CHECK(at::equal(tensor, expected.at(name)));
    }
    return ours.tensors;
  };
  const Tensor words = torch::randn({5, 2}), bias = torch::randn({5}), one = torch::randn({2}), two = torch::randn({2}), three = torch::randn({2});
  Tensors bert = bert_file(3, "bert.", true);
  bert.pop_back();  // the pooler has no place in ours
  bert.insert(bert.end(), {{"cls.predictions.bias", bias}, {"cls.predictions.transform.LayerNorm.gamma", one}, {"cls.predictions.decoder.bias", bias}, {"cls.predictions.decoder.weight", bert[0].second}});
  round_trip(bert, "bert_tensorflow");
  Tensors roberta = bert_file(3, "roberta.", false);
  roberta.pop_back();
  roberta.insert(roberta.end(), {{"lm_head.bias", bias}, {"lm_head.layer_norm.weight", one}, {"lm_head.dense.bias", two}, {"lm_head.decoder.weight", roberta[0].second}, {"lm_head.decoder.bias", bias}});
  CHECK(names_of(round_trip(roberta, "roberta")).back() == "losses.mlm.dense.bias");
  const auto x2vlm = round_trip({{"vision_encoder.blocks.0.attn.q_bias", one}, {"vision_proj.weight", words}, {"text_encoder.bert.encoder.layer.11.output.dense.bias", two},
                                 {"text_encoder.bert.encoder.layer.12.crossattention.self.key.bias", three}, {"temp", bias}},
                                "x2vlm");
  CHECK(x2vlm[3].first == "model.fusion_encoder.layer.0.crossattention.self.key.bias");
  const auto plus = round_trip({{"vision_encoder.blocks.0.attn.q_bias", one}, {"vision_proj.weight", words}, {"text_encoder.embeddings.word_embeddings.weight", words}, {"text_encoder.encoder.layer.1.output.dense.bias", two},
                                {"cross_encoder.encoder.layer.0.crossattention.self.key.bias", three}, {"mlm_head.predictions.decoder.weight", torch::randn({5, 2})}, {"mlm_head.predictions.bias", bias},
                                {"mlm_head.predictions.decoder.bias", bias}},
                               "x2vlm_plus");
  CHECK(plus[4].first == "model.fusion_encoder.layer.0.crossattention.self.key.bias");
  CHECK(plus[5].first == "losses.mlm.decoder.weight");
  const auto finetuned = round_trip({{"vision_encoder.norm.bias", one}, {"text_encoder.embeddings.LayerNorm.weight", one}, {"text_encoder.encoder.layer.5.output.dense.bias", two},
                                     {"text_encoder.encoder.layer.6.crossattention.self.key.bias", three}, {"bbox_head.0.bias", bias}},
                                    "xvlm_finetuned");
  CHECK(finetuned[3].first == "model.fusion_encoder.layer.0.crossattention.self.key.bias");
}

TEST_CASE("loading: tied names and derived tables are neither missing nor unexpected", "[pretrained]") {
  const Tensors model = targets(), file = official();
  const LoadReport report = load_named(model, file, options());
  INFO(report.table());
  CHECK(report.ok());
  CHECK(report.count(LoadOutcome::kLoaded) == 3);
  CHECK(report.count(LoadOutcome::kTied) == 2);
  CHECK(report.count(LoadOutcome::kDerived) == 2);
  CHECK(at::equal(model[0].second, file[0].second));
  CHECK(at::equal(model[1].second, file[1].second));
  CHECK_THAT(report.table(), Catch::Contains("losses.words.bias <- text_encoder.cls.predictions.bias") && Catch::Contains("3 loaded, 2 tied, 2 derived"));
}

/// `targets()` as an ALBEF file of a run in progress: its objective's queues and momentum encoders beside the model.
Tensors albef_file() {
  Tensors file = official();
  file.emplace_back("image_queue", torch::randn({2, 8}));
  file.emplace_back("queue_ptr", torch::zeros({1}, at::kLong));
  file.emplace_back("text_encoder_m.bert.embeddings.word_embeddings.weight", torch::randn({5, 2}));
  file.emplace_back("text_encoder_m.cls.predictions.bias", torch::randn({5}));
  return file;
}

TEST_CASE("loading: state of an official objective is not needed, and does not hide what is unexpected", "[pretrained]") {
  const LoadOptions albef{.names = find_name_map("albef"), .text_layers = 3};
  Tensors file = albef_file();
  const Tensors model = targets();
  const LoadReport report = load_named(model, file, albef);
  INFO(report.table());
  CHECK(report.ok());
  CHECK(report.count(LoadOutcome::kNotNeeded) == 4);
  CHECK(at::equal(model[0].second, file[0].second));
  CHECK_THAT(report.table(), Catch::Contains("image_queue  [2, 8], state of the checkpoint's objective") && Catch::Contains("3 loaded, 2 tied, 2 derived, 4 not needed"));
  file.emplace_back("image_idx_queue", torch::zeros({1, 8}, at::kLong));  // PEVL's
  CHECK(load_named(targets(), file, albef).count(LoadOutcome::kUnexpected) == 1);
  CHECK(load_named(targets(), file, {.names = find_name_map("pevl"), .text_layers = 3}).count(LoadOutcome::kNotNeeded) == 5);
  CHECK(load_named(targets(), albef_file(), options()).count(LoadOutcome::kUnexpected) == 4);  // X-VLM has no such state
}

TEST_CASE("loading: what does not fit is named, and then nothing is changed", "[pretrained]") {
  const auto refused = [](Tensors file, LoadOutcome outcome, const std::string& part) {
    const Tensors model = targets();
    const LoadReport report = load_named(model, file, options());
    INFO(report.table());
    CHECK_FALSE(report.ok());
    CHECK(report.count(outcome) == 1);
    CHECK_THAT(report.problems(), Catch::Contains(part));
    for (const auto& [name, tensor] : model) CHECK(tensor.abs().sum().item<double>() == 0);
  };
  Tensors file = official();
  file.erase(file.begin() + 1);
  refused(file, LoadOutcome::kMissing, "MISSING");
  file = official();
  file.emplace_back("momentum.weight", torch::ones({1}));
  refused(file, LoadOutcome::kUnexpected, "momentum.weight");
  file = official();
  file[1].second = torch::ones({3, 2});
  refused(file, LoadOutcome::kUnfit, "[3, 2] in the checkpoint, [2, 2] in the model");
  file = official();
  file[1].second = torch::ones({2, 2}, at::kLong);
  refused(file, LoadOutcome::kUnfit, "holds Long");
  file = official();
  file[4].second = torch::ones({5});
  refused(file, LoadOutcome::kUnfit, "should be the same as text_encoder.cls.predictions.bias");
}

TEST_CASE("loading: globs allow what may differ, half precision is converted, and a hook reshapes", "[pretrained]") {
  Tensors file = official();
  file[1].second = torch::ones({2, 2}).to(at::kHalf);
  file.emplace_back("momentum.weight", torch::ones({1}));
  file[0].second = torch::randn({7, 2});
  file.erase(file.begin() + 2, file.begin() + 5);
  LoadOptions allowing = options();
  allowing.allow_missing = {"losses.*"};
  allowing.allow_unexpected = {"momentum.*"};
  std::vector<std::string> asked;
  allowing.reshape = [&](const std::string& name, const Tensor& stored, at::IntArrayRef wanted) {
    asked.push_back(name);
    return stored.slice(0, 0, wanted[0]);
  };
  int done = 0;
  allowing.done = [&](const Tensor&) { ++done; };
  const Tensors model = targets();
  const LoadReport report = load_named(model, file, allowing);
  INFO(report.table());
  CHECK(report.ok());
  CHECK(asked == std::vector<std::string>{"model.text_encoder.embeddings.word_embeddings.weight"});
  CHECK(report.count(LoadOutcome::kReshaped) == 1);
  CHECK(report.count(LoadOutcome::kMissingAllowed) == 1);
  CHECK(report.count(LoadOutcome::kUnexpectedAllowed) == 1);
  CHECK(at::equal(model[0].second, file[0].second.slice(0, 0, 5)));
  CHECK(at::equal(model[1].second, torch::ones({2, 2})));
  CHECK(done == 2);
}

TEST_CASE("position tables are fitted to another size as interpolate.hpp does, and nothing else is", "[pretrained]") {
  const Tensor embedding = torch::randn({1, 1 + 16, 6}), patches = torch::randn({1, 16, 6}), clip = torch::randn({1 + 16, 6}), bias = torch::randn({7 * 7, 3});
  CHECK(at::equal(fit_position_table("model.vision_encoder.pos_embed", embedding, {1, 37, 6}), interpolate_position_embedding(embedding, 6, 1)));
  CHECK(at::equal(fit_position_table("model.vision_encoder.pos_embed", patches, {1, 36, 6}), interpolate_position_embedding(patches, 6, 0)));
  CHECK(at::equal(fit_position_table("vision_encoder.pos_embed.weight", clip, {37, 6}), interpolate_position_embedding(clip.unsqueeze(0), 6, 1)[0]));
  CHECK(at::equal(fit_position_table("model.vision_encoder.layers.0.blocks.1.attn.relative_position_bias_table", bias, {81, 3}), interpolate_relative_position_bias(bias, 5)));
  CHECK_FALSE(fit_position_table("model.vision_encoder.pos_embed", embedding, {1, 37, 8}).defined());
  CHECK_FALSE(fit_position_table("model.vision_encoder.pos_embed", embedding, {1, 40, 6}).defined());
  CHECK_FALSE(fit_position_table("model.text_encoder.embeddings.position_embeddings.weight", clip, {37, 6}).defined());
  CHECK_FALSE(fit_position_table("model.vision_encoder.layers.0.attn.relative_position_bias_table", bias, {81, 4}).defined());
}

TEST_CASE("translating there and back gives every tensor back, and refuses what has no name", "[pretrained]") {
  const Tensors file = official();
  const NameMap& fgvl = *find_name_map("fgvl");
  const Translated ours = translate(file, xvlm(), fgvl);
  CHECK(ours.problems.empty());
  CHECK(ours.tensors.size() == 4);
  Tensors with_text_layers = ours.tensors;  // three text layers, so that the numbers can be found again
  with_text_layers.emplace_back("model.text_encoder.layer.2.output.dense.bias", torch::ones({1}));
  const Translated back = translate(with_text_layers, fgvl, xvlm());
  CHECK(back.problems.empty());
  const std::map<std::string, Tensor> found(back.tensors.begin(), back.tensors.end());
  for (const auto& [name, tensor] : file) {
    INFO(name);
    REQUIRE(found.count(name) == 1);
    CHECK(at::equal(found.at(name), tensor));
  }
  // A run's own file: official names, ours where there is none, no second names.
  Tensors of_run(with_text_layers);
  std::vector<std::string> ours_names = names_of(of_run);
  const std::vector<std::string> saved = checkpoint_names(ours_names);
  for (std::size_t i = 0; i < of_run.size(); ++i) of_run[i].first = saved[i];
  CHECK(names_of(translate(of_run, xvlm(), xvlm()).tensors) == names_of(back.tensors));
  of_run.emplace_back("model.fusion_encoder.norm.weight", torch::ones({1}));
  CHECK(names_of(translate(of_run, xvlm(), fgvl).tensors).back() == "model.fusion_encoder.norm.weight");
  CHECK(translate(of_run, xvlm(), xvlm()).problems == std::vector<std::string>{"model.fusion_encoder.norm.weight has no name in X-VLM"});
  CHECK(translate({{"losses.foil.head.weight", torch::ones({1})}}, fgvl, xvlm()).problems == std::vector<std::string>{"losses.foil.head.weight has no name in X-VLM"});
  CHECK(translate({{"losses.a.bias", torch::ones({1})}, {"losses.b.bias", torch::zeros({1})}}, fgvl, xvlm()).problems.size() == 1);
}

TEST_CASE("ALBEF's and PEVL's names are X-VLM's, but for their vision encoder, their matching head and boxes", "[pretrained]") {
  const std::vector<std::pair<std::string, std::string>> pairs = {
      {"model.vision_encoder.blocks.11.attn.qkv.weight", "visual_encoder.blocks.11.attn.qkv.weight"},
      {"model.fusion_encoder.layer.0.crossattention.self.key.weight", "text_encoder.bert.encoder.layer.6.crossattention.self.key.weight"},
      {"model.text_encoder.layer.5.output.dense.bias", "text_encoder.bert.encoder.layer.5.output.dense.bias"},
      {"losses.itm.itm_head.weight", "itm_head.weight"},
      {"losses.itm.itm_head.bias", "itm_head.bias"},
      {"losses.itc.temperature.temp", "temp"},
      {"losses.mlm.bias", "text_encoder.cls.predictions.bias"}};
  for (const std::string family : {"albef", "pevl"}) {
    const NameMap& map = *find_name_map(family);
    for (const auto& [ours, theirs] : pairs) {
      INFO(family << ' ' << ours);
      CHECK(to_official(map, ours, 6) == theirs);
      CHECK(to_ours(map, theirs, 6) == ours);
    }
    CHECK_FALSE(to_official(map, "losses.itm.itm_head.0.weight", 6).has_value());
    CHECK_FALSE(to_official(map, "model.bbox_head.0.weight", 6).has_value());
    CHECK(to_ours(map, "visual_encoder_m.cls_token", 6) == "model.momentum.vision_encoder.cls_token");
  }
}

TEST_CASE("fine-tuned models of X-VLM and ALBEF: the text encoder without `bert.`, and no words to predict", "[pretrained]") {
  const std::vector<std::string> text = {"text_encoder.embeddings.LayerNorm.bias", "text_encoder.encoder.layer.6.crossattention.self.key.bias", "text_encoder.encoder.layer.7.crossattention.self.key.bias",
                                         "vision_proj.weight"};
  const auto recognised = [&](std::vector<std::string> names) {
    names.insert(names.end(), text.begin(), text.end());
    const NameMap* map = recognise(names);
    return map == nullptr ? std::string() : map->family;
  };
  CHECK(recognised({"vision_encoder.norm.weight", "itm_head.0.weight"}) == "xvlm_finetuned");
  CHECK(recognised({"visual_encoder.norm.weight", "itm_head.weight", "queue_ptr"}) == "albef_finetuned");
  CHECK(recognised({"visual_encoder.norm.weight", "itm_head.weight", "ptr_queue"}) != "albef_finetuned");  // BLIP's
  CHECK(text_layers_of(text) == 6);
  for (const std::string family : {"xvlm_finetuned", "albef_finetuned"}) {
    INFO(family);
    const NameMap& map = *find_name_map(family);
    CHECK(to_official(map, "model.fusion_encoder.layer.1.crossattention.self.key.bias", 6) == text[2]);
    CHECK(to_ours(map, text[2], 6) == "model.fusion_encoder.layer.1.crossattention.self.key.bias");
    CHECK(to_ours(map, text[0], 6) == "model.text_encoder.embeddings.LayerNorm.bias");
    CHECK(to_official(map, "losses.itc.temperature.temp", 6) == "temp");
    CHECK_FALSE(to_official(map, "losses.mlm.bias", 6).has_value());
    CHECK(to_official(map, "model.bbox_head.0.weight", 6).has_value() == (family == "xvlm_finetuned"));  // for grounding
  }
}

TEST_CASE("translating names the state of an objective that it leaves out, and keeps it where the other family has it too", "[pretrained]") {
  const NameMap &albef = *find_name_map("albef"), &pevl = *find_name_map("pevl"), &fgvl = *find_name_map("fgvl");
  Tensors file = albef_file();
  const Translated ours = translate(file, albef, fgvl);
  CHECK(ours.problems.empty());
  CHECK(ours.left_out == std::vector<std::string>{"image_queue", "queue_ptr", "text_encoder_m.bert.embeddings.word_embeddings.weight", "text_encoder_m.cls.predictions.bias"});
  CHECK(ours.tensors.size() == 4);
  file.emplace_back("image_idx_queue", torch::zeros({1, 8}, at::kLong));
  const Translated as_albef = translate(file, pevl, albef), as_pevl = translate(file, pevl, pevl);
  CHECK(as_albef.left_out == std::vector<std::string>{"image_idx_queue"});
  CHECK(as_albef.tensors.size() == file.size() - 1);
  CHECK(as_pevl.left_out.empty());
  const std::map<std::string, Tensor> kept(as_pevl.tensors.begin(), as_pevl.tensors.end());
  for (const std::string name : {"image_queue", "queue_ptr", "text_encoder_m.cls.predictions.bias", "image_idx_queue"}) {
    INFO(name);
    CHECK(kept.count(name) == 1);
  }
}

}  // namespace
}  // namespace fgvl::models
