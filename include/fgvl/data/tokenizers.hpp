#pragma once
#include <memory>
#include <string>
#include <vector>

#include "fgvl/core/config_visitor.hpp"
#include "fgvl/core/registry.hpp"
#include "fgvl/core/status.hpp"
#include "fgvl/data/tokenizer.hpp"

namespace fgvl::data {

/// Where a tokenizer comes from.
struct TokenizerFiles {
  std::string vocabulary{};
  std::string merges{};              ///< byte-pair encodings; empty: merges.txt beside the vocabulary
  std::vector<std::string> words{};  ///< wordpiece: the vocabulary itself, used instead of a file when not empty
};

/// BERT's uncased WordPiece (arXiv 1810.04805; google-research/bert tokenization.py): cleans, separates CJK characters and punctuation, lower-cases, strips
/// accents, then cuts words greedily into the longest known pieces. Words of more than 100 characters and words with an unknown piece become [UNK].
/// Vocabulary: one token a line; [PAD] (id 0), [UNK], [CLS], [SEP] and [MASK] must be there.
struct WordPieceOptions {
  /// PEVL's vocabulary (arXiv 2205.11169): `@@`, `[pos_0]` to `[pos_511]` and `##`, written as words of their own, are tokens that nothing splits. They take the
  /// places of [unused200] to [unused713]; a vocabulary without those gets them at its end, one that has them already stays as it is. Their ids must be in a row.
  bool position_tokens = false;
};
void visit_fields(config::Visitor& visitor, WordPieceOptions& options);
absl::StatusOr<TokenizerPtr> open_tokenizer(const WordPieceOptions& options, const TokenizerFiles& files);
/// `vocabulary[i]` is the token of id i.
absl::StatusOr<TokenizerPtr> make_tokenizer(const WordPieceOptions& options, std::vector<std::string> vocabulary);

/// Byte-level byte-pair encoding of GPT-2 and RoBERTa (openai/gpt-2 encoder.py): vocab.json (token -> id) and merges.txt (a pair a line, most frequent first).
/// The vocabulary must have all 256 bytes, and <s> and </s> (RoBERTa) or <|endoftext|> (GPT-2).
struct ByteBpeOptions {
  bool prefix_space = false;  ///< a text starts as if a space stood before it
};
void visit_fields(config::Visitor& visitor, ByteBpeOptions& options);
absl::StatusOr<TokenizerPtr> open_tokenizer(const ByteBpeOptions& options, const TokenizerFiles& files);

/// CLIP's byte-pair encoding (openai/CLIP simple_tokenizer.py, as kept in open_clip): the vocabulary is bpe_simple_vocab_16e6.txt(.gz), which holds the merges,
/// or vocab.json with merges.txt. Texts are cleaned as there, lower case included, but for the repair of wrongly decoded text: see clean_clip_text.
struct ClipBpeOptions {};
void visit_fields(config::Visitor& visitor, ClipBpeOptions& options);
absl::StatusOr<TokenizerPtr> open_tokenizer(const ClipBpeOptions& options, const TokenizerFiles& files);

/// What CLIP's tokenizer makes of a text before cutting it: ftfy.fix_text (6.3) without its `fix_encoding` (guessing that a text was decoded with the wrong
/// encoding, "cafÃ©"); that is HTML entities, Windows-1252 controls, Latin ligatures, full and half width, curly quotes, line breaks, terminal escapes, control
/// characters and NFC; then HTML entities twice more, white space to single spaces, lower case with final sigma.
std::string clean_clip_text(std::string_view text);

/// BERT's words before they are cut into pieces: what a vocabulary is counted from.
std::vector<std::string> basic_words(std::string_view text);

using TokenizerRegistry = Registry<absl::StatusOr<TokenizerPtr>, TokenizerFiles>;
using TokenizerChoice = Choice<absl::StatusOr<TokenizerPtr>, TokenizerFiles>;
/// Ours: wordpiece, byte_bpe, clip_bpe.
std::shared_ptr<TokenizerRegistry> builtin_tokenizers();

/// From what `Tokenizer::files()` left in `folder`.
absl::StatusOr<TokenizerPtr> reopen_tokenizer(const TokenizerChoice& kind, const std::string& folder);

}  // namespace fgvl::data
