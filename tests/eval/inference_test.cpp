#include "fgvl/eval/inference.hpp"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>

#include <torch/csrc/autograd/profiler.h>
#include <torch/torch.h>

#include "data/files.hpp"
#include "eval/fake_model.hpp"
#include "fgvl/data/sample.hpp"
#include "fgvl/eval/query.hpp"
#include "models/small_model.hpp"
#include "support/catch.hpp"
#include "train/tiny_run.hpp"

using namespace fgvl;
using test::Subject;

namespace {

namespace fs = std::filesystem;

/// Pictures of different sizes, no two alike.
std::vector<data::Image> noisy(std::int64_t count) {
  std::vector<data::Image> images;
  for (std::int64_t i = 0; i < count; ++i) {
    Generator generator({.seed = 9, .sample = static_cast<std::uint64_t>(i)});
    data::Image image = test::grey_image(20 + 7 * i, 40 - 3 * i);
    for (std::uint8_t& value : image.pixels) value = static_cast<std::uint8_t>(generator.uniform_int(0, 255));
    images.push_back(std::move(image));
  }
  return images;
}

const std::vector<std::string> kTexts = {"one", "two three", "one two three four five six", "four", "six five four", "two", "three one"};

data::TextPipelinePtr small_pipeline() {
  data::TextOptions options;
  options.max_tokens = 8;
  return std::make_shared<data::TextPipeline>(data::make_tokenizer(data::WordPieceOptions{}, data::build_vocabulary({"one two three four five six"})).value(), options);
}

/// Passes pairs on to a matching term and counts them.
class CountingMatching final : public losses::LossTerm, public losses::PairScorer {
 public:
  explicit CountingMatching(const FeatureSpec& spec) : term_(register_module("term", losses::make_term(losses::MatchingOptions{}, spec))) { initialize(*term_, 5, std::nullopt, "itm"); }
  losses::Loss forward(ForwardPass& pass) override { return term_->forward(pass); }
  Tensor pair_logits(const Tensor& first_token) override {
    pairs += first_token.size(0);
    return dynamic_cast<losses::PairScorer&>(*term_).pair_logits(first_token);
  }
  std::int64_t pairs = 0;

 private:
  losses::LossTermPtr term_;
};

/// A small model with contrast and matching, untrained.
struct Small {
  explicit Small(const models::VisionEncoderPtr& vision) : model(models::make(vision)), criterion(model->spec()) {
    matching = std::make_shared<CountingMatching>(model->spec());
    criterion.add("itc", losses::ContrastiveOptions{.temperature = {.init = 0.2}}).add("itm", matching);
  }
  eval::Inference inference(std::int64_t batch_size = 32) { return eval::Inference::make({*model, criterion, torch::kCPU}, *pipeline, image, {.batch_size = batch_size}).value(); }

  /// A pass over one picture and one text, as a probe makes it.
  std::unique_ptr<ForwardPass> pair(const data::Image& picture, const std::string& text) {
    return model->begin(eval::make_query(data::model_input(picture, image).unsqueeze(0), {{.image = 0, .text = text}}, *pipeline).value());
  }

  models::ModelPtr model;
  losses::Criterion criterion;
  std::shared_ptr<CountingMatching> matching;
  data::TextPipelinePtr pipeline = small_pipeline();
  data::ImageOptions image{.size = models::kImage};
};

models::VisionEncoderPtr plain_vit() { return models::every_vision()[0].second; }

std::int64_t count_of(const std::string& operation, const std::function<void()>& work) {
  using namespace torch::autograd::profiler;
  enableProfilerLegacy(ProfilerConfig(ProfilerState::CPU, /*report_input_shapes=*/false, /*profile_memory=*/false));
  work();
  std::int64_t count = 0;
  for (const auto& thread : disableProfilerLegacy()) {
    for (const LegacyEvent& event : thread) count += event.kindStr() == "push" && operation == event.name() ? 1 : 0;
  }
  return count;
}

std::vector<std::int64_t> indices(const std::vector<eval::Ranked>& places) {
  std::vector<std::int64_t> all;
  for (const eval::Ranked& place : places) all.push_back(place.index);
  return all;
}

/// Columns of a row, the largest first.
std::vector<std::int64_t> descending(const Tensor& row) {
  const Tensor order = row.argsort(0, /*descending=*/true).contiguous();
  return {order.const_data_ptr<std::int64_t>(), order.const_data_ptr<std::int64_t>() + order.numel()};
}

class FakeContrast final : public losses::LossTerm, public losses::TemperatureSource {
 public:
  losses::Loss forward(ForwardPass&) override { return {}; }
  Tensor divisor() override { return torch::tensor(0.5f); }
};

}  // namespace

TEST_CASE("inference of a model without fusion: scores and ranks are of contrast alone, and nothing is grounded", "[inference]") {
  const models::ModelPtr model = models::make_dual();
  losses::Criterion criterion(model->spec());
  criterion.add("itc", losses::ContrastiveOptions{.temperature = {.kind = losses::TemperatureKind::kLogScale, .init = 0.2, .min = 0.01}});
  const data::TextPipelinePtr pipeline = small_pipeline();
  const data::ImageOptions image{.size = models::kImage};
  const eval::Inference inference = eval::Inference::make({*model, criterion, torch::kCPU}, *pipeline, image, {.batch_size = 2}).value();
  CHECK_FALSE(inference.has_fusion());
  CHECK_FALSE(inference.has_matching());
  const eval::EncodedImages images = inference.encode_images(noisy(3));
  const eval::EncodedTexts texts = inference.encode_texts(kTexts).value();
  const eval::Scores scores = inference.score(images, texts);
  CHECK_FALSE(scores.itm.defined());
  // Texts of different lengths in one batch: each is read at its own last token.
  for (std::size_t i = 0; i < kTexts.size(); ++i) {
    INFO(kTexts[i]);
    const eval::EncodedTexts alone = inference.encode_texts({kTexts[i]}).value();
    CHECK(torch::allclose(inference.score(images, alone).itc.select(1, 0), scores.itc.select(1, static_cast<std::int64_t>(i)), 1e-5, 1e-6));
  }
  const eval::Ranking ranking = inference.rank_texts(images, texts, {.top_k = 2}).value();
  REQUIRE(ranking.size() == 3);
  for (std::int64_t row = 0; row < 3; ++row) {
    const auto& best = ranking[static_cast<std::size_t>(row)];
    REQUIRE(best.size() == 2);
    CHECK(best[0].index == scores.itc[row].argmax().item<std::int64_t>());
    CHECK_FALSE(best[0].itm.has_value());
  }
  CHECK_THROWS_WITH(inference.ground(noisy(1), texts), Catch::Contains("no fusion encoder"));
}

TEST_CASE("score: every pair's numbers are those of a pass over it alone, for every encoder and whatever the batch size", "[inference]") {
  const auto images = noisy(5);
  for (const auto& [kind, vision] : models::every_vision()) {
    INFO(kind);
    Small small(vision);
    small.model->train();  // scoring is evaluation all the same
    Tensor itc = torch::empty({5, 7}, torch::kDouble), itm = torch::empty({5, 7}, torch::kDouble);
    {
      torch::NoGradGuard guard;
      small.model->eval();
      for (std::int64_t i = 0; i < 5; ++i) {
        for (std::int64_t j = 0; j < 7; ++j) {
          const auto pass = small.pair(images[static_cast<std::size_t>(i)], kTexts[static_cast<std::size_t>(j)]);
          itc[i][j] = (pass->image().features[0] * pass->text().features[0]).sum().to(torch::kDouble);
          itm[i][j] = small.matching->pair_logits(pass->matched()).softmax(1)[0][1].to(torch::kDouble);
        }
      }
      small.model->train();
    }
    for (const std::int64_t batch_size : {1, 3, 64}) {
      INFO(batch_size);
      const eval::Inference inference = small.inference(batch_size);
      const eval::EncodedTexts texts = inference.encode_texts(kTexts).value();
      const eval::Scores scores = inference.score(inference.encode_images(images), texts);
      CHECK(at::allclose(scores.itc, itc, 1e-4, 1e-5));
      CHECK(at::allclose(scores.itm, itm, 1e-4, 1e-5));
      CHECK(at::allclose(scores.itc_share, (itc / 0.2).exp() / (itc / 0.2).exp().sum(1, true), 1e-4, 1e-5));
      CHECK(at::allclose(scores.itc_share.sum(1), torch::ones({5}, torch::kDouble)));
      CHECK_FALSE(texts.features.embeds.requires_grad());
    }
    CHECK(small.model->is_training());
    // The scores tell pairs apart, or equality would say little.
    CHECK(itc.std().item<double>() > 1e-3);
    CHECK(itm.std().item<double>() > 1e-5);
  }
}

TEST_CASE("score and rank: pictures and texts are encoded once each, whatever is then asked of them, and re-ranking fuses the top-k pairs only", "[inference]") {
  Small small(plain_vit());
  const eval::Inference inference = small.inference(1);  // a batch is one picture or one text
  const auto images = noisy(4);
  std::optional<eval::EncodedTexts> texts;
  eval::EncodedImages encoded;
  // The stem of a picture is one convolution; a batch of texts looks up its words once.
  CHECK(count_of("aten::conv2d", [&] { encoded = inference.encode_images(images); }) == 4);
  CHECK(count_of("aten::embedding", [&] { texts = inference.encode_texts(kTexts).value(); }) == 7);
  const auto use = [&] {
    inference.score(encoded, *texts);
    REQUIRE(inference.rank_texts(encoded, *texts).ok());
    REQUIRE(inference.rank_images(encoded, *texts).ok());
  };
  CHECK(count_of("aten::conv2d", use) == 0);
  CHECK(count_of("aten::embedding", use) == 0);
  small.matching->pairs = 0;
  REQUIRE(inference.rank_texts(encoded, *texts, {.top_k = 2}).ok());
  CHECK(small.matching->pairs == 4 * 2);
  small.matching->pairs = 0;
  REQUIRE(inference.rank_images(encoded, *texts, {.top_k = 3}).ok());
  CHECK(small.matching->pairs == 7 * 3);
}

TEST_CASE("rank: with all kept the order is that of ITM, in both directions; with k, that of ITM among the k best by ITC", "[inference]") {
  Small small(plain_vit());
  const auto images = noisy(5);
  for (const std::int64_t batch_size : {1, 4, 64}) {
    const eval::Inference inference = small.inference(batch_size);
    const auto encoded = inference.encode_images(images);
    const auto texts = inference.encode_texts(kTexts).value();
    const eval::Scores scores = inference.score(encoded, texts);
    const eval::Ranking of_texts = inference.rank_texts(encoded, texts, {.top_k = 0}).value(), of_images = inference.rank_images(encoded, texts, {.top_k = 0}).value();
    const eval::Ranking as_many = inference.rank_texts(encoded, texts, {.top_k = 7}).value(), three = inference.rank_texts(encoded, texts, {.top_k = 3}).value();
    REQUIRE(of_texts.size() == 5);
    REQUIRE(of_images.size() == 7);
    for (std::int64_t i = 0; i < 5; ++i) {
      const auto row = static_cast<std::size_t>(i);
      CHECK(indices(of_texts[row]) == descending(scores.itm[i]));
      CHECK(indices(as_many[row]) == indices(of_texts[row]));
      for (const eval::Ranked& place : of_texts[row]) {
        CHECK(*place.itm == Approx(scores.itm[i][place.index].item<double>()).epsilon(1e-4));
        CHECK(*place.itc == Approx(scores.itc[i][place.index].item<double>()).margin(1e-6));
      }
      const auto by_itc = descending(scores.itc[i]), found = indices(three[row]);
      CHECK(std::set<std::int64_t>(found.begin(), found.end()) == std::set<std::int64_t>(by_itc.begin(), by_itc.begin() + 3));
      CHECK(std::is_sorted(three[row].begin(), three[row].end(), [](const auto& a, const auto& b) { return *a.itm > *b.itm; }));
    }
    for (std::int64_t j = 0; j < 7; ++j) CHECK(indices(of_images[static_cast<std::size_t>(j)]) == descending(scores.itm.select(1, j)));
  }
}

TEST_CASE("rank: without a matching loss ITC alone decides; without a contrastive one all pairs must be kept; without both there is nothing to rank by", "[inference]") {
  Small small(plain_vit());
  losses::Criterion itc(small.model->spec()), itm(small.model->spec()), none(small.model->spec());
  itc.add("pairs", losses::ContrastiveOptions{});
  itm.add("true", small.matching);
  const auto with = [&](losses::Criterion& criterion) { return eval::Inference::make({*small.model, criterion, torch::kCPU}, *small.pipeline, small.image).value(); };
  const eval::Inference contrast = with(itc), matching = with(itm), nothing = with(none);
  const auto images = contrast.encode_images(noisy(3));
  const auto texts = contrast.encode_texts(kTexts).value();
  const eval::Scores by_itc = contrast.score(images, texts), by_itm = matching.score(images, texts);
  CHECK_FALSE(by_itc.itm.defined());
  CHECK_FALSE(by_itm.itc.defined());
  CHECK_FALSE(by_itm.itc_share.defined());
  const eval::Ranking ranked = contrast.rank_texts(images, texts, {.top_k = 4}).value();
  CHECK(ranked[1].size() == 4);
  CHECK_FALSE(ranked[1][0].itm.has_value());
  CHECK(indices(contrast.rank_texts(images, texts, {.top_k = 0}).value()[2]) == descending(by_itc.itc[2]));
  CHECK(indices(matching.rank_texts(images, texts, {.top_k = 0}).value()[2]) == descending(by_itm.itm[2]));
  CHECK_THAT(std::string(matching.rank_texts(images, texts, {.top_k = 4}).status().message()), Catch::Contains("no contrastive loss") && Catch::Contains("top_k 0"));
  CHECK_FALSE(nothing.rank_texts(images, texts, {.top_k = 0}).ok());
  CHECK_THROWS_WITH(contrast.match(images, texts, torch::zeros({1, 2}, torch::kLong)), Catch::Contains("no matching term"));
  CHECK_THROWS_WITH(matching.match(images, texts, torch::tensor({{3, 0}})), Catch::Contains("[0, 3) and [0, 7)"));
}

TEST_CASE("ground: boxes come back in pixels of each picture, scores in the order of the texts, pictures in theirs", "[inference]") {
  const auto texts = test::pipeline_of({"cat dog"});
  Subject subject;
  subject.criterion.add("itc", std::make_shared<FakeContrast>());
  subject.model.answers.match = [](const RegionBatch& batch, const Tensor&) { return torch::tensor({0.0f, std::log(3.0f)}).repeat({batch.text_count() / 2}); };  // sigmoid: 1/2 and 3/4
  subject.model.answers.boxes = [](const RegionBatch& batch) { return torch::tensor({{0.25f, 0.5f, 0.5f, 0.5f}, {0.9f, 0.9f, 0.4f, 0.4f}}).repeat({batch.text_count() / 2, 1}); };
  subject.model.answers.text_features = [](const RegionBatch& batch) { return torch::eye(2).repeat({batch.text_count() / 2, 1}); };
  // What a box cuts out: its own width and height.
  subject.model.answers.region_features = [](const RegionBatch& batch) { return batch.boxes.slice(1, 2); };
  const eval::Inference inference = eval::Inference::make(subject.input(), *texts, {.size = 16}).value();
  const eval::EncodedTexts encoded = inference.encode_texts({"a cat", "dog"}).value();
  const auto found = inference.ground({test::grey_image(200, 100), test::grey_image(10, 50)}, encoded);
  const auto check_box = [](const data::PixelBox& box, const data::PixelBox& expected) {
    for (std::size_t i = 0; i < 4; ++i) CHECK(box[i] == Approx(expected[i]).margin(1e-3));
  };
  REQUIRE(found.size() == 2);
  REQUIRE(found[1].size() == 2);
  check_box(found[0][0].box, {0, 25, 100, 75});
  check_box(found[0][1].box, {140, 70, 200, 100});  // cut at the border
  check_box(found[1][0].box, {0, 12.5, 5, 37.5});
  CHECK(found[0][0].text == "a cat");
  CHECK(*found[0][0].itm == Approx(0.5));
  CHECK(*found[1][1].itm == Approx(0.75));
  CHECK(*found[0][0].region_itc == Approx(0.5));
  CHECK(*found[0][1].region_itc == Approx(0.4));
  CHECK_FALSE(found[0][0].map.has_value());
  CHECK(found[0][0].has_unknown_words);  // "a"
  CHECK_FALSE(found[0][1].has_unknown_words);
  CHECK(subject.model.is_training());
  CHECK_FALSE(subject.model.ever_in_training);
  CHECK_FALSE(inference.ground({test::grey_image(20, 10)}, encoded, {.region_itc = false})[0][0].region_itc.has_value());
  CHECK(inference.ground({}, encoded).empty());
}

TEST_CASE("ground: boxes, matches, region scores and maps are those of a pass over picture and text alone, whatever the batch size", "[inference]") {
  const auto images = noisy(3);
  for (const auto& [kind, vision] : models::every_vision()) {
    INFO(kind);
    Small small(vision);
    small.model->eval();
    for (const std::int64_t batch_size : {1, 5, 64}) {  // one pair at a time; parts of a picture's texts; several pictures
      INFO(batch_size);
      const eval::Inference inference = small.inference(batch_size);
      const auto texts = inference.encode_texts(kTexts).value();
      for (const eval::MapTokens tokens : {eval::MapTokens::kText, eval::MapTokens::kFirst}) {
        const std::int64_t layer = tokens == eval::MapTokens::kText ? -1 : 0;
        const auto found = inference.ground(images, texts, {.map = true, .map_layer = layer, .map_tokens = tokens});
        torch::NoGradGuard guard;
        for (std::size_t i = 0; i < 3; ++i) {
          for (std::size_t j = 0; j < kTexts.size(); ++j) {
            const eval::Grounding& one = found[i][j];
            const auto pass = small.pair(images[i], kTexts[j]);
            const Tensor first = torch::zeros({1}, torch::kLong), box = pass->predicted_boxes(first)[0];
            const double width = static_cast<double>(images[i].width);
            CHECK(one.box[0] == Approx(std::max(0.0, (box[0] - box[2] / 2).item<double>() * width)).margin(1e-3));
            CHECK(one.box[2] == Approx(std::min(width, (box[0] + box[2] / 2).item<double>() * width)).margin(1e-3));
            CHECK(*one.itm == Approx(small.matching->pair_logits(pass->matched()).softmax(1)[0][1].item<double>()).epsilon(1e-4));
            RegionBatch region = pass->batch();
            region.boxes = box.unsqueeze(0);
            region.is_region = torch::ones_like(region.is_region);
            const auto second = small.model->begin(region);
            CHECK(*one.region_itc == Approx((second->regions().features * second->text().features).sum().item<double>()).margin(1e-4));
            const Tensor weights = pass->cross_attention({.text_index = first, .visual = VisualInput::kImage, .visual_index = first}, layer)[0];  // [heads, L, 1 + P]
            const Tensor expected = tokens == eval::MapTokens::kText ? weights.mean(0).mean(0) : weights.mean(0)[0];
            REQUIRE(one.map.has_value());
            CHECK(one.map->patches.sizes() == at::IntArrayRef{models::kGrid, models::kGrid});
            CHECK(at::allclose(one.map->patches.flatten(), expected.slice(0, 1), 1e-4, 1e-6));
            CHECK(one.map->cls_weight + one.map->patches.sum().item<double>() == Approx(1.0).epsilon(1e-5));
          }
        }
      }
    }
  }
}

TEST_CASE("ground: a model with position tokens and no box head is asked for the four behind the text, and whatever the batch size its likeliest ones are the box", "[inference]") {
  const data::TokenizerPtr tokenizer = data::make_tokenizer(data::WordPieceOptions{.position_tokens = true}, data::build_vocabulary({"one two three four five six"})).value();
  data::TextOptions text_options;
  text_options.max_tokens = 13;
  const data::TextPipeline pipeline(tokenizer, text_options);
  const models::BertOptions text{.width = models::kWidth, .layers = 1, .heads = 2, .mlp_width = 32, .max_tokens = 13};
  const models::BertFusionOptions fusion{.layers = 2, .heads = 2, .mlp_width = 32};
  const models::VisionEncoderPtr vision = plain_vit();
  const models::ModelPtr model = models::make_region_vlm({vision, make_text_encoder(text, {.vocab_size = tokenizer->size()}), make_fusion_encoder(fusion, {.text_width = models::kWidth, .vision_width = models::kWidth})},
                                                         {.embed_dim = 8, .initializer_range = std::nullopt, .box_head = false, .first_position_id = tokenizer->ids("[pos_0]")[0]}, /*seed=*/3);
  losses::Criterion criterion(model->spec());
  criterion.add("itc", losses::ContrastiveOptions{}).add("mlm", losses::MaskedLanguageOptions{});
  const data::ImageOptions image{.size = models::kImage, .std = {0.1, 0.1, 0.1}};
  const auto opened = [&](std::int64_t batch_size) { return eval::Inference::make({*model, criterion, torch::kCPU}, pipeline, image, {.batch_size = batch_size}).value(); };
  CHECK_FALSE(opened(1).has_box_head());
  REQUIRE(opened(1).has_position_tokens());

  const std::vector<std::string> texts = {"one", "two three", "one two three four five six", "Four!"};
  auto images = noisy(3);
  for (std::size_t i = 0; i < images.size(); ++i) {
    for (std::uint8_t& value : images[i].pixels) value = static_cast<std::uint8_t>(value / (1 + 3 * i));  // noise alone makes one mean picture of all
  }
  std::vector<data::PixelBox> expected;
  {
    torch::NoGradGuard guard;
    model->eval();
    auto& words = dynamic_cast<losses::WordPredictor&>(*criterion.find("mlm"));
    for (const data::Image& picture : images) {
      for (const std::string& text : texts) {
        RegionBatch batch = eval::make_query(data::model_input(picture, image).unsqueeze(0), {{.text = text}}, pipeline).value();
        std::vector<std::int64_t> ids = pipeline.encode(pipeline.prepare(text).value());
        const auto length = static_cast<std::int64_t>(ids.size());
        for (const std::int64_t id : tokenizer->ids("@@ [MASK] [MASK] [MASK] [MASK] ##")) ids.push_back(id);
        batch.text_ids = torch::tensor(ids).unsqueeze(0);
        batch.text_mask = torch::ones_like(batch.text_ids, torch::kBool);
        const auto pass = model->begin(batch);
        const Tensor first = torch::zeros({1}, torch::kLong), fused = pass->fuse({.text_index = first, .visual = VisualInput::kImage, .visual_index = first})[0];
        data::PixelBox corners{};
        for (std::int64_t k = 0; k < 4; ++k) {
          const Tensor logits = words.word_logits(fused.slice(0, length + 1 + k, length + 2 + k), pass->word_embedding())[0];
          const std::int64_t bin = logits.slice(0, model->spec().first_position_id, model->spec().first_position_id + kPositionBins).argmax().item<std::int64_t>();
          corners[static_cast<std::size_t>(k)] = static_cast<double>(bin) / kPositionBins * static_cast<double>(k % 2 == 0 ? picture.width : picture.height);
        }
        expected.push_back({std::min(corners[0], corners[2]), std::min(corners[1], corners[3]), std::max(corners[0], corners[2]), std::max(corners[1], corners[3])});
      }
    }
  }
  // They tell pairs apart, or equality would say little.
  CHECK(std::set<data::PixelBox>(expected.begin(), expected.end()).size() > 6);
  for (const std::int64_t batch_size : {1, 5, 64}) {
    INFO(batch_size);
    const eval::Inference inference = opened(batch_size);
    const auto found = inference.ground(images, inference.encode_texts_to_ground(texts).value());
    for (std::size_t pair = 0; pair < expected.size(); ++pair) {
      for (std::size_t k = 0; k < 4; ++k) CHECK(found[pair / texts.size()][pair % texts.size()].box[k] == Approx(expected[pair][k]).margin(1e-6));
    }
  }
  CHECK_THAT(std::string(opened(1).encode_texts_to_ground({"one", "one two three four five six one two"}).status().message()), Catch::Contains("\"one two three four five six one two\"") && Catch::Contains("raise data.tokenizer.max_tokens (13)"));
  CHECK_THAT(std::string(opened(1).encode_texts_to_ground({"one [pos_3]"}).status().message()), Catch::Contains("position tokens of its own"));
  // Scores need no room.
  const eval::EncodedTexts scored = opened(1).encode_texts({"one two three four five six one two", "one [pos_3]"}).value();
  CHECK(opened(1).score(opened(1).encode_images(images), scored).itc.size(1) == 2);
  CHECK_THROWS_WITH(opened(1).ground(images, scored), Catch::Contains("encode_texts_to_ground()"));

  losses::Criterion without_words(model->spec());
  without_words.add("itc", losses::ContrastiveOptions{});
  const eval::Inference no_words = eval::Inference::make({*model, without_words, torch::kCPU}, pipeline, image).value();
  CHECK_FALSE(no_words.has_position_tokens());
  CHECK_THROWS_WITH(no_words.ground(images, no_words.encode_texts(texts).value()), Catch::Contains("no box head, nor position tokens"));
}

TEST_CASE("encode: files that cannot be read are named and left out, the others keep their places", "[inference]") {
  Small small(plain_vit());
  const fs::path folder = test::fresh_folder("inference_files");
  const auto images = noisy(3);
  for (std::size_t i = 0; i < 3; ++i) test::write(folder / (std::to_string(i) + ".png"), data::to_png(images[i]));
  test::write(folder / "broken.jpg", "no picture");
  const auto path = [&](const char* name) { return (folder / name).string(); };
  for (const std::int64_t batch_size : {1, 2, 8}) {
    const eval::Inference inference = small.inference(batch_size);
    const eval::ReadImages read = inference.encode_files({path("0.png"), path("broken.jpg"), path("1.png"), path("absent.png"), path("2.png")});
    CHECK(read.paths == std::vector<std::size_t>{0, 2, 4});
    CHECK(read.encoded.size() == 3);
    CHECK(at::allclose(read.encoded.features.features, inference.encode_images(images).features.features, 1e-5, 1e-6));
    REQUIRE(read.unreadable.size() == 2);
    CHECK(read.unreadable[0].path == path("broken.jpg"));
    CHECK_THAT(read.unreadable[1].reason, Catch::Contains("absent.png: cannot open"));
  }
  const eval::Inference inference = small.inference();
  const eval::ReadImages none = inference.encode_files({path("absent.png")});
  CHECK(none.encoded.size() == 0);
  const auto texts = inference.encode_texts(kTexts).value();
  CHECK(inference.score(none.encoded, texts).itm.sizes() == at::IntArrayRef{0, 7});
  CHECK(inference.rank_images(none.encoded, texts).value()[6].empty());
}

TEST_CASE("encode_texts: an empty list and a text of which nothing is left are refused by name, and a loss that is not there, too", "[inference]") {
  Small small(plain_vit());
  const eval::Inference inference = small.inference();
  CHECK(exit_code(inference.encode_texts({}).status()) == ExitCode::kUsage);
  const absl::Status nothing_left = inference.encode_texts({"one", "?!"}).status();
  CHECK(exit_code(nothing_left) == ExitCode::kUsage);
  CHECK_THAT(std::string(nothing_left.message()), Catch::Contains("\"?!\"") && Catch::Contains("no text is left"));
  const auto named = [&](const eval::InferenceOptions& options) { return eval::Inference::make({*small.model, small.criterion, torch::kCPU}, *small.pipeline, small.image, options).status(); };
  CHECK(named({.contrast = "itc", .matching = "itm"}).ok());
  CHECK_THAT(std::string(named({.matching = "itc"}).message()), Catch::Contains("no matching term 'itc'") && Catch::Contains("itc, itm"));
  CHECK_THAT(std::string(named({.contrast = "labels"}).message()), Catch::Contains("no contrastive term 'labels'"));
  CHECK_THROWS_WITH(named({.batch_size = 0}), Catch::Contains("batch_size"));
}

TEST_CASE("open: a checkpoint's folder alone gives the run's scores: tokenizer, text preparation, picture size and normalisation are in it", "[inference]") {
  const fs::path tokenizers = fs::path(FGVL_SOURCE_DIR) / "tests" / "reference" / "tokenizers", copies = test::fresh_folder("inference_vocabularies");
  const std::string words = (copies / "words").string(), bytes = (copies / "bytes").string(), merges = (copies / "merges").string();
  const std::vector<std::vector<std::string>> kinds = {
      {},  // the words of the training texts
      {"data.tokenizer.vocabulary=" + words, "data.tokenizer.options.position_tokens=true", "data.tokenizer.add_sep=true", "data.tokenizer.prepare=pevl"},
      {"data.tokenizer.type=byte_bpe", "data.tokenizer.vocabulary=" + bytes, "data.tokenizer.merges=" + merges, "data.tokenizer.prepare=none", "data.tokenizer.max_tokens=9"},
  };
  const std::vector<std::string> texts = {"A red Circle (large); above a blue square, and so on and so forth", "two [pos_3] triangles"};
  for (const auto& kind : kinds) {
    INFO((kind.empty() ? "own words" : kind.front()));
    fs::copy_file(tokenizers / "wordpiece" / "vocab.txt", words, fs::copy_options::overwrite_existing);
    fs::copy_file(tokenizers / "byte_bpe" / "vocab.json", bytes, fs::copy_options::overwrite_existing);
    fs::copy_file(tokenizers / "byte_bpe" / "merges.txt", merges, fs::copy_options::overwrite_existing);
    std::vector<std::string> overrides = {"train.steps=1", "data.image.mean=[0.1, 0.2, 0.3]", "data.image.std=[0.4, 0.5, 0.6]", "data.image.interpolation=area", "data.tokenizer.max_words=6", "probes.norm=null"};
    overrides.insert(overrides.end(), kind.begin(), kind.end());
    const std::string out = test::fresh_run("inference_open");
    const train::RunConfig config = test::tiny_run(overrides);
    auto trainer = train::Trainer::make(config, {.out = out});
    INFO(trainer.status().ToString());
    REQUIRE(trainer.ok());
    REQUIRE((*trainer)->run().ok());
    const eval::Inference own = eval::Inference::make({(*trainer)->model(), (*trainer)->criterion(), torch::kCPU}, *(*trainer)->texts(), config.data.image).value();

    // Only the folder of the checkpoint is left, and somewhere else.
    const fs::path moved = test::fresh_path("inference_moved");
    fs::rename(fs::path(out) / "checkpoints" / "step_1", moved);
    fs::remove_all(out);
    for (const std::string& file : {words, bytes, merges}) fs::remove(file);
    const auto opened = eval::Inference::open(moved.string(), {}, {}, test::tiny_registries());
    INFO(opened.status().ToString());
    REQUIRE(opened.ok());
    const auto score = [&](const eval::Inference& inference) { return inference.score(inference.encode_images(noisy(3)), inference.encode_texts(texts).value()); };
    CHECK(at::equal(opened->encode_texts(texts)->ids, own.encode_texts(texts)->ids));
    CHECK(at::equal(score(*opened).itc, score(own).itc));
    CHECK(at::equal(score(*opened).itm, score(own).itm));
    CHECK(opened->run()->step == 1);
  }
  CHECK(exit_code(eval::Inference::open("/nowhere").status()) == ExitCode::kCheckpoint);
}
