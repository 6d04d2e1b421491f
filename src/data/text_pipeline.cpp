#include "fgvl/data/text_pipeline.hpp"

#include <algorithm>
#include <map>

#include <absl/strings/str_cat.h>

namespace fgvl::data {

void visit_fields(config::Visitor& visitor, TextOptions& options) {
  visit_fields(visitor, options.kind);
  visitor("vocabulary", options.vocabulary, "file: one token a line (wordpiece), vocab.json (byte_bpe, clip_bpe) or bpe_simple_vocab_16e6.txt.gz (clip_bpe); empty (wordpiece only): the words of the training texts");
  visitor("merges", options.merges, "file of byte-pair merges beside a vocab.json; empty: merges.txt in its folder");
  visitor("prepare", options.prepare, "what is done to a text first, as in that model's official code; none: nothing");
  visitor("max_words", options.max_words, "kept of a text, unless prepare is none", {1, 4096});
  visitor("max_tokens", options.max_tokens, "of a text, [CLS] included", {2, 4096});
  visitor("add_sep", options.add_sep, "end texts with [SEP] (</s>, <end_of_text>)");
  visitor("masking", options.masking, "for masked language modelling");
}

absl::StatusOr<std::string> TextPipeline::prepare(const std::string& text, const std::vector<PlacedPhrase>& phrases) const {
  return phrases.empty() ? prepare(text) : prepare_with_positions(text, phrases, options_.max_words, options_.prepare);
}

std::vector<std::int64_t> TextPipeline::encode(const std::string& prepared) const {
  std::vector<std::int64_t> ids = {tokenizer_->cls_id()};
  std::vector<std::int64_t> pieces = tokenizer_->ids(prepared);
  const auto room = static_cast<std::size_t>(options_.max_tokens - 1 - (options_.add_sep ? 1 : 0));
  if (pieces.size() > room) {
    // A group of position tokens is whole or not there: the cut moves before one that it would go through.
    auto end = pieces.begin() + static_cast<std::ptrdiff_t>(room);
    for (std::ptrdiff_t back = 1; back < kPositionGroup && back <= end - pieces.begin() && tokenizer_->has_positions(); ++back) {
      if (*(end - back) != tokenizer_->special().position_open) continue;
      end -= back;
      break;
    }
    pieces.erase(end, pieces.end());
  }
  ids.insert(ids.end(), pieces.begin(), pieces.end());
  if (options_.add_sep) ids.push_back(tokenizer_->sep_id());
  return ids;
}

absl::StatusOr<TokenizerPtr> open_tokenizer(const TextOptions& options, std::vector<std::string> words) {
  FGVL_ASSIGN_OR_RETURN(const TokenizerPtr tokenizer, options.kind.make({.vocabulary = options.vocabulary, .merges = options.merges, .words = std::move(words)}));
  if (tokenizer->mask_id() < 0 && options.masking.probability > 0) {
    return absl::InvalidArgumentError(absl::StrCat("masking.probability: this ", options.kind.type(), " vocabulary has no mask token: set it to 0, and leave out masked-language losses"));
  }
  return tokenizer;
}

std::vector<std::string> build_vocabulary(const std::vector<std::string>& texts) {
  std::map<std::string, std::int64_t> counts;
  for (const std::string& text : texts) {
    for (const std::string& word : basic_words(text)) ++counts[word];
  }
  std::vector<std::string> vocabulary = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
  for (const std::string& special : vocabulary) counts.erase(special);
  std::vector<std::pair<std::int64_t, std::string>> ranked;
  for (const auto& [word, count] : counts) ranked.emplace_back(-count, word);
  std::sort(ranked.begin(), ranked.end());
  for (const auto& [count, word] : ranked) vocabulary.push_back(word);
  return vocabulary;
}

}  // namespace fgvl::data
