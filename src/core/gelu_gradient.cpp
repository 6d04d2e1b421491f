// Compiled so that a loop may call glibc's exponential of many numbers (src/core/CMakeLists.txt), and without LibTorch's headers, whose precompiled form other flags would make useless.
#include "core/gelu_gradient.hpp"

#include <cmath>

#if FGVL_HAS_WIDE_CLONES && defined(__GLIBC__)
extern "C" __attribute__((simd("notinbranch"))) float expf(float) noexcept;
#endif

namespace fgvl {

FGVL_WIDE_CLONES void gelu_gradient(const float* __restrict in, const float* __restrict outer, float* __restrict out, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    const float x = in[i], exponential = expf(-0.5F * x * x);
    // P(Z > |x|) after Abramowitz and Stegun 7.1.26, whose absolute error of erf is 1.5e-7; ATen uses the same.
    const float t = 1.0F / (1.0F + 0.3275911F * 0.70710678F * std::fabs(x));
    const float tail = 0.5F * exponential * t * (0.254829592F + t * (-0.284496736F + t * (1.421413741F + t * (-1.453152027F + t * 1.061405429F))));
    const float below = x < 0 ? tail : 1.0F - tail;
    out[i] = outer[i] * (below + x * exponential * 0.39894228F);
  }
}

}  // namespace fgvl
