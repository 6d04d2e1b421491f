#pragma once
#include <string>
#include <vector>

#include "fgvl/data/foils.hpp"
#include "support/catch.hpp"

namespace fgvl::data {

inline FoilRulesPtr rules(const FoilOptions& options = {}, const std::vector<std::string>& labels = {}) {
  const auto made = FoilRules::make(options, labels);
  INFO(made.status());
  REQUIRE(made.ok());
  return *made;
}

}  // namespace fgvl::data
