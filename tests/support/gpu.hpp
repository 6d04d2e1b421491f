#pragma once
#include <iostream>

#include "fgvl/core/device.hpp"
#include "support/catch.hpp"

/// Ends a test case, with a message, where there is no GPU.
#define FGVL_NEEDS_GPU()                                    \
  if (!fgvl::cuda_available()) {                            \
    std::cout << "SKIPPED: there is no GPU" << std::endl;   \
    SUCCEED("skipped");                                     \
    return;                                                 \
  }                                                         \
  static_assert(true)
