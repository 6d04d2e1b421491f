#include <array>
#include <set>

#include <torch/torch.h>

#include "data/files.hpp"
#include "data/view.hpp"
#include "fgvl/data/sample.hpp"
#include "support/catch.hpp"

namespace fgvl::data {
namespace {

TextPipelinePtr pipeline() {
  return std::make_shared<TextPipeline>(make_tokenizer(WordPieceOptions{}, build_vocabulary({"a bright red square left of the right side above below circle"})).value(), TextOptions{});
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

TEST_CASE("a flip swaps directions however they are written, above and below under a vertical one", "[sample]") {
  const auto texts = pipeline();
  Record record = square();
  record.captions = {"A square LEFT of the circle, Above the side; right-left"};
  record.regions = {{{20, 30, 50, 50}, {"Right side"}, "square", {"BELOW the side"}}};
  SampleOptions options;
  options.foils = true;
  const auto seen = [&](double horizontal, double vertical) {
    options.augment.horizontal_flip = horizontal;
    options.augment.vertical_flip = vertical;
    const Sample sample = make_sample(record, options, {}, *texts, {});
    REQUIRE(sample.texts.size() == 2);
    return std::vector<std::string>{sample.texts[0].text, sample.texts[1].text, decoded(sample.texts[1].foil_ids, *texts)};
  };
  CHECK(seen(0, 0) == std::vector<std::string>{"a square left of the circle above the side right left", "right side", "[CLS] below the side "});
  CHECK(seen(1, 0) == std::vector<std::string>{"a square right of the circle above the side left right", "left side", "[CLS] below the side "});
  CHECK(seen(0, 1) == std::vector<std::string>{"a square left of the circle below the side right left", "right side", "[CLS] above the side "});
}

TEST_CASE("min_visible_fraction: a region counts when more than this share of it is in the window, and is cut to it", "[sample]") {
  const View left_half{0, 0, 50, 80, false, false};
  const PixelBox box = {40, 0, 60, 40};  // 10 of its 20 columns
  CHECK_FALSE(seen_corners(box, left_half, 0.5).has_value());
  CHECK(seen_corners(box, left_half, 0.49) == Corners{0.8, 0, 1, 0.5});
  CHECK_FALSE(seen_corners({50, 0, 60, 40}, left_half, 0).has_value());
}

TEST_CASE("keep_region: the window always holds the whole of a region, and windows differ", "[sample]") {
  const auto texts = pipeline();
  const Record record = square();  // with its caption: without one, a window that misses the region would be given up for the whole picture
  SampleOptions options;
  options.min_visible_fraction = 0.999;  // anything less than all of it would drop the region
  options.augment.keep_region = true;
  std::set<float> widths, lefts;
  for (std::uint64_t i = 0; i < 40; ++i) {
    const Sample sample = make_sample(record, options, {}, *texts, {.seed = 3, .sample = i});
    REQUIRE(sample.texts.size() == 2);
    const auto& [cx, cy, w, h] = sample.texts[1].box;
    CHECK((cx - w / 2 >= -1e-5 && cy - h / 2 >= -1e-5 && cx + w / 2 <= 1 + 1e-5 && cy + h / 2 <= 1 + 1e-5));
    CHECK(w >= 0.3f - 1e-5f);  // 30 of 100 pixels in the whole picture
    widths.insert(w);
    lefts.insert((cx - w / 2) / w);  // in widths of the region, which windows do not change
  }
  CHECK(widths.size() > 20);
  CHECK(lefts.size() > 10);  // of 21 that there are
}

TEST_CASE("colour changes: shift, factor around one half and factor around grey, each within its bounds", "[sample]") {
  const auto texts = pipeline();
  Record record = square();
  Image image = test::plain_image(16, 16, 0);
  for (std::size_t i = 0; i < image.pixels.size(); i += 3) image.pixels[i] = 153, image.pixels[i + 1] = 102, image.pixels[i + 2] = 51;  // 0.6, 0.4, 0.2: grey 0.4
  record.image = to_tensor(image);
  record.regions.clear();
  ImageOptions plain;
  plain.size = 16;
  const auto colour = [&](const AugmentOptions& augment, std::uint64_t i) {
    SampleOptions options;
    options.augment = augment;
    const Tensor shown = make_sample(record, options, plain, *texts, {.seed = 4, .sample = i}).image.select(1, 8).select(1, 8);
    std::array<double, 3> pixel{};
    for (std::size_t c = 0; c < 3; ++c) pixel[c] = shown[static_cast<std::int64_t>(c)].item<double>() * plain.std[c] + plain.mean[c];
    return pixel;
  };
  double lowest = 1, highest = -1;
  for (std::uint64_t i = 0; i < 50; ++i) {
    const auto shifted = colour({.brightness = 0.1}, i);
    const double by = shifted[0] - 0.6;
    CHECK(std::abs(by) <= 0.1 + 1e-5);
    CHECK(shifted[2] - 0.2 == Approx(by).margin(1e-5));
    lowest = std::min(lowest, by);
    highest = std::max(highest, by);
    const auto stretched = colour({.contrast = 0.5}, i);
    const double factor = (stretched[0] - 0.5) / 0.1;
    CHECK((factor >= 0.5 - 1e-4 && factor <= 1.5 + 1e-4));
    CHECK(stretched[1] == Approx(0.5 - 0.1 * factor).margin(1e-5));
    const auto coloured = colour({.saturation = 0.5}, i);
    const double spread = (coloured[0] - 0.4) / 0.2;
    CHECK((spread >= 0.5 - 1e-4 && spread <= 1.5 + 1e-4));
    CHECK(coloured[1] == Approx(0.4).margin(1e-5));
    CHECK(coloured[2] == Approx(0.4 - 0.2 * spread).margin(1e-5));
  }
  CHECK(lowest < -0.05);
  CHECK(highest > 0.05);
}

TEST_CASE("labels_only: a region's label instead of its texts, and a region without one counts as without text", "[sample]") {
  const auto texts = pipeline();
  Record record = square();
  record.captions.clear();
  record.regions.push_back({{60, 10, 80, 30}, {"a circle"}, "", {}});
  SampleOptions options;
  options.labels_only = true;
  const Sample sample = make_sample(record, options, {}, *texts, {});
  REQUIRE(sample.texts.size() == 1);
  CHECK(sample.texts[0].text == "square");
  REQUIRE(sample.problems.size() == 1);
  CHECK(sample.problems[0].cause == "no_text");
}

TEST_CASE("bad regions are dropped by cause, and a picture without anything left is skipped whole", "[sample]") {
  const auto texts = pipeline();
  Record record = square();
  record.captions.clear();
  record.regions = {{{200, 10, 220, 30}, {"a circle"}, "circle", {}}, {{90, 10, 120, 30}, {"a circle"}, "circle", {}}, {{5, 5, 5, 9}, {"a circle"}, "circle", {}}, {{5, 5, 9, 9}, {}, "circle", {}}, {{5, 5, 9, 9}, {"..."}, "circle", {}}};
  const Sample sample = make_sample(record, {}, {}, *texts, {});
  CHECK_FALSE(sample.image.defined());
  std::vector<std::string> causes;
  for (const Problem& problem : sample.problems) causes.push_back(problem.cause);
  CHECK(causes == std::vector<std::string>{"box_outside", "box_outside", "box_without_area", "no_text", "no_text", "no_region_left"});
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
  const RegionBatch batch = collate(samples, {0, 1}, texts->tokenizer().pad_id());
  batch.validate();
  CHECK(batch.text_count() == 4);
  CHECK(batch.text_ids.size(1) == 8);  // [CLS] and seven words
  CHECK(batch.text_key[0].item<std::int64_t>() == batch.text_key[2].item<std::int64_t>());
  CHECK(at::equal(batch.foil_to_text, torch::tensor({1, 3}, torch::kLong)));  // a caption without one before each
  CHECK(at::equal(batch.text_stream, torch::tensor({0, 0, 1, 1}, torch::kLong)));
}

TEST_CASE("collate fills short texts with the padding id it is given", "[sample]") {
  const auto texts = pipeline();
  SampleOptions options;
  options.foils = true;
  Record longer = square();
  longer.regions[0].foils = {"a bright red square right of the circle"};
  const RegionBatch batch = collate({make_sample(square(), options, {}, *texts, {}), make_sample(longer, options, {}, *texts, {})}, {0, 0}, 1);
  for (const auto& [ids, mask] : {std::pair(batch.text_ids, batch.text_mask), std::pair(batch.masked_ids, batch.text_mask), std::pair(batch.foil_ids, batch.foil_mask)}) {
    CHECK(mask.logical_not().any().item<bool>());
    CHECK((ids.index({mask.logical_not()}) == 1).all().item<bool>());
    CHECK((ids == 0).any().item<bool>() == false);
  }
}

}  // namespace
}  // namespace fgvl::data
