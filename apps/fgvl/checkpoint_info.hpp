#pragma once
#include <string>

#include "fgvl/core/status.hpp"

namespace fgvl::app {

/// Prints what a file or folder of weights is: format, family, sizes, parameters by module, weights that are not finite.
absl::StatusOr<ExitCode> checkpoint_info(const std::string& path);

}  // namespace fgvl::app
