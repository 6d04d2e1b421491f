#include "fgvl/core/boxes.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include <torch/torch.h>

namespace fgvl {
namespace {

void check_boxes(const char* function, const Tensor& boxes) {
  TORCH_CHECK(boxes.dim() == 2 && boxes.size(1) == 4 && boxes.is_floating_point(), "[", function, "] boxes: expected floating [N, 4], got ", boxes.scalar_type(), " ",
              boxes.sizes());
}

/// numerator / denominator where the denominator is positive, else an exact zero without gradient.
Tensor safe_ratio(const Tensor& numerator, const Tensor& denominator) {
  const Tensor valid = denominator > 0;
  return at::where(valid, numerator / at::where(valid, denominator, at::ones_like(denominator)), at::zeros_like(numerator));
}

struct Overlap {
  Tensor intersection, unified;  ///< [N] areas
};

/// [N] squared lengths of [N, 2] vectors.
Tensor squared_length(const Tensor& vectors) { return vectors.square().sum(1); }

/// [N] angle of the diagonal: atan(width / height). A box too small for its squared diagonal to be a number has angle 0 without gradient, or the derivative's 1 / (w^2 + h^2) would be infinite.
Tensor diagonal_angle(const Tensor& xyxy) {
  const Tensor sides = (xyxy.slice(1, 2, 4) - xyxy.slice(1, 0, 2)).clamp_min(0);
  const double smallest = xyxy.scalar_type() == at::kDouble ? std::numeric_limits<double>::min() : static_cast<double>(std::numeric_limits<float>::min());
  const Tensor valid = squared_length(sides) >= smallest;
  const Tensor width = at::where(valid, sides.select(1, 0), at::zeros({}, sides.options())), height = at::where(valid, sides.select(1, 1), at::ones({}, sides.options()));
  return at::atan2(width, height);
}

Overlap overlap(const Tensor& a, const Tensor& b) {
  const Tensor top_left = at::maximum(a.slice(1, 0, 2), b.slice(1, 0, 2)), bottom_right = at::minimum(a.slice(1, 2, 4), b.slice(1, 2, 4));
  const Tensor intersection = (bottom_right - top_left).clamp_min(0).prod(1);
  return {intersection, box_area(a) + box_area(b) - intersection};
}

}  // namespace

Tensor cxcywh_to_xyxy(const Tensor& boxes) {
  check_boxes("cxcywh_to_xyxy", boxes);
  const Tensor centre = boxes.slice(1, 0, 2), half = boxes.slice(1, 2, 4) * 0.5;
  return at::cat({centre - half, centre + half}, 1);
}

Tensor xyxy_to_cxcywh(const Tensor& boxes) {
  check_boxes("xyxy_to_cxcywh", boxes);
  const Tensor low = boxes.slice(1, 0, 2), high = boxes.slice(1, 2, 4);
  return at::cat({(low + high) * 0.5, high - low}, 1);
}

Tensor xywh_to_cxcywh(const Tensor& boxes) {
  check_boxes("xywh_to_cxcywh", boxes);
  return at::cat({boxes.slice(1, 0, 2) + boxes.slice(1, 2, 4) * 0.5, boxes.slice(1, 2, 4)}, 1);
}

Tensor cxcywh_to_xywh(const Tensor& boxes) {
  check_boxes("cxcywh_to_xywh", boxes);
  return at::cat({boxes.slice(1, 0, 2) - boxes.slice(1, 2, 4) * 0.5, boxes.slice(1, 2, 4)}, 1);
}

Tensor box_area(const Tensor& xyxy) {
  check_boxes("box_area", xyxy);
  return (xyxy.slice(1, 2, 4) - xyxy.slice(1, 0, 2)).clamp_min(0).prod(1);
}

Tensor paired_iou(const Tensor& a, const Tensor& b) {
  check_boxes("paired_iou", a);
  check_boxes("paired_iou", b);
  const Overlap both = overlap(a, b);
  return safe_ratio(both.intersection, both.unified);
}

Tensor paired_giou(const Tensor& a, const Tensor& b) {
  check_boxes("paired_giou", a);
  check_boxes("paired_giou", b);
  const Overlap both = overlap(a, b);
  const Tensor low = at::minimum(a.slice(1, 0, 2), b.slice(1, 0, 2)), high = at::maximum(a.slice(1, 2, 4), b.slice(1, 2, 4));
  const Tensor hull = (high - low).clamp_min(0).prod(1);
  return safe_ratio(both.intersection, both.unified) - safe_ratio(hull - both.unified, hull);
}

Tensor paired_diou(const Tensor& a, const Tensor& b) {
  check_boxes("paired_diou", a);
  check_boxes("paired_diou", b);
  const Overlap both = overlap(a, b);
  const Tensor hull = (at::maximum(a.slice(1, 2, 4), b.slice(1, 2, 4)) - at::minimum(a.slice(1, 0, 2), b.slice(1, 0, 2))).clamp_min(0);
  const Tensor centres = (a.slice(1, 0, 2) + a.slice(1, 2, 4) - b.slice(1, 0, 2) - b.slice(1, 2, 4)) * 0.5;
  return safe_ratio(both.intersection, both.unified) - safe_ratio(squared_length(centres), squared_length(hull));
}

Tensor paired_ciou(const Tensor& a, const Tensor& b) {
  const Tensor v = (diagonal_angle(a) - diagonal_angle(b)).square() * (4 / (std::numbers::pi * std::numbers::pi));
  const Tensor alpha = safe_ratio(v, 1 - paired_iou(a, b) + v).detach();
  return paired_diou(a, b) - alpha * v;
}

Tensor clip_boxes(const Tensor& xyxy, double width, double height) {
  check_boxes("clip_boxes", xyxy);
  const Tensor x1 = xyxy.select(1, 0).clamp(0, width), y1 = xyxy.select(1, 1).clamp(0, height);
  const Tensor x2 = xyxy.select(1, 2).clamp(0, width), y2 = xyxy.select(1, 3).clamp(0, height);
  return at::stack({x1, y1, x2, y2}, 1);
}

Tensor flip_boxes(const Tensor& xyxy, double width) {
  check_boxes("flip_boxes", xyxy);
  return at::stack({width - xyxy.select(1, 2), xyxy.select(1, 1), width - xyxy.select(1, 0), xyxy.select(1, 3)}, 1);
}

Tensor patch_mask(const Tensor& boxes, std::int64_t grid_height, std::int64_t grid_width) {
  check_boxes("patch_mask", boxes);
  TORCH_CHECK(grid_height > 0 && grid_width > 0, "[patch_mask] grid: expected a positive height and width, got ", grid_height, " x ", grid_width);
  const Tensor host = boxes.detach().to(at::kCPU, at::kDouble).contiguous();
  const Tensor mask = at::zeros({boxes.size(0), grid_height, grid_width}, at::kBool);
  const double* box = host.const_data_ptr<double>();
  bool* out = mask.mutable_data_ptr<bool>();
  const auto snapped = [](double value) {
    const double border = std::round(value);
    return std::abs(value - border) < 1e-5 ? border : value;
  };
  // First and one past the last patch of an extent; at least one patch, inside the grid.
  const auto extent = [&](double centre, double size, std::int64_t patches) {
    const double count = static_cast<double>(patches);
    const auto limited = [&](double value, std::int64_t low, std::int64_t high) {
      return std::isfinite(value) ? static_cast<std::int64_t>(std::clamp(value, static_cast<double>(low), static_cast<double>(high))) : low;
    };
    const std::int64_t first = limited(std::floor(snapped((centre - size / 2) * count)), 0, patches - 1);
    const std::int64_t last = limited(std::ceil(snapped((centre + size / 2) * count)), first + 1, patches);
    return std::pair(first, last);
  };
  for (std::int64_t row = 0; row < boxes.size(0); ++row, box += 4, out += grid_height * grid_width) {
    const auto [x1, x2] = extent(box[0], box[2], grid_width);
    const auto [y1, y2] = extent(box[1], box[3], grid_height);
    for (std::int64_t y = y1; y < y2; ++y) std::fill(out + y * grid_width + x1, out + y * grid_width + x2, true);
  }
  return mask.flatten(1).to(boxes.device());
}

}  // namespace fgvl
