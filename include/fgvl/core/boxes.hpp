#pragma once
#include "fgvl/core/tensor.hpp"

namespace fgvl {

/// Boxes are [N, 4] of a floating dtype. Formats: cxcywh (centre and size), xywh (top-left corner and size), xyxy (two corners);
/// x to the right, y downwards, continuous coordinates (a box of width w covers [x, x + w)). Units are the caller's unless said.
Tensor cxcywh_to_xyxy(const Tensor& boxes);
Tensor xyxy_to_cxcywh(const Tensor& boxes);
Tensor xywh_to_cxcywh(const Tensor& boxes);
Tensor cxcywh_to_xywh(const Tensor& boxes);

/// [N] areas of xyxy boxes; negative extents count as 0.
Tensor box_area(const Tensor& xyxy);

/// [N] element-wise IoU of two lists of xyxy boxes (row n of `a` with row n of `b`; no N x N matrix). Two boxes whose union has
/// no area have IoU 0 and zero gradient (the official X-VLM gives NaN there).
Tensor paired_iou(const Tensor& a, const Tensor& b);

/// [N] element-wise generalised IoU (Rezatofighi et al., arXiv 1902.09630), in [-1, 1]: IoU - (hull - union) / hull.
/// A hull without area gives 0 and zero gradient. A degenerate box (x2 < x1) affects only its own row.
Tensor paired_giou(const Tensor& a, const Tensor& b);

/// [N] element-wise distance IoU of xyxy boxes (Zheng et al., arXiv 1911.08287, eq. 7), in (-1, 1]: IoU - (distance of the centres / diagonal of the hull)^2. Two equal points give 0 and zero gradient.
/// A degenerate box affects only its own row. Throws c10::Error for boxes that are not floating [N, 4].
Tensor paired_diou(const Tensor& a, const Tensor& b);

/// [N] element-wise complete IoU of xyxy boxes (arXiv 1911.08287 too, eq. 8 to 11; same errors): DIoU - alpha * v with v = 4 / pi^2 (atan(w_a / h_a) - atan(w_b / h_b))^2 and alpha = v / (1 - IoU + v), which carries no gradient, as in the paper's code
/// and torchvision's. Negative extents count as 0 and give `v` no gradient.
Tensor paired_ciou(const Tensor& a, const Tensor& b);

/// Cut to [0, width] x [0, height]; xyxy.
Tensor clip_boxes(const Tensor& xyxy, double width, double height);

/// Mirrored left to right in an image of `width`; xyxy in, xyxy out.
Tensor flip_boxes(const Tensor& xyxy, double width);

/// [T, grid_height * grid_width] bool: the patches that each box touches, row by row: floor(x1)..ceil(x2) in patch units, clamped,
/// at least one patch (X-VLM, dataset/pretrain_dataset.py get_image_attns). `boxes`: [T, 4] cxcywh in units of the image side.
/// Computed in double; edges within 1e-5 of a patch border are snapped to it, because float32 centres would move them across.
Tensor patch_mask(const Tensor& boxes, std::int64_t grid_height, std::int64_t grid_width);

}  // namespace fgvl
