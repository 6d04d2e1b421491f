#include "fgvl/eval/grounding.hpp"

#include <ATen/ATen.h>

#include "fgvl/core/boxes.hpp"

namespace fgvl::eval {

double box_iou(const data::PixelBox& a, const data::PixelBox& b) {
  const auto tensor = [](const data::PixelBox& box) { return at::tensor(at::ArrayRef<double>(box.data(), box.size()), at::kDouble).view({1, 4}); };
  return paired_iou(tensor(a), tensor(b)).item<double>();
}

}  // namespace fgvl::eval
