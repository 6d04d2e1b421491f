#pragma once
#include <string>

#include <absl/functional/function_ref.h>

#include "core/config_tree.hpp"
#include "fgvl/core/config_visitor.hpp"

namespace fgvl::config {

/// Feeds a visitor that reads from `tree` to `visit`. The status lists every problem, one a line.
absl::Status read_tree(const Tree& tree, const std::string& name, absl::FunctionRef<void(Visitor&)> visit);

}  // namespace fgvl::config
