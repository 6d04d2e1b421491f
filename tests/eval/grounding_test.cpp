#include "fgvl/eval/grounding.hpp"

#include "support/catch.hpp"

using namespace fgvl;

TEST_CASE("overlap: intersection over union, 0 apart and for boxes without area", "[eval]") {
  CHECK(eval::box_iou({0, 0, 2, 2}, {1, 0, 3, 2}) == Approx(2.0 / 6));
  CHECK(eval::box_iou({0, 0, 2, 2}, {0, 0, 2, 2}) == 1.0);
  CHECK(eval::box_iou({0, 0, 2, 2}, {3, 3, 4, 4}) == 0.0);
  CHECK(eval::box_iou({1, 1, 1, 1}, {1, 1, 1, 1}) == 0.0);
}
