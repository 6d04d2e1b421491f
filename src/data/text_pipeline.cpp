#include "fgvl/data/text_pipeline.hpp"

#include <algorithm>
#include <map>

namespace fgvl::data {

void visit_fields(config::Visitor& visitor, TextOptions& options) {
  visitor("vocabulary", options.vocabulary, "file with one token a line; empty: the words of the training texts");
  visitor("max_words", options.max_words, "kept of a text", {1, 4096});
  visitor("max_tokens", options.max_tokens, "of a text, [CLS] included", {2, 4096});
  visitor("add_sep", options.add_sep, "end texts with [SEP]");
  visitor("masking", options.masking, "for masked language modelling");
}

std::vector<std::int64_t> TextPipeline::encode(const std::string& prepared) const {
  std::vector<std::int64_t> ids = {tokenizer_.cls_id()};
  const std::vector<std::int64_t> pieces = tokenizer_.ids(prepared);
  const auto room = static_cast<std::size_t>(options_.max_tokens - 1 - (options_.add_sep ? 1 : 0));
  ids.insert(ids.end(), pieces.begin(), pieces.begin() + static_cast<std::ptrdiff_t>(std::min(room, pieces.size())));
  if (options_.add_sep) ids.push_back(tokenizer_.sep_id());
  return ids;
}

std::vector<std::string> build_vocabulary(const std::vector<std::string>& texts) {
  std::map<std::string, std::int64_t> counts;
  for (const std::string& text : texts) {
    for (const std::string& word : Tokenizer::words(text)) ++counts[word];
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
