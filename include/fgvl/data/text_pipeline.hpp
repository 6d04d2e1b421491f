#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fgvl/data/caption.hpp"
#include "fgvl/data/masking.hpp"
#include "fgvl/data/position_text.hpp"
#include "fgvl/data/tokenizers.hpp"

namespace fgvl::data {

struct TextOptions {
  TokenizerChoice kind{builtin_tokenizers(), "wordpiece"};
  std::string vocabulary{};         ///< file; empty (wordpiece only): the words of the training texts
  std::string merges{};             ///< file of byte-pair merges; empty: merges.txt beside the vocabulary
  CaptionStyle prepare = CaptionStyle::kXvlm;
  std::int64_t max_words = 30;      ///< kept by prepare_caption
  std::int64_t max_tokens = 40;     ///< [CLS] included; longer texts are cut
  bool add_sep = false;             ///< [CLS] text [SEP] instead of [CLS] text, which is X-VLM's form
  MaskingOptions masking{};
};
void visit_fields(config::Visitor& visitor, TextOptions& options);

/// From a text as written to token ids. Immutable, shared by all threads.
class TextPipeline {
 public:
  TextPipeline(TokenizerPtr tokenizer, TextOptions options) : tokenizer_(std::move(tokenizer)), options_(std::move(options)) {}

  absl::StatusOr<std::string> prepare(const std::string& text) const { return prepare_caption(text, options_.max_words, options_.prepare); }
  /// The same with position groups behind `phrases`: prepare_with_positions().
  absl::StatusOr<std::string> prepare(const std::string& text, const std::vector<PlacedPhrase>& phrases) const;
  /// `prepared` text -> [CLS] + pieces (+ [SEP]), cut to max_tokens, before a position group that would be cut.
  std::vector<std::int64_t> encode(const std::string& prepared) const;
  MaskedText mask(const std::vector<std::int64_t>& ids, Generator& generator) const { return mask_text(ids, *tokenizer_, options_.masking, generator); }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const TextOptions& options() const { return options_; }

 private:
  TokenizerPtr tokenizer_;
  TextOptions options_;
};
using TextPipelinePtr = std::shared_ptr<const TextPipeline>;

/// The tokenizer that `options` name. A tokenizer without a mask token is refused unless masking is off (masking.probability 0).
/// `words`: the vocabulary to use where `options` name no file; wordpiece only.
absl::StatusOr<TokenizerPtr> open_tokenizer(const TextOptions& options, std::vector<std::string> words = {});

/// Special tokens and then every word of `texts`, most frequent first, ties in alphabetical order.
std::vector<std::string> build_vocabulary(const std::vector<std::string>& texts);

}  // namespace fgvl::data
