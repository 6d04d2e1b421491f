#pragma once
#include <cstdint>
#include <vector>

#include "fgvl/core/config_visitor.hpp"
#include "fgvl/core/random.hpp"
#include "fgvl/data/tokenizer.hpp"

namespace fgvl::data {

/// Which tokens are masked: a share of a text's tokens, whole words and spans, as X-VLM (dataset/pretrain_dataset.py TextMaskingGenerator) | each token by itself with the same probability, as BERT, ALBEF
/// and PEVL (models/model_pretrain.py mask); max_masks, spans and whole words then mean nothing, and a text may have no mask at all.
enum class MaskingScheme { kSpans, kTokens };
config::EnumNames<MaskingScheme> enum_names(MaskingScheme);

/// Masking for MLM. With position tokens (Tokenizer::has_positions) either scheme leaves [pos_0] to [pos_511] alone and does not count them, and 1 to 4 of the four in each group, equally likely, are masked
/// beside, as PEVL does; @@ and ## are tokens like others.
struct MaskingOptions {
  MaskingScheme scheme = MaskingScheme::kSpans;
  double probability = 0.25;           ///< share of the tokens of a text that is masked; 0: no masking, of position tokens neither
  std::int64_t max_masks = 8;
  double span_probability = 0.2;       ///< of masking a span instead of one token
  std::int64_t max_span = 3;           ///< tokens; a span has 2 to max_span
  bool whole_word = true;
};
void visit_fields(config::Visitor& visitor, MaskingOptions& options);

struct MaskedText {
  std::vector<std::int64_t> ids{};        ///< after masking: 80 % [MASK], 10 % a random token of the whole vocabulary, 10 % unchanged
  std::vector<std::int64_t> positions{};  ///< ascending
  std::vector<std::int64_t> labels{};     ///< true ids at the positions
};

/// Number of masked tokens in a text of `tokens` tokens, [CLS] included: probability * tokens, rounded half to even, at least 1, at most max_masks; 0 without masking.
std::int64_t mask_count(std::int64_t tokens, const MaskingOptions& options);

/// `ids` start with [CLS], which is never masked; a text of [CLS] alone stays as it is. Whole words as `tokenizer` tells them.
MaskedText mask_text(const std::vector<std::int64_t>& ids, const Tokenizer& tokenizer, const MaskingOptions& options, Generator& generator);

}  // namespace fgvl::data
