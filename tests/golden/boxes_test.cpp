// golden/boxes and golden/regions: X-VLM's box_ops.py, get_bbox_loss and get_image_attns.
#include <fstream>
#include <map>

#include <nlohmann/json.hpp>
#include <torch/torch.h>

#include "fgvl/core/boxes.hpp"
#include "fgvl/core/safetensors.hpp"
#include "fgvl/losses/box_regression.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

namespace fgvl {
namespace {

using Json = nlohmann::json;

Json read_json(const std::filesystem::path& path) {
  std::ifstream stream(path);
  return Json::parse(stream);
}

double number(const Json& value) { return value.is_string() ? std::nan("") : value.get<double>(); }

double largest_difference(const Tensor& a, const Tensor& b) { return a.numel() == 0 ? 0 : (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>(); }

TEST_CASE("boxes: values and gradients equal box_ops.py wherever that is finite, and are finite where it is not", "[golden]") {
  const auto folder = test::golden_dir() / "boxes";
  FGVL_SKIP_UNLESS(!test::golden_dir().empty(), "golden values");
  auto read = read_safetensors((folder / "box_pairs.safetensors").string());
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
  const Tensor gradient = torch::autograd::grad({each.giou.sum()}, {predicted}, {}, true)[0];
  CHECK(gradient.isfinite().all().item<bool>());
  const Tensor both = usable.logical_and(golden["grad.one_minus_giou_wrt_pred"].isfinite().all(1));
  const Tensor expected = golden["grad.one_minus_giou_wrt_pred"].index({both});
  CHECK((gradient.index({both}) - expected).norm().item<double>() <= 2e-4 * expected.norm().item<double>() + 1e-5);
  CHECK(largest_difference(torch::autograd::grad({each.l1.sum()}, {predicted})[0], golden["grad.l1_sum_wrt_pred"]) <= 1e-6);
  std::cout << "boxes: " << predicted.size(0) << " pairs compared" << std::endl;
}

TEST_CASE("boxes: whole batches equal get_bbox_loss, degenerate and all-image ones under `reference`", "[golden]") {
  const auto folder = test::golden_dir() / "boxes";
  FGVL_SKIP_UNLESS(!test::golden_dir().empty(), "golden values");
  const Json cases = read_json(folder / "box_pairs.json")["get_bbox_loss"];
  int compared = 0;
  for (const auto& [name, one] : cases.items()) {
    INFO(name);
    const auto rows = [](const Json& list) {
      std::vector<double> values;
      for (const Json& row : list) {
        for (const Json& value : row) values.push_back(number(value));
      }
      return torch::tensor(values, torch::kFloat64).view({-1, 4}).to(at::kFloat);
    };
    const std::string predicted_key = one.contains("pred") ? "pred" : "output_coord";
    const Tensor predicted = rows(one[predicted_key]).set_requires_grad(true), target = rows(one["target"]);
    Tensor weight = torch::ones({predicted.size(0)});
    if (!one["is_image"].is_null()) {
      for (std::int64_t i = 0; i < weight.size(0); ++i) weight[i] = 1 - one["is_image"][static_cast<std::size_t>(i)].get<double>();
    }
    const double golden_l1 = number(one["loss_bbox"]), golden_giou = number(one["loss_giou"]);
    const losses::BoxLosses each = losses::box_losses(predicted, target, /*reference=*/true);
    const double count = weight.sum().item<double>();
    const double l1 = ((each.l1 * weight).sum() / count).item<double>(), giou = ((each.giou * weight).sum() / count).item<double>();
    if (std::isnan(golden_l1)) {
      CHECK(std::isnan(l1));
    } else {
      CHECK(l1 == Approx(golden_l1).margin(1e-5));
    }
    if (std::isnan(golden_giou)) {
      CHECK(std::isnan(giou));
    } else {
      CHECK(giou == Approx(golden_giou).margin(1e-5));
    }
    // Without `reference`: never NaN, and zero boxes cost exactly nothing.
    const Tensor kept = weight.nonzero().squeeze(1);
    const Tensor ours = losses::box_regression(predicted.index_select(0, kept), target.index_select(0, kept));
    CHECK(std::isfinite(ours.item<double>()));
    if (kept.size(0) == 0) CHECK(ours.item<double>() == 0.0);
    ++compared;
  }
  std::cout << "boxes: " << compared << " whole batches compared" << std::endl;
  CHECK(compared > 0);
}

TEST_CASE("regions: the patches of every box equal get_image_attns", "[golden]") {
  const auto folder = test::golden_dir() / "regions";
  FGVL_SKIP_UNLESS(!test::golden_dir().empty(), "golden values");
  const Json sets = read_json(folder / "region_patch_masks.json")["sets"];
  std::int64_t compared = 0;
  for (const auto& [name, set] : sets.items()) {
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
