#pragma once
#include "fgvl/models/bert.hpp"

namespace fgvl::models {

/// Which row of the position table a token gets.
enum class Positions {
  kFromZero,      ///< BERT: its place in the text
  kAfterPadding,  ///< RoBERTa: its place among the tokens that are not padding, from pad_id + 1 on; row pad_id is padding's
};

/// The text encoder behind BertOptions and RobertaOptions. `pad_id` -1: none.
struct BertTextRules {
  std::int64_t pad_id = 0;
  Positions positions = Positions::kFromZero;
};
TextEncoderPtr make_bert_text(const BertOptions& options, std::int64_t vocab_size, const BertTextRules& rules);

}  // namespace fgvl::models
