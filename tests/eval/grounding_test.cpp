#include "fgvl/eval/grounding.hpp"

#include <cmath>

#include <torch/torch.h>

#include "eval/fake_model.hpp"
#include "support/catch.hpp"

using namespace fgvl;
using test::Subject;

namespace {

data::Image grey(std::int64_t width, std::int64_t height) {
  return {width, height, std::vector<std::uint8_t>(static_cast<std::size_t>(width * height * 3), 128)};
}

std::array<int, 3> pixel(const data::Image& image, std::int64_t x, std::int64_t y) {
  const std::size_t i = static_cast<std::size_t>((y * image.width + x) * 3);
  return {image.pixels[i], image.pixels[i + 1], image.pixels[i + 2]};
}

}  // namespace

TEST_CASE("make_query: texts of interleaved images keep the caller's order", "[eval]") {
  const auto texts = test::pipeline_of({"one two three"});
  // Grouped by image the texts would stand in the order 2, 0, 1, which is not its own inverse.
  const RegionBatch batch = eval::make_query(torch::zeros({3, 3, 8, 8}),
                                             {{.image = 1, .text = "one"},
                                              {.image = 2, .text = "two two"},
                                              {.image = 0, .text = "three", .box = {0.25f, 0.5f, 0.5f, 1.f}, .is_region = true}},
                                             *texts)
                                .value();
  batch.validate();
  CHECK(batch.text_to_image.equal(torch::tensor({1, 2, 0})));
  const auto id = [&](const char* word) { return texts->tokenizer().ids(word)[0]; };
  CHECK(batch.text_ids.select(1, 1).equal(torch::tensor({id("one"), id("two"), id("three")})));
  CHECK(batch.text_mask.sum(1).equal(torch::tensor({2, 3, 2})));
  CHECK(batch.is_region.equal(torch::tensor({false, false, true})));
  CHECK(batch.boxes[2].equal(torch::tensor({0.25f, 0.5f, 0.5f, 1.f})));
  CHECK_THROWS_AS(eval::make_query(torch::zeros({2, 3, 8, 8}), {{.image = 2, .text = "one"}}, *texts).value(), c10::Error);
}

TEST_CASE("ground: boxes come back in pixels of the picture, scores as probabilities, in the order of the texts", "[eval]") {
  const auto texts = test::pipeline_of({"cat dog"});
  Subject subject;
  subject.model.answers.match = [](const RegionBatch&, const Tensor&) { return torch::tensor({0.0f, std::log(3.0f)}); };  // sigmoid: 1/2 and 3/4
  subject.model.answers.boxes = [](const RegionBatch&) { return torch::tensor({{0.25f, 0.5f, 0.5f, 0.5f}, {0.9f, 0.9f, 0.4f, 0.4f}}); };
  subject.model.answers.text_features = subject.model.answers.region_features = [](const RegionBatch&) {
    return torch::tensor({{1.0f, 0.0f}, {0.0f, 1.0f}});
  };
  const auto found = eval::ground(subject.input(), *texts, {.size = 16}, grey(200, 100), {"a cat", "dog"}).value();
  REQUIRE(found.size() == 2);
  const auto check_box = [](const data::PixelBox& box, const data::PixelBox& expected) {
    for (std::size_t i = 0; i < 4; ++i) CHECK(box[i] == Approx(expected[i]).margin(1e-3));
  };
  check_box(found[0].box, {0, 25, 100, 75});
  check_box(found[1].box, {140, 70, 200, 100});  // cut at the border
  CHECK(found[0].match_score == Approx(0.5));
  CHECK(found[1].match_score == Approx(0.75));
  CHECK(found[0].has_unknown_words);  // "a"
  CHECK_FALSE(found[1].has_unknown_words);
  CHECK(subject.model.is_training());

  CHECK_FALSE(eval::ground(subject.input(), *texts, {.size = 16}, grey(20, 10), {"?!"}).ok());
  CHECK(eval::ground(subject.input(), *texts, {.size = 16}, grey(20, 10), {}).value().empty());
}

TEST_CASE("overlap: intersection over union, 0 apart and for boxes without area", "[eval]") {
  CHECK(eval::box_iou({0, 0, 2, 2}, {1, 0, 3, 2}) == Approx(2.0 / 6));
  CHECK(eval::box_iou({0, 0, 2, 2}, {0, 0, 2, 2}) == 1.0);
  CHECK(eval::box_iou({0, 0, 2, 2}, {3, 3, 4, 4}) == 0.0);
  CHECK(eval::box_iou({1, 1, 1, 1}, {1, 1, 1, 1}) == 0.0);
}

TEST_CASE("draw_boxes: the picture grows by a whole factor, the outline has its colour on the box, and the rest stays", "[eval]") {
  const data::Image drawn = eval::draw_boxes(grey(40, 30), {{{10, 5, 30, 25}, "", {250, 10, 20}}}, 100);
  CHECK(drawn.width == 160);  // 100 / 30, rounded up: 4 times
  CHECK(drawn.height == 120);
  CHECK(pixel(drawn, 40, 60) == std::array<int, 3>{250, 10, 20});
  CHECK(pixel(drawn, 119, 60) == std::array<int, 3>{250, 10, 20});
  CHECK(pixel(drawn, 80, 60) == std::array<int, 3>{128, 128, 128});
  CHECK(pixel(drawn, 2, 2) == std::array<int, 3>{128, 128, 128});
  // What a report embeds decodes to the same pixels.
  const data::Image back = data::decode_image(data::to_png(drawn), "drawn").value();
  CHECK(back.pixels == drawn.pixels);
}

TEST_CASE("draw_boxes: of two boxes side by side neither hides the other's outline", "[eval]") {
  const data::Image drawn = eval::draw_boxes(grey(100, 100), {{{20, 20, 80, 80}, "", {0, 255, 0}}, {{22, 22, 82, 82}, "", {255, 150, 0}}});
  CHECK(pixel(drawn, 20, 50) == std::array<int, 3>{0, 255, 0});
  CHECK(pixel(drawn, 22, 50) == std::array<int, 3>{255, 150, 0});
}
