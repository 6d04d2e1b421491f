#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fgvl/core/features.hpp"

namespace fgvl::data {

/// Ids with a meaning of their own; -1: the vocabulary has no such token.
struct SpecialIds {
  std::int64_t pad = 0;       ///< fills the end of short rows
  std::int64_t unknown = -1;  ///< [UNK], <unk>
  std::int64_t cls = -1;      ///< starts a text: [CLS], <s>, <start_of_text>
  std::int64_t sep = -1;      ///< ends a text: [SEP], </s>, <end_of_text>
  std::int64_t mask = -1;     ///< [MASK], <mask>
  std::int64_t position_open = -1;  ///< @@, followed in a row by [pos_0] to [pos_511] and ## (PEVL)
};

/// From texts (UTF-8; what is malformed counts as U+FFFD) to token ids and back. Immutable: all threads may share one.
/// See tokenizers.hpp for ours.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  /// Without the tokens that start and end a text. A special token written out in the text becomes its id, as in the references.
  virtual std::vector<std::int64_t> ids(std::string_view text) const = 0;
  /// The text of `ids`, special tokens left out. What cleaning removed from a text (case, accents, white space) does not come back.
  virtual std::string decode(const std::vector<std::int64_t>& ids) const = 0;
  /// Whether `id`, right after `previous`, goes on with the same word: what whole-word masking asks.
  virtual bool continues_word(std::int64_t previous, std::int64_t id) const = 0;
  /// File name -> content: what a checkpoint folder keeps, and `reopen_tokenizer` reads.
  virtual std::vector<std::pair<std::string, std::string>> files() const = 0;

  /// `vocabulary()` at the ids of `text`: readable for WordPiece; byte-level tokens are in GPT-2's alphabet ("Ġ" is a space).
  std::vector<std::string> tokens(std::string_view text) const;

  const std::vector<std::string>& vocabulary() const { return vocabulary_; }  ///< token of every id
  std::int64_t size() const { return static_cast<std::int64_t>(vocabulary_.size()); }
  const SpecialIds& special() const { return special_; }
  std::int64_t pad_id() const { return special_.pad; }
  std::int64_t unknown_id() const { return special_.unknown; }
  std::int64_t cls_id() const { return special_.cls; }
  std::int64_t sep_id() const { return special_.sep; }
  std::int64_t mask_id() const { return special_.mask; }
  bool has_positions() const { return special_.position_open >= 0; }
  /// Whether `id` is one of [pos_0] to [pos_511].
  bool is_position(std::int64_t id) const { return has_positions() && id > special_.position_open && id <= special_.position_open + kPositionBins; }

 protected:
  Tokenizer(std::vector<std::string> vocabulary, const SpecialIds& special) : vocabulary_(std::move(vocabulary)), special_(special) {}

 private:
  std::vector<std::string> vocabulary_;
  SpecialIds special_{};
};
using TokenizerPtr = std::shared_ptr<const Tokenizer>;

}  // namespace fgvl::data
