#pragma once
#include <optional>

#include "fgvl/core/schedule.hpp"
#include "fgvl/losses/rows.hpp"
#include "fgvl/losses/term.hpp"

namespace fgvl::losses {

/// The matrix that turns tokens into words: the text encoder's word embeddings, as in BERT, RoBERTa and X-VLM | a matrix of the head's own, as in X2-VLM where text and
/// cross encoder are separate (models/xvlm.py, XVLMPlusBase).
enum class WordDecoder { kTied, kOwn };
config::EnumNames<WordDecoder> enum_names(WordDecoder);

/// Momentum distillation of words (ALBEF, arXiv 2107.07651, eq. 7): targets are (1 - alpha) * the masked word + alpha * the softmax of a momentum copy of the head over the momentum encoders' same token.
struct DistillationOptions {
  Schedule alpha{0.4};  ///< in [0, 1]; ALBEF: from 0 in the steps of the first epoch
};
void visit_fields(config::Visitor& visitor, DistillationOptions& options);

/// Masked language modelling on fused tokens (MLM): BERT's head (arXiv 1810.04805), which is RoBERTa's too; X-VLM models/xbert.py.
/// The mean runs over masked tokens; position tokens (PEVL) are tokens like others.
struct MaskedLanguageOptions {
  Rows rows = Rows::kAll;
  WordDecoder decoder = WordDecoder::kTied;
  std::optional<DistillationOptions> distillation{};  ///< absent: none
  /// As PEVL (models/PEVL/models/xbert.py:1390): distillation normalises each word over the tokens of a text, padding included, instead of each token over the words. The model must compute padding
  /// (FeatureSpec::at_padding). Without distillation PEVL does nothing otherwise.
  bool reference = false;
};
void visit_fields(config::Visitor& visitor, MaskedLanguageOptions& options);

/// A term that predicts words from fused tokens.
class WordPredictor {
 public:
  virtual ~WordPredictor() = default;
  /// [N, D] fused tokens, [V, D] word embedding -> [N, V] logits. A head with a matrix of its own does not look at the word embedding.
  virtual Tensor word_logits(const Tensor& tokens, const Tensor& word_embedding) = 0;
};

LossTermPtr make_term(const MaskedLanguageOptions& options, const FeatureSpec& spec);

}  // namespace fgvl::losses
