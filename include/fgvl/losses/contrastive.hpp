#pragma once
#include "fgvl/losses/rows.hpp"
#include "fgvl/losses/temperature.hpp"
#include "fgvl/losses/term.hpp"

namespace fgvl::losses {

enum class SameText { kPositive, kIgnored };                 ///< what rows of equal text are to one another
config::EnumNames<SameText> enum_names(SameText);

/// Image-text contrastive loss (ITC): CLIP (arXiv 2103.00020), ALBEF (2107.07651), X-VLM (2111.08276, models/xvlm.py get_contrastive_loss).
struct ContrastiveOptions {
  Rows rows = Rows::kAll;
  SameText same_text = SameText::kPositive;
  TemperatureOptions temperature{};
  bool reference = false;  ///< as X-VLM: every pair but a row's own is a negative, also equal texts and texts that are true of the picture
};
void visit_fields(config::Visitor& visitor, ContrastiveOptions& options);

/// Which pairs of N visuals (rows) and M texts (columns) count as what; both [N, M] bool. A pair that is neither is a negative.
struct PairRoles {
  Tensor positive{};
  Tensor ignored{};  ///< undefined: none
};

/// [N] cross-entropy of each row of `logits` [N, M] against the uniform distribution over its positives, ignored columns left out of the
/// softmax. A row without a positive gives 0.
Tensor multi_positive_cross_entropy(const Tensor& logits, const PairRoles& roles);

/// Scalar: mean of the two directions of InfoNCE between N visuals and N texts, unit rows [N, E], row n with row n.
/// `temperature` divides the similarities. N = 0 gives 0.
Tensor contrastive(const Tensor& visual, const Tensor& text, const Tensor& temperature);

LossTermPtr make_term(const ContrastiveOptions& options, const FeatureSpec& spec);

}  // namespace fgvl::losses
