#pragma once
#include "fgvl/core/tensor.hpp"

namespace fgvl {

/// at::gelu, exact: x P(Z <= x) for Z standard normal. On CPUs the gradient of float32 is a kernel of its own.
Tensor exact_gelu(const Tensor& input);

}  // namespace fgvl
