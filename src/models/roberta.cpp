#include "fgvl/models/roberta.hpp"

#include <c10/util/Exception.h>

#include "models/bert_text.hpp"

namespace fgvl::models {
namespace {

constexpr std::int64_t kPadId = 1;  // of RoBERTa's and XLM-R's vocabularies

}  // namespace

void visit_fields(config::Visitor& visitor, RobertaOptions& options) {
  visitor("width", options.width, "of the tokens", {1, 8192});
  visitor("layers", options.layers, "self-attention layers", {0, 256});
  visitor("heads", options.heads, "of attention", {1, 256});
  visitor("mlp_width", options.mlp_width, "of the MLP", {1, 65536});
  visitor("max_tokens", options.max_tokens, "longest text; the position table has pad id + 1 rows more", {2, 8192});
  visitor("token_types", options.token_types, "rows of the token-type table; 0: none", {0, 16});
  visitor("layer_norm_eps", options.layer_norm_eps, "of every LayerNorm", config::kPositive);
  visitor("dropout", options.dropout, "of embeddings, attention outputs and MLP outputs", {0.0, 0.9});
  visitor("attention_dropout", options.attention_dropout, "of attention weights; 0.1 in RoBERTa", {0.0, 0.9});
  visitor("word_std", options.word_std, "of the word embeddings at the start", config::kNonNegative);
  visitor("position_std", options.position_std, "of the position embeddings at the start", config::kNonNegative);
  visitor.check(options.width % options.heads == 0, "width: must be a multiple of heads");
}

TextEncoderPtr make_text_encoder(const RobertaOptions& options, const TextContext& context) {
  const std::int64_t pad_id = context.pad_id.value_or(kPadId);
  TORCH_CHECK(pad_id >= 0, "[RobertaOptions] pad_id: RoBERTa counts positions from it, and this vocabulary has no token that only pads; take RoBERTa's own vocabulary, or a text encoder of type bert");
  const BertOptions bert{.width = options.width, .layers = options.layers, .heads = options.heads, .mlp_width = options.mlp_width, .max_tokens = options.max_tokens,
                         .token_types = options.token_types, .layer_norm_eps = options.layer_norm_eps, .dropout = options.dropout, .attention_dropout = options.attention_dropout, .word_std = options.word_std,
                         .position_std = options.position_std};
  return make_bert_text(bert, context.vocab_size, {.pad_id = pad_id, .positions = Positions::kAfterPadding});
}

}  // namespace fgvl::models
