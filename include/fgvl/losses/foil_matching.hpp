#pragma once
#include <string>

#include "fgvl/losses/rows.hpp"
#include "fgvl/losses/term.hpp"

namespace fgvl::losses {

/// A text changed by rule (roles swapped, relation inverted) must score below the true text on the same visual. NegCLIP's idea
/// (arXiv 2210.01936), as a pairwise ranking of matching scores: as plain negatives such foils taught small models nothing.
struct FoilMatchingOptions {
  Rows rows = Rows::kAll;        ///< foils of these texts
  std::string matching = "itm";  ///< name of the matching term whose scores are ranked
};
void visit_fields(config::Visitor& visitor, FoilMatchingOptions& options);

/// [N] softplus(foil - matched), of matching scores [N] (logit of match minus logit of no match).
Tensor ranking_loss(const Tensor& matched_score, const Tensor& foil_score);

LossTermPtr make_term(const FoilMatchingOptions& options, const FeatureSpec& spec);

}  // namespace fgvl::losses
