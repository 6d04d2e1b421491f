// golden/boxes and golden/regions: X-VLM's box_ops.py, get_bbox_loss and get_image_attns.
#include <map>

#include <torch/torch.h>

#include "fgvl/core/boxes.hpp"
#include "fgvl/core/safetensors.hpp"
#include "fgvl/losses/box_regression.hpp"
#include "fgvl/losses/criterion.hpp"
#include "golden/fixtures.hpp"
#include "losses/fake_pass.hpp"
#include "support/catch.hpp"

namespace fgvl {
namespace {

using Json = nlohmann::json;

double number(const Json& value) { return value.is_string() ? std::nan("") : value.get<double>(); }

double largest_difference(const Tensor& a, const Tensor& b) { return a.numel() == 0 ? 0 : (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>(); }

TEST_CASE("boxes: distance and complete IoU equal torchvision's, values and gradients", "[golden]") {
  const auto read = read_safetensors(std::string(FGVL_SOURCE_DIR) + "/tests/reference/boxes/box_losses.safetensors");
  REQUIRE(read.ok());
  const std::map<std::string, Tensor> golden(read->begin(), read->end());
  REQUIRE(golden.at("in.predicted").size(0) > 60);
  for (const auto& [name, iou] : {std::pair<std::string, losses::BoxIou>{"diou", losses::BoxIou::kDiou}, {"ciou", losses::BoxIou::kCiou}}) {
    INFO(name);
    const Tensor predicted = xyxy_to_cxcywh(golden.at("in.predicted")), target = xyxy_to_cxcywh(golden.at("in.target"));
    CHECK(largest_difference(losses::box_losses(predicted, target, {.iou = iou}).iou, golden.at("out." + name)) <= 1e-12);
    const Tensor corners = golden.at("in.predicted").clone().set_requires_grad(true);
    const Tensor loss = 1 - (iou == losses::BoxIou::kDiou ? paired_diou(corners, golden.at("in.target")) : paired_ciou(corners, golden.at("in.target")));
    CHECK(largest_difference(torch::autograd::grad({loss.sum()}, {corners})[0], golden.at("grad." + name)) <= 1e-9);
  }
}

TEST_CASE("boxes: values and gradients equal box_ops.py wherever that is finite, and are finite where it is not", "[golden]") {
  FGVL_NEEDS_GOLDEN();
  std::int64_t compared = 0;
  for (const test::Fixture& fixture : test::golden_json("get_bbox_loss")) {
    INFO(fixture.path);
    auto read = read_safetensors(std::filesystem::path(fixture.path).replace_extension(".safetensors").string());
    REQUIRE(read.ok());
    std::map<std::string, Tensor> golden(read->begin(), read->end());
    const Tensor predicted = golden["in.pred_cxcywh"].clone().set_requires_grad(true), target = golden["in.target_cxcywh"];
    const Tensor a = cxcywh_to_xyxy(predicted), b = cxcywh_to_xyxy(target);
    CHECK(largest_difference(a, golden["out.pred_xyxy"]) <= 1e-6);
    CHECK(largest_difference(xyxy_to_cxcywh(golden["out.pred_xyxy"]), golden["out.pred_cxcywh_again"]) <= 1e-6);
    const Tensor usable = golden["out.giou"].isnan().logical_not(), iou = paired_iou(a, b), giou = paired_giou(a, b);
    CHECK(iou.isfinite().all().item<bool>());
    CHECK(giou.isfinite().all().item<bool>());
    CHECK(largest_difference(iou.index({usable}), golden["out.iou"].index({usable})) <= 1e-6);
    CHECK(largest_difference(giou.index({usable}), golden["out.giou"].index({usable})) <= 1e-6);
    const losses::BoxLosses each = losses::box_losses(predicted, target);
    CHECK(largest_difference(each.l1, golden["out.l1"].sum(1)) <= 1e-6);
    const Tensor gradient = torch::autograd::grad({each.iou.sum()}, {predicted}, {}, true)[0];
    CHECK(gradient.isfinite().all().item<bool>());
    const Tensor both = usable.logical_and(golden["grad.one_minus_giou_wrt_pred"].isfinite().all(1));
    const Tensor expected = golden["grad.one_minus_giou_wrt_pred"].index({both});
    CHECK((gradient.index({both}) - expected).norm().item<double>() <= 2e-4 * expected.norm().item<double>() + 1e-5);
    CHECK(largest_difference(torch::autograd::grad({each.l1.sum()}, {predicted})[0], golden["grad.l1_sum_wrt_pred"]) <= 1e-6);
    compared += predicted.size(0);
  }
  std::cout << "boxes: " << compared << " pairs compared" << std::endl;
  CHECK(compared > 0);
}

/// Numbers of nested lists, "NaN" included.
Tensor numbers(const Json& rows) {
  std::vector<double> values;
  for (const Json& row : rows) {
    for (const Json& value : row) values.push_back(number(value));
  }
  return torch::tensor(values, torch::kFloat64).view({-1, 4}).to(at::kFloat);
}

TEST_CASE("boxes: the term on whole batches equals get_bbox_loss, degenerate and all-image ones under `reference`", "[golden]") {
  FGVL_NEEDS_GOLDEN();
  int compared = 0;
  for (const test::Fixture& fixture : test::golden_json("get_bbox_loss")) {
    for (const auto& [name, one] : fixture.json["get_bbox_loss"].items()) {
      INFO(fixture.path << " " << name);
      const Tensor predicted = numbers(one[one.contains("pred") ? "pred" : "output_coord"]).set_requires_grad(true), golden_gradient = numbers(one["grad"]);
      const std::int64_t rows = predicted.size(0);
      RegionBatch batch = test::batch_of(std::vector<std::int64_t>(static_cast<std::size_t>(rows), 0), std::vector<std::int64_t>(static_cast<std::size_t>(rows), 1));
      batch.boxes = numbers(one["target"]);
      batch.is_region = torch::ones({rows}, torch::kBool);
      if (!one["is_image"].is_null()) {
        for (std::int64_t i = 0; i < rows; ++i) batch.is_region[i] = one["is_image"][static_cast<std::size_t>(i)].get<int>() == 0;
      }
      // is_image absent: X-VLM's calc_image_bbox_loss, our all_rows.
      const losses::BoxRegressionOptions options{.all_rows = one["is_image"].is_null(), .reference = true};
      const auto forward = [&](const losses::BoxRegressionOptions& chosen) {
        test::FakePass pass(batch, torch::zeros({rows, 2}), torch::zeros({rows, 2}));
        pass.predicted = predicted;
        losses::Criterion criterion({.fusion_width = 2, .embed_dim = 2, .vocab_size = 7});
        criterion.add("box", chosen);
        return criterion.forward(pass);
      };
      const auto equal = [](double ours, double golden) { return std::isnan(golden) ? std::isnan(ours) : std::abs(ours - golden) <= 1e-5; };
      const losses::LossReport reference = forward(options);
      CHECK(equal(reference.mean("box.l1").value(), number(one["loss_bbox"])));
      CHECK(equal(reference.mean("box.giou").value(), number(one["loss_giou"])));
      const Tensor gradient = torch::autograd::grad({reference.total}, {predicted})[0];
      CHECK(at::equal(gradient.isnan(), golden_gradient.isnan()));
      const Tensor finite = golden_gradient.isfinite();
      CHECK((gradient.index({finite}) - golden_gradient.index({finite})).norm().item<double>() <= 2e-4 * golden_gradient.index({finite}).norm().item<double>() + 1e-5);
      // Without `reference`: never NaN, also in gradients, and a batch without a region costs exactly nothing.
      const losses::LossReport ours = forward({});
      CHECK(std::isfinite(ours.total.item<double>()));
      const Tensor own_gradient = torch::autograd::grad({ours.total}, {predicted})[0];
      CHECK(own_gradient.isfinite().all().item<bool>());
      if (!batch.is_region.any().item<bool>()) {
        CHECK(ours.total.item<double>() == 0.0);
        CHECK(own_gradient.abs().max().item<double>() == 0.0);
      }
      ++compared;
    }
  }
  std::cout << "boxes: " << compared << " whole batches compared" << std::endl;
  CHECK(compared > 0);
}

TEST_CASE("regions: the patches of every box equal get_image_attns", "[golden]") {
  FGVL_NEEDS_GOLDEN();
  std::int64_t compared = 0;
  Json sets = Json::object();
  for (const test::Fixture& fixture : test::golden_json("sets")) {
    for (const auto& [name, set] : fixture.json["sets"].items()) sets[fixture.path.string() + " " + name] = set;
  }
  for (const auto& [name, set] : sets.items()) {
    if (!set.contains("boxes") || !set.contains("patch_size")) continue;
    const double side = set["image_res"];
    const std::int64_t grid = set["image_res"].get<std::int64_t>() / set["patch_size"].get<std::int64_t>();
    for (const Json& entry : set["boxes"]) {
      const auto box = entry["box_xywh"].get<std::vector<double>>();
      // As a batch holds it: float32 centres in units of the image side.
      const Tensor centre = torch::tensor({(box[0] + box[2] / 2) / side, (box[1] + box[3] / 2) / side, box[2] / side, box[3] / side}, torch::kFloat32).view({1, 4});
      const Tensor touched = patch_mask(centre, grid, grid)[0].nonzero().squeeze(1);
      INFO(name << " " << entry.dump());
      const auto expected = entry["patches"].get<std::vector<std::int64_t>>();
      REQUIRE(at::equal(touched, torch::tensor(expected, torch::kLong)));
      ++compared;
    }
  }
  std::cout << "regions: " << compared << " boxes compared" << std::endl;
  CHECK(compared > 0);
}

}  // namespace
}  // namespace fgvl
