#include "fgvl/eval/drawing.hpp"

#include <torch/torch.h>

#include "data/files.hpp"
#include "support/catch.hpp"

using namespace fgvl;

namespace {

std::array<int, 3> pixel(const data::Image& image, std::int64_t x, std::int64_t y) {
  const std::size_t i = static_cast<std::size_t>((y * image.width + x) * 3);
  return {image.pixels[i], image.pixels[i + 1], image.pixels[i + 2]};
}

}  // namespace

TEST_CASE("draw: the picture grows by a whole factor, the outline has its colour on the box, and the rest stays", "[eval]") {
  const data::Image drawn = eval::draw(test::grey_image(40, 30), {.boxes = {{{10, 5, 30, 25}, "", {250, 10, 20}}}, .min_side = 100});
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

TEST_CASE("draw: of two boxes side by side neither hides the other's outline", "[eval]") {
  const data::Image drawn = eval::draw(test::grey_image(100, 100), {.boxes = {{{20, 20, 80, 80}, "", {0, 255, 0}}, {{22, 22, 82, 82}, "", {255, 150, 0}}}});
  CHECK(pixel(drawn, 20, 50) == std::array<int, 3>{0, 255, 0});
  CHECK(pixel(drawn, 22, 50) == std::array<int, 3>{255, 150, 0});
}

TEST_CASE("draw: heat is red where the map is largest, blue where it is 0, at its place in the picture, whatever its scale", "[eval]") {
  Tensor map = torch::zeros({4, 4});
  map[1][3] = 1.0f;  // x in [60, 80), y in [20, 40)
  const data::Image drawn = eval::draw(test::grey_image(80, 80), {.heat = map}), faint = eval::draw(test::grey_image(80, 80), {.heat = 0.01 * map});
  CHECK(drawn.pixels == faint.pixels);
  const auto hot = pixel(drawn, 72, 30), cold = pixel(drawn, 10, 70), mirrored = pixel(drawn, 30, 72);
  CHECK(hot[0] > hot[2] + 30);
  CHECK(cold[2] > cold[0]);
  CHECK(mirrored == cold);  // rows are rows: the transposed place is cold
  // Nowhere to look is no place in particular.
  CHECK(pixel(eval::draw(test::grey_image(80, 80), {.heat = torch::zeros({4, 4})}), 72, 30) == cold);
  CHECK_THROWS_WITH(eval::draw(test::grey_image(8, 8), {.heat = torch::zeros({4})}), Catch::Contains("[rows, columns]"));
}

TEST_CASE("tiled: pictures stand row by row with a gap between them", "[eval]") {
  data::Image dark = test::grey_image(10, 8);
  std::fill(dark.pixels.begin(), dark.pixels.end(), std::uint8_t{7});
  const data::Image all = eval::tiled({test::grey_image(10, 8), test::grey_image(10, 8), dark}, 2);
  CHECK(all.width == 10 + 6 + 10);
  CHECK(all.height == 8 + 6 + 8);
  CHECK(pixel(all, 9, 7) == std::array<int, 3>{128, 128, 128});
  CHECK(pixel(all, 10, 7) == std::array<int, 3>{255, 255, 255});
  CHECK(pixel(all, 0, 14) == std::array<int, 3>{7, 7, 7});
  CHECK(pixel(all, 20, 20) == std::array<int, 3>{255, 255, 255});
  CHECK(eval::tiled({dark}, 3).pixels == dark.pixels);
  CHECK_THROWS_WITH(eval::tiled({test::grey_image(10, 8), test::grey_image(8, 10)}, 2), Catch::Contains("expected one size"));
}
