#pragma once
#include "fgvl/models/text_encoder.hpp"

namespace fgvl::models {

/// RoBERTa (arXiv 1907.11692) and XLM-R, as transformers' RobertaModel: BERT's post-norm layers, but a text's positions are counted over its tokens other than padding, from
/// pad id + 1 on, so that the position table has max_tokens + pad id + 1 rows (514 for 512 tokens). Names as BertOptions'. Its word prediction head is BERT's
/// (losses/masked_language.hpp) under other official names. Texts are <s> ... </s>: `data.tokenizer.add_sep: true`.
struct RobertaOptions {
  std::int64_t width = 768;
  std::int64_t layers = 12;
  std::int64_t heads = 12;
  std::int64_t mlp_width = 3072;
  std::int64_t max_tokens = 512;     ///< longest text; max_position_embeddings of a config.json minus 2
  std::int64_t token_types = 1;      ///< rows of the token-type table, of which only row 0 is used; 0: none
  double layer_norm_eps = 1e-5;
  double dropout = 0.1;              ///< of embeddings, attention outputs and MLP outputs
  double attention_dropout = 0;      ///< of attention weights; 0.1 in RoBERTa
  double word_std = 0.02;            ///< of the word embeddings at the start
  double position_std = 0.02;        ///< of the position embeddings at the start
};
void visit_fields(config::Visitor& visitor, RobertaOptions& options);
/// Throws c10::Error for a context without a pad id (-1).
TextEncoderPtr make_text_encoder(const RobertaOptions& options, const TextContext& context);

}  // namespace fgvl::models
