#pragma once
#include <string>
#include <vector>

#include "fgvl/losses/criterion.hpp"

namespace fgvl::train {

/// What one term makes of the gradient.
struct GradientShare {
  std::string term;
  double norm = 0;   ///< of d(weighted term) / d(parameters), all of them together
  double share = 0;  ///< norm / sum of the norms of all terms; NaN where all are 0
};

/// Of every term that `report` computed, with respect to `parameters`: those of the model, which terms share, so that a head that only one term has does not count.
/// Walks the graph of the report once a term and keeps it: a backward pass afterwards gives what it would have given.
std::vector<GradientShare> gradient_shares(const losses::LossReport& report, const std::vector<Tensor>& parameters);

}  // namespace fgvl::train
