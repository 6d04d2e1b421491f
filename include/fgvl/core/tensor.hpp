#pragma once
/// The tensor type of every public header. Costs 2 s a source where torch/torch.h costs 12 s.
#include <ATen/core/Tensor.h>

namespace fgvl {
using at::Tensor;
}  // namespace fgvl
