#pragma once
#include "fgvl/losses/term.hpp"

namespace fgvl::losses {

/// The overlap that is trained, core/boxes.hpp: generalised IoU, as X-VLM | distance IoU | complete IoU, which also compares the boxes' shapes.
enum class BoxIou { kGiou, kDiou, kCiou };
config::EnumNames<BoxIou> enum_names(BoxIou);

/// Box prediction from a text and its whole image: X-VLM (arXiv 2111.08276, eq. 6; models/xvlm.py get_bbox_loss). Parts `l1` and that of the overlap, under its name: `giou`, `diou` or `ciou`.
struct BoxRegressionOptions {
  double l1_weight = 1.0;
  double giou_weight = 1.0;       ///< of the part of the overlap, whichever it is
  BoxIou iou = BoxIou::kGiou;
  bool only_unambiguous = false;  ///< leave out texts that name several regions of their picture
  bool all_rows = false;          ///< also whole-image texts, whose box is the whole image (X-VLM's calc_image_bbox_loss)
  bool reference = false;         ///< as X-VLM, with GIoU alone: one degenerate box in any row, predicted or true, makes the GIoU of the whole batch 0, boxes without area and a batch without a counted row give NaN
};
void visit_fields(config::Visitor& visitor, BoxRegressionOptions& options);

/// One value per box.
struct BoxLosses {
  Tensor l1{};    ///< [N] sum of the four absolute differences
  Tensor iou{};   ///< [N] 1 - GIoU, or 1 - the overlap that the options name
};

/// `predicted`, `target`: [N, 4] (cx, cy, w, h) in units of the image side. N may be 0. A degenerate box affects only its own row, where its gradient is finite. Reads `iou` and `reference` of the options.
BoxLosses box_losses(const Tensor& predicted, const Tensor& target, const BoxRegressionOptions& options = {});

/// Scalar: l1_weight * mean l1 + giou_weight * mean iou; 0 with zero gradient for no boxes.
Tensor box_regression(const Tensor& predicted, const Tensor& target, const BoxRegressionOptions& options = {});

LossTermPtr make_term(const BoxRegressionOptions& options, const FeatureSpec& spec);

}  // namespace fgvl::losses
