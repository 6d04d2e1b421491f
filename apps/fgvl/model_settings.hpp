#pragma once
#include <vector>

#include "fgvl/models/deduce.hpp"

namespace fgvl::app {

/// Prints a model's settings, a part a line, and beneath them why some were assumed (*) or must be given (?).
void print_settings(const std::vector<models::Setting>& settings);

}  // namespace fgvl::app
