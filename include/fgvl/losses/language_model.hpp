#pragma once
#include "fgvl/losses/rows.hpp"
#include "fgvl/losses/term.hpp"

namespace fgvl::losses {

/// Language modelling (LM) with the model's causal decoder, as BLIP (arXiv 2201.12086; e-bug/fine-grained-evals 6cc5fc1, models/BLIP/models/med.py, BertLMHeadModel): from the tokens up to l and the text's
/// visual, token l + 1. BERT's prediction head, its decoder matrix tied to the word embeddings. The mean runs over predicted tokens: every token of a text but its first.
struct LanguageModelOptions {
  Rows rows = Rows::kAll;
  double label_smoothing = 0.1;  ///< in [0, 1): the share of the target that is spread evenly over all words
};
void visit_fields(config::Visitor& visitor, LanguageModelOptions& options);

/// The term is a WordPredictor (masked_language.hpp) over decoded tokens. Throws c10::Error for a model without a decoder (FeatureSpec::has_decoder).
LossTermPtr make_term(const LanguageModelOptions& options, const FeatureSpec& spec);

}  // namespace fgvl::losses
