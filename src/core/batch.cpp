#include "fgvl/core/batch.hpp"

#include <initializer_list>

#include <torch/torch.h>

namespace fgvl {
namespace {

/// One expected extent: a fixed number, or -1 for any.
void check_field(const char* name, const Tensor& value, at::ScalarType dtype, std::initializer_list<std::int64_t> shape, const char* meaning) {
  TORCH_CHECK(value.scalar_type() == dtype, "[RegionBatch] ", name, ": expected dtype ", dtype, ", got ", value.scalar_type());
  bool fits = value.dim() == static_cast<std::int64_t>(shape.size());
  std::int64_t axis = 0;
  for (const std::int64_t extent : shape) {
    if (!fits) break;
    fits = extent < 0 || value.size(axis) == extent;
    ++axis;
  }
  TORCH_CHECK(fits, "[RegionBatch] ", name, ": expected ", meaning, ", got ", value.sizes());
}

Tensor moved(const Tensor& value, at::Device device) {
  // Only towards a GPU: what a later kernel reads is ordered behind the copy there, but a CPU would read before it is done.
  return value.defined() ? value.to(device, /*non_blocking=*/device.is_cuda()) : value;
}

}  // namespace

RegionBatch RegionBatch::to(at::Device device) const {
  RegionBatch copy = *this;
  for (Tensor RegionBatch::*field :
       {&RegionBatch::images, &RegionBatch::text_to_image, &RegionBatch::is_region, &RegionBatch::boxes, &RegionBatch::is_unambiguous, &RegionBatch::text_ids,
        &RegionBatch::text_mask, &RegionBatch::masked_ids, &RegionBatch::masked_positions, &RegionBatch::masked_labels, &RegionBatch::text_key,
        &RegionBatch::text_stream, &RegionBatch::foil_ids, &RegionBatch::foil_mask, &RegionBatch::foil_to_text, &RegionBatch::label_ids, &RegionBatch::label_mask,
        &RegionBatch::label_key, &RegionBatch::implied_keys, &RegionBatch::text_weight}) {
    copy.*field = moved(this->*field, device);
  }
  return copy;
}

void RegionBatch::validate() const {
  for (const auto& [name, value] : {std::pair<const char*, const Tensor&>{"images", images}, {"text_to_image", text_to_image}, {"is_region", is_region},
                                    {"boxes", boxes}, {"text_ids", text_ids}, {"text_mask", text_mask}, {"text_key", text_key}}) {
    TORCH_CHECK(value.defined(), "[RegionBatch] ", name, ": required, but undefined");
  }
  const std::int64_t texts = text_to_image.numel(), tokens = text_ids.dim() == 2 ? text_ids.size(1) : -1;
  TORCH_CHECK(images.dim() == 4 && images.size(1) == 3 && images.is_floating_point(), "[RegionBatch] images: expected floating [B, 3, H, W], got ",
              images.scalar_type(), " ", images.sizes());
  check_field("text_to_image", text_to_image, at::kLong, {texts}, "[T]");
  check_field("is_region", is_region, at::kBool, {texts}, "[T]");
  TORCH_CHECK(boxes.is_floating_point() && boxes.dim() == 2 && boxes.size(0) == texts && boxes.size(1) == 4, "[RegionBatch] boxes: expected floating [T, 4], got ",
              boxes.scalar_type(), " ", boxes.sizes());
  check_field("text_ids", text_ids, at::kLong, {texts, -1}, "[T, L]");
  check_field("text_mask", text_mask, at::kBool, {texts, tokens}, "[T, L]");
  check_field("text_key", text_key, at::kLong, {texts}, "[T]");
  if (is_unambiguous.defined()) check_field("is_unambiguous", is_unambiguous, at::kBool, {texts}, "[T]");
  if (text_stream.defined()) check_field("text_stream", text_stream, at::kLong, {texts}, "[T]");
  if (masked_ids.defined()) {
    check_field("masked_ids", masked_ids, at::kLong, {texts, tokens}, "[T, L]");
    check_field("masked_positions", masked_positions, at::kLong, {texts, -1}, "[T, M]");
    check_field("masked_labels", masked_labels, at::kLong, {texts, masked_positions.size(1)}, "[T, M]");
  }
  if (foil_ids.defined()) {
    check_field("foil_ids", foil_ids, at::kLong, {-1, -1}, "[F, L']");
    check_field("foil_mask", foil_mask, at::kBool, {foil_ids.size(0), foil_ids.size(1)}, "[F, L']");
    check_field("foil_to_text", foil_to_text, at::kLong, {foil_ids.size(0)}, "[F]");
  }
  if (label_ids.defined()) {
    check_field("label_ids", label_ids, at::kLong, {-1, -1}, "[K, L'']");
    check_field("label_mask", label_mask, at::kBool, {label_ids.size(0), label_ids.size(1)}, "[K, L'']");
    check_field("label_key", label_key, at::kLong, {label_ids.size(0)}, "[K]");
  }
  if (implied_keys.defined()) check_field("implied_keys", implied_keys, at::kLong, {-1, 2}, "[A, 2]");
  if (text_weight.defined()) check_field("text_weight", text_weight, at::kFloat, {texts}, "[T]");
  if (texts > 0) {
    const std::int64_t low = text_to_image.min().item<std::int64_t>(), high = text_to_image.max().item<std::int64_t>();
    TORCH_CHECK(low >= 0 && high < images.size(0), "[RegionBatch] text_to_image: expected indices in [0, ", images.size(0), "), got [", low, ", ", high, "]");
  }
}

}  // namespace fgvl
