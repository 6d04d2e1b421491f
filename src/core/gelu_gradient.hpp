#pragma once
#include <cstdint>

#include "core/wide_clones.hpp"

namespace fgvl {

// Note [GELU on CPUs]
// The derivative of x P(Z <= x) is P(Z <= x) + x p(x). ATen computes the exponential of p(x) and, inside its erf, the same one again; one does for both, in half the time, which is 2 to 3 % of a step of a Swin. glibc
// has an exponential of eight numbers at a time, and GCC knows how to call it.
#if FGVL_HAS_WIDE_CLONES && defined(__GLIBC__)
inline constexpr bool kHasGeluGradient = true;
#else
inline constexpr bool kHasGeluGradient = false;
#endif

/// out = outer * (derivative of GELU at `in`), `count` elements each. Only where kHasGeluGradient.
void gelu_gradient(const float* in, const float* outer, float* out, std::int64_t count);

}  // namespace fgvl
