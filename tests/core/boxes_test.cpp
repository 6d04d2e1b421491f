#include <torch/torch.h>

#include "fgvl/core/batch.hpp"
#include "fgvl/core/boxes.hpp"
#include "support/catch.hpp"

namespace fgvl {
namespace {

TEST_CASE("paired_giou: a degenerate box affects only its own row, in value and gradient", "[core]") {
  // Row 1 has reversed corners and row 2 no area at all; row 0 is as it would be alone.
  Tensor a = torch::tensor({{0.0, 0.0, 2.0, 2.0}, {0.8, 0.8, 0.2, 0.2}, {0.5, 0.5, 0.5, 0.5}}, torch::kFloat64).set_requires_grad(true);
  const Tensor b = torch::tensor({{1.0, 1.0, 3.0, 3.0}, {0.1, 0.1, 0.3, 0.3}, {0.5, 0.5, 0.5, 0.5}}, torch::kFloat64);
  const Tensor giou = paired_giou(a, b);
  giou.sum().backward();
  // Intersection 1, union 7, hull 9: 1/7 - 2/9.
  CHECK(giou[0].item<double>() == Approx(1.0 / 7 - 2.0 / 9));
  CHECK(giou[2].item<double>() == 0.0);
  CHECK(a.grad().isfinite().all().item<bool>());
  CHECK(a.grad()[2].abs().sum().item<double>() == 0.0);
  Tensor alone = a.detach().slice(0, 0, 1).clone().set_requires_grad(true);
  paired_giou(alone, b.slice(0, 0, 1)).sum().backward();
  CHECK(at::equal(a.grad()[0], alone.grad()[0]));
}

TEST_CASE("box formats: corners, centres and top-left corners are one box, there and back", "[core]") {
  const Tensor xyxy = torch::tensor({{1.0, 2.0, 4.0, 8.0}}), cxcywh = torch::tensor({{2.5, 5.0, 3.0, 6.0}}), xywh = torch::tensor({{1.0, 2.0, 3.0, 6.0}});
  CHECK(at::equal(xyxy_to_cxcywh(xyxy), cxcywh));
  CHECK(at::equal(cxcywh_to_xyxy(cxcywh), xyxy));
  CHECK(at::equal(xywh_to_cxcywh(xywh), cxcywh));
  CHECK(at::equal(cxcywh_to_xywh(cxcywh), xywh));
  CHECK(at::equal(flip_boxes(xyxy, 10), torch::tensor({{6.0, 2.0, 9.0, 8.0}})));
  CHECK(at::equal(clip_boxes(torch::tensor({{-1.0, 2.0, 14.0, 18.0}}), 10, 12), torch::tensor({{0.0, 2.0, 10.0, 12.0}})));
}

TEST_CASE("patch_mask: a box on patch borders touches no neighbour, a tiny box touches one patch, a box outside the grid's edge one at the edge", "[core]") {
  const Tensor mask = patch_mask(torch::tensor({{0.5f, 0.5f, 0.5f, 0.5f}, {0.1f, 0.1f, 1e-7f, 1e-7f}, {1.5f, 0.5f, 0.1f, 0.1f}}), 4, 4);
  CHECK(mask[0].sum().item<std::int64_t>() == 4);
  CHECK(mask[0].view({4, 4})[1][1].item<bool>());
  CHECK(mask[1].sum().item<std::int64_t>() == 1);
  CHECK(mask[2].view({4, 4}).select(1, 3).any().item<bool>());
}

TEST_CASE("flip_boxes and clip_boxes: twice flipped is unchanged, clipped is inside", "[core]") {
  const Tensor boxes = torch::tensor({{1.0, 2.0, 5.0, 9.0}, {-3.0, 0.0, 4.0, 30.0}});
  CHECK(at::allclose(flip_boxes(flip_boxes(boxes, 10), 10), boxes));
  const Tensor clipped = clip_boxes(boxes, 10, 20);
  CHECK(at::equal(clipped, torch::tensor({{1.0, 2.0, 5.0, 9.0}, {0.0, 0.0, 4.0, 20.0}})));
}

TEST_CASE("RegionBatch::validate names the field that is wrong", "[core]") {
  RegionBatch batch;
  batch.images = torch::zeros({2, 3, 8, 8});
  batch.text_to_image = torch::tensor({0, 2}, torch::kLong);  // there is no image 2
  batch.is_region = torch::zeros({2}, torch::kBool);
  batch.boxes = torch::zeros({2, 4});
  batch.text_ids = torch::zeros({2, 5}, torch::kLong);
  batch.text_mask = torch::ones({2, 5}, torch::kBool);
  batch.text_key = torch::zeros({2}, torch::kLong);
  CHECK_THROWS_WITH(batch.validate(), Catch::Contains("text_to_image") && Catch::Contains("[0, 2)"));
  batch.text_to_image = torch::tensor({0, 1}, torch::kLong);
  batch.validate();
  batch.text_mask = torch::ones({2, 4}, torch::kBool);
  CHECK_THROWS_WITH(batch.validate(), Catch::Contains("text_mask"));
}

}  // namespace
}  // namespace fgvl
