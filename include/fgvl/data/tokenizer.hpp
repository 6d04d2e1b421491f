#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "fgvl/core/status.hpp"

namespace fgvl::data {

/// BERT's uncased WordPiece tokenizer (arXiv 1810.04805; google-research/bert tokenization.py): cleans, separates CJK characters and punctuation,
/// lower-cases, strips accents, then cuts words greedily into the longest known pieces.
class Tokenizer {
 public:
  /// `vocabulary[i]` is the token of id i; must hold [PAD] (id 0), [UNK], [CLS], [SEP] and [MASK], each token once.
  static absl::StatusOr<Tokenizer> make(std::vector<std::string> vocabulary);
  /// A vocabulary file: one token a line.
  static absl::StatusOr<Tokenizer> load(const std::string& path);

  std::vector<std::string> tokens(const std::string& text) const;  ///< without special tokens
  std::vector<std::int64_t> ids(const std::string& text) const;

  /// Words before they are cut into pieces: what a vocabulary is counted from.
  static std::vector<std::string> words(const std::string& text);

  const std::vector<std::string>& vocabulary() const { return vocabulary_; }
  std::int64_t size() const { return static_cast<std::int64_t>(vocabulary_.size()); }
  std::int64_t unknown_id() const { return unknown_; }
  std::int64_t cls_id() const { return cls_; }
  std::int64_t sep_id() const { return sep_; }
  std::int64_t mask_id() const { return mask_; }
  /// True for a piece that continues a word ("##ing").
  bool continues_word(std::int64_t id) const { return vocabulary_[static_cast<std::size_t>(id)].rfind("##", 0) == 0; }

 private:
  std::vector<std::string> vocabulary_;
  std::unordered_map<std::string, std::int64_t> id_of_;
  std::int64_t unknown_ = 0, cls_ = 0, sep_ = 0, mask_ = 0;
};

/// X-VLM's caption preparation (dataset/utils.py pre_caption): lower case, punctuation removed, '-' and '/' to spaces, at most `max_words` words.
/// InvalidArgument when nothing is left.
absl::StatusOr<std::string> prepare_caption(const std::string& text, std::int64_t max_words);

}  // namespace fgvl::data
