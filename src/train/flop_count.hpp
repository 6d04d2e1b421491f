#pragma once
#include <cstdint>

namespace fgvl::train {

/// Counts the floating-point operations of matrix products, convolutions and fused attention that this thread dispatches while it lives, those of backward passes included; a multiplication with its
/// addition counts 2. Everything else (sums, norms, look-ups) is left out, as in papers. One at a time.
class FlopCount {
 public:
  FlopCount();
  ~FlopCount();
  FlopCount(const FlopCount&) = delete;
  FlopCount& operator=(const FlopCount&) = delete;
  double flops() const;

 private:
  std::uint64_t handle_;
};

}  // namespace fgvl::train
