#include "fgvl/losses/box_regression.hpp"

#include <algorithm>
#include <limits>

#include <torch/torch.h>

#include "fgvl/core/boxes.hpp"
#include "losses/require_fusion.hpp"

namespace fgvl::losses {
namespace {

/// X-VLM's GIoU loss (models/box_ops.py): areas without clamp, no guard against empty unions, and zero for the whole batch when any
/// predicted corner pair is reversed.
Tensor reference_giou_loss(const Tensor& predicted, const Tensor& target) {
  const Tensor a = cxcywh_to_xyxy(predicted), b = cxcywh_to_xyxy(target);
  const Tensor reversed = (a.slice(1, 2, 4) < a.slice(1, 0, 2)).any().logical_or((b.slice(1, 2, 4) < b.slice(1, 0, 2)).any());
  if (reversed.item<bool>()) return at::zeros({predicted.size(0)}, predicted.options());
  const auto area = [](const Tensor& box) { return (box.slice(1, 2, 4) - box.slice(1, 0, 2)).prod(1); };
  const Tensor shared = (at::minimum(a.slice(1, 2, 4), b.slice(1, 2, 4)) - at::maximum(a.slice(1, 0, 2), b.slice(1, 0, 2))).clamp_min(0).prod(1);
  const Tensor hull = (at::maximum(a.slice(1, 2, 4), b.slice(1, 2, 4)) - at::minimum(a.slice(1, 0, 2), b.slice(1, 0, 2))).clamp_min(0).prod(1);
  const Tensor unified = area(a) + area(b) - shared;
  return 1 - (shared / unified - (hull - unified) / hull);
}

class BoxRegressionTerm final : public LossTerm {
 public:
  explicit BoxRegressionTerm(const BoxRegressionOptions& options) : options_(options) {}

  Loss forward(ForwardPass& pass) override {
    const RegionBatch& batch = pass.batch();
    Tensor condition = options_.all_rows ? Tensor() : batch.is_region;
    if (options_.only_unambiguous) {
      TORCH_CHECK(batch.is_unambiguous.defined(), "[box_regression] only_unambiguous: batch.is_unambiguous is undefined");
      condition = condition.defined() ? condition.logical_and(batch.is_unambiguous) : batch.is_unambiguous;
    }
    if (options_.reference) return reference_loss(pass, condition);
    const Tensor rows = rows_where(batch, condition);
    // With no row at all the sum is an exact zero whose gradient is zero too, so that a criterion of this term alone can be differentiated.
    const Tensor predicted = pass.predicted_boxes(rows);
    const BoxLosses each = box_losses(predicted, batch.boxes.index_select(0, rows).to(predicted.scalar_type()), options_);
    return parts(each.l1.sum(), each.iou.sum(), static_cast<double>(rows.size(0)));
  }

 private:
  Loss parts(const Tensor& l1, const Tensor& iou, double count) const {
    return Loss().part("l1", options_.l1_weight, l1, count).part(config::name_of(options_.iou), options_.giou_weight, iou, count);
  }

  /// X-VLM predicts a box for every row and takes out whole images afterwards: a reversed box in any row zeroes all GIoU, and a batch without a counted row is 0 / 0.
  Loss reference_loss(ForwardPass& pass, const Tensor& condition) const {
    const RegionBatch& batch = pass.batch();
    const Tensor rows = rows_where(batch);
    const Tensor predicted = pass.predicted_boxes(rows);
    const BoxLosses each = box_losses(predicted, batch.boxes.index_select(0, rows).to(predicted.scalar_type()), options_);
    const Tensor counted = condition.defined() ? condition.index_select(0, rows).to(predicted.scalar_type()) : at::ones_like(each.l1);
    const double count = counted.sum().item<double>();
    const double scale = count > 0 ? 1.0 : std::numeric_limits<double>::quiet_NaN();
    return parts((each.l1 * counted).sum() * scale, (each.iou * counted).sum() * scale, std::max(count, 1.0));
  }

  BoxRegressionOptions options_;
};

}  // namespace

config::EnumNames<BoxIou> enum_names(BoxIou) { return {{BoxIou::kGiou, "giou"}, {BoxIou::kDiou, "diou"}, {BoxIou::kCiou, "ciou"}}; }

void visit_fields(config::Visitor& visitor, BoxRegressionOptions& options) {
  visitor("l1_weight", options.l1_weight, "of the L1 part", config::kNonNegative);
  visitor("giou_weight", options.giou_weight, "of the part of the overlap, whichever iou names", config::kNonNegative);
  visitor("iou", options.iou, "the overlap: giou, as X-VLM; diou: with the distance of the centres; ciou: with the difference of the shapes as well");
  visitor("only_unambiguous", options.only_unambiguous, "leave out texts that name several regions of their picture");
  visitor("all_rows", options.all_rows, "also texts about whole images, whose box is the whole image: X-VLM's calc_image_bbox_loss");
  visitor("reference", options.reference, "as X-VLM: one reversed box makes the GIoU part of the whole batch 0");
  visitor.check(!options.reference || options.iou == BoxIou::kGiou, "reference: X-VLM has GIoU alone, and iou is another");
}

BoxLosses box_losses(const Tensor& predicted, const Tensor& target, const BoxRegressionOptions& options) {
  TORCH_CHECK(predicted.dim() == 2 && predicted.size(1) == 4 && predicted.sizes() == target.sizes(), "[box_losses] predicted, target: expected two [N, 4], got ", predicted.sizes(),
              " and ", target.sizes());
  const Tensor l1 = (predicted - target).abs().sum(1);
  if (options.reference) return {l1, reference_giou_loss(predicted, target)};
  const auto paired = options.iou == BoxIou::kGiou ? paired_giou : options.iou == BoxIou::kDiou ? paired_diou : paired_ciou;
  return {l1, 1 - paired(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(target))};
}

Tensor box_regression(const Tensor& predicted, const Tensor& target, const BoxRegressionOptions& options) {
  const BoxLosses each = box_losses(predicted, target, options);
  if (predicted.size(0) == 0) return predicted.sum();
  return options.l1_weight * each.l1.mean() + options.giou_weight * each.iou.mean();
}

LossTermPtr make_term(const BoxRegressionOptions& options, const FeatureSpec& spec) {
  require_fusion(spec, "box_regression");
  TORCH_CHECK(!options.reference || options.iou == BoxIou::kGiou, "[box_regression] reference: X-VLM has GIoU alone, and iou is ", config::name_of(options.iou));
  return std::make_shared<BoxRegressionTerm>(options);
}

}  // namespace fgvl::losses
