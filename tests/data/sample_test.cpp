#include <torch/torch.h>

#include "data/files.hpp"
#include "fgvl/data/sample.hpp"
#include "support/catch.hpp"

namespace fgvl::data {
namespace {

TextPipelinePtr pipeline() {
  return std::make_shared<TextPipeline>(Tokenizer::make(build_vocabulary({"a bright red square left of the right side above below circle"})).value(), TextOptions{});
}

/// A grey picture with a white square at (20, 30)-(50, 50) of 100 x 80.
Record square() {
  Image image = test::plain_image(100, 80, 40);
  for (std::int64_t y = 30; y < 50; ++y) {
    for (std::int64_t x = 20; x < 50; ++x) {
      for (std::int64_t c = 0; c < 3; ++c) image.pixels[static_cast<std::size_t>((y * 100 + x) * 3 + c)] = 255;
    }
  }
  Record record;
  record.key = "square";
  record.image = to_tensor(image);
  record.captions = {"a bright square left of the side"};
  record.regions = {{{20, 30, 50, 50}, {"a square left"}, "square", {"a square right"}}};
  return record;
}

std::string decoded(const std::vector<std::int64_t>& ids, const TextPipeline& texts) {
  std::string text;
  for (const std::int64_t id : ids) text += texts.tokenizer().vocabulary()[static_cast<std::size_t>(id)] + " ";
  return text;
}

TEST_CASE("a region's box follows its pixels through crop, flips and resize", "[sample]") {
  const auto texts = pipeline();
  SampleOptions options;
  options.augment = {.min_crop_side = 0.7, .horizontal_flip = 0.5, .vertical_flip = 0.5};
  options.min_visible_fraction = 0.9;
  ImageOptions image;
  image.size = 64;
  image.mean = {0, 0, 0};
  image.std = {1, 1, 1};
  int regions = 0;
  for (std::uint64_t i = 0; i < 60; ++i) {
    const Sample sample = make_sample(square(), options, image, *texts, {.seed = 1, .sample = i});
    for (const SampleText& text : sample.texts) {
      if (!text.is_region) continue;
      ++regions;
      const auto& [cx, cy, w, h] = text.box;
      // Pixels well inside the box are white, pixels well outside grey.
      const auto at = [&](double x, double y) {
        const auto px = static_cast<std::int64_t>(x * 64), py = static_cast<std::int64_t>(y * 64);
        return px < 0 || py < 0 || px > 63 || py > 63 ? -1.0 : sample.image[0][py][px].item<double>();
      };
      for (const double dx : {-0.35, 0.0, 0.35}) CHECK(at(cx + dx * w, cy + 0.35 * h) > 0.9);
      for (const double dx : {-0.75, 0.75}) CHECK(at(cx + dx * w, cy) < 0.4);
      for (const double dy : {-0.75, 0.75}) CHECK(at(cx, cy + dy * h) < 0.4);
    }
  }
  CHECK(regions > 30);
}

TEST_CASE("a random window that misses every region is no reason to skip the picture", "[sample]") {
  const auto texts = pipeline();
  Record record = square();
  record.captions.clear();
  SampleOptions options;
  options.augment.min_crop_side = 0.2;
  for (std::uint64_t i = 0; i < 30; ++i) {
    const Sample sample = make_sample(record, options, {}, *texts, {.seed = 2, .sample = i});
    CHECK(sample.problems.empty());
    CHECK(sample.texts.size() == 1);
  }
}

TEST_CASE("a horizontal flip swaps left and right as whole words, in texts and foils", "[sample]") {
  const auto texts = pipeline();
  SampleOptions options;
  options.foils = true;
  options.augment.horizontal_flip = 1.0;
  const Sample sample = make_sample(square(), options, {}, *texts, {});
  REQUIRE(sample.texts.size() == 2);
  CHECK(sample.texts[0].text == "a bright square right of the side");  // "bright" keeps its "right"
  CHECK(sample.texts[1].text == "a square right");
  CHECK(decoded(sample.texts[1].foil_ids, *texts) == "[CLS] a square left ");
}

TEST_CASE("bad regions are dropped by cause, and a picture without anything left is skipped whole", "[sample]") {
  const auto texts = pipeline();
  Record record = square();
  record.captions.clear();
  record.regions = {{{200, 10, 220, 30}, {"a circle"}, "circle", {}}, {{5, 5, 5, 9}, {"a circle"}, "circle", {}}, {{5, 5, 9, 9}, {}, "circle", {}}, {{5, 5, 9, 9}, {"..."}, "circle", {}}};
  const Sample sample = make_sample(record, {}, {}, *texts, {});
  CHECK_FALSE(sample.image.defined());
  std::vector<std::string> causes;
  for (const Problem& problem : sample.problems) causes.push_back(problem.cause);
  CHECK(causes == std::vector<std::string>{"box_outside", "box_without_area", "no_text", "no_text", "no_region_left"});
}

TEST_CASE("is_unambiguous: false where another region of the picture has the same text", "[sample]") {
  const auto texts = pipeline();
  Record record = square();
  record.captions.clear();
  record.regions = {{{0, 0, 20, 20}, {"a circle"}, "", {}}, {{30, 0, 60, 20}, {"a circle"}, "", {}}, {{20, 30, 50, 50}, {"a square"}, "", {}}};
  SampleOptions options;
  options.max_regions_per_text = 1;
  const Sample sample = make_sample(record, options, {}, *texts, {});
  REQUIRE(sample.texts.size() == 2);
  for (const SampleText& text : sample.texts) CHECK(text.is_unambiguous == (text.text == "a square"));
}

TEST_CASE("collate: batches are valid, trimmed to the longest text, and equal texts share a key", "[sample]") {
  const auto texts = pipeline();
  SampleOptions options;
  options.foils = true;
  const std::vector<Sample> samples = {make_sample(square(), options, {}, *texts, {}), make_sample(square(), options, {}, *texts, {.sample = 1})};
  const RegionBatch batch = collate(samples, {0, 1});
  batch.validate();
  CHECK(batch.text_count() == 4);
  CHECK(batch.text_ids.size(1) == 8);  // [CLS] and seven words
  CHECK(batch.text_key[0].item<std::int64_t>() == batch.text_key[2].item<std::int64_t>());
  CHECK(batch.foil_to_text.size(0) == 2);
  CHECK(at::equal(batch.text_stream, torch::tensor({0, 0, 1, 1}, torch::kLong)));
}

}  // namespace
}  // namespace fgvl::data
