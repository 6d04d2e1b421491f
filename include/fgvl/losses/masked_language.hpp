#pragma once
#include "fgvl/losses/term.hpp"

namespace fgvl::losses {

/// Masked language modelling on fused tokens (MLM): BERT's head (arXiv 1810.04805), decoder tied to the word embeddings; X-VLM models/xbert.py.
/// The mean runs over masked tokens.
struct MaskedLanguageOptions {};
void visit_fields(config::Visitor& visitor, MaskedLanguageOptions& options);

/// A term that predicts words from fused tokens.
class WordPredictor {
 public:
  virtual ~WordPredictor() = default;
  /// [N, D] fused tokens, [V, D] word embedding -> [N, V] logits.
  virtual Tensor word_logits(const Tensor& tokens, const Tensor& word_embedding) = 0;
};

LossTermPtr make_term(const MaskedLanguageOptions& options, const FeatureSpec& spec);

}  // namespace fgvl::losses
