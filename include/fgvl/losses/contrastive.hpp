#pragma once
#include <optional>

#include "fgvl/core/schedule.hpp"
#include "fgvl/losses/rows.hpp"
#include "fgvl/losses/temperature.hpp"
#include "fgvl/losses/term.hpp"

namespace fgvl::losses {

enum class SameText { kPositive, kIgnored };                 ///< what rows of equal text are to one another
config::EnumNames<SameText> enum_names(SameText);

/// Features of earlier batches, made by the momentum encoders, as further candidates (MoCo, arXiv 1911.05722).
struct QueueOptions {
  std::int64_t size = 65536;  ///< rows: ALBEF's and PEVL's; BLIP's is 57600. No multiple of anything
};
void visit_fields(config::Visitor& visitor, QueueOptions& options);

/// Image-text contrastive loss (ITC): CLIP (arXiv 2103.00020), ALBEF (2107.07651), X-VLM (2111.08276, models/xvlm.py get_contrastive_loss).
/// With a queue or soft targets as ALBEF, BLIP and PEVL (models/model_pretrain.py): the candidates are the momentum encoders' features of the whole batch, over all ranks, and of the queue; they carry no gradient.
struct ContrastiveOptions {
  Rows rows = Rows::kAll;
  SameText same_text = SameText::kPositive;
  TemperatureOptions temperature{};
  std::optional<QueueOptions> queue{};  ///< absent: none. Read before the batch enters it, which it does in training only; an entry with a row's text is to that row what `same_text` says
  /// Share of the targets that is the momentum encoders' own softmax over the candidates, in [0, 1] (momentum distillation: ALBEF, arXiv 2107.07651, eq. 6). ALBEF: 0.4, from 0 in the steps of the first epoch;
  /// BLIP: of the first two.
  Schedule alpha{0.0};
  /// As NegCLIP (arXiv 2210.01936): the softmax of every visual over the texts has the foils of these texts, of all ranks, as further columns; that of texts over visuals is as it was. A foil with the tokens
  /// of a text of the batch is left out. With a queue or soft targets foils are the momentum encoders', as all candidates.
  bool foils = false;
  /// As the official codes: every pair but a row's own is a negative, also equal texts and texts that are true of the picture. Several ranks: X-VLM's encoders get 1 / ranks of the gradient; with a queue or soft targets
  /// the features of other ranks are no candidates until they are in the queue; a queue starts full of random rows.
  bool reference = false;
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
