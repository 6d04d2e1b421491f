#pragma once
#include <string>

#include "fgvl/losses/rows.hpp"
#include "fgvl/losses/term.hpp"

namespace fgvl::losses {

/// Masked position tokens (PEVL, arXiv 2205.11169; e-bug/fine-grained-evals 6cc5fc1, models/PEVL/models/model_pretrain.py): where a phrase stands is written behind it as four words, each one of kPositionBins
/// bins, some of them are masked, and the model says which they were. A bin beside the right one is less wrong than one far away: the target spreads over all bins. The mean runs over masked position tokens.
/// PEVL gives this term the weight 2 (postoken_temp); its masked_language counts position tokens as words like others beside.
struct PositionTokensOptions {
  Rows rows = Rows::kAll;
  std::string masked_language = "mlm";  ///< name of the masked_language term whose head predicts words
  double decay = 0.15;                  ///< of the target a bin; 0.15 for PEVL's pre-training and grounding, 0.25 for visual relations (exp_decay_ratio)
};
void visit_fields(config::Visitor& visitor, PositionTokensOptions& options);

/// [N] int64 true bins in [0, kPositionBins) -> [N, kPositionBins] float32: exp(-decay |bin - j|) for every bin j, divided by its sum over j (PEVL, exp_decay_ratio; decay 0: all bins alike). Single precision
/// whatever the model computes in, as in PEVL.
Tensor position_targets(const Tensor& bins, double decay);
/// [N] cross-entropy of each row, of the dtype of `logits` and with its gradient: -sum over bins j of position_targets()[n, j] * log softmax(logits[n])[first + j], the softmax running over all V words as in PEVL.
/// `logits`: [N, V] floating. `bins`: [N] int64 true bins, on the same device. `first`: the word that [pos_0] is; [pos_j] is word first + j. N may be 0.
/// Throws c10::Error for other shapes, and where fewer than kPositionBins words are left from `first` on.
Tensor position_loss(const Tensor& logits, const Tensor& bins, std::int64_t first, double decay);

/// Throws c10::Error for a vocabulary without position tokens (FeatureSpec::first_position_id).
LossTermPtr make_term(const PositionTokensOptions& options, const FeatureSpec& spec);

}  // namespace fgvl::losses
