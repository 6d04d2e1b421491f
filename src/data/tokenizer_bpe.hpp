#pragma once
/// What byte_bpe and clip_bpe share: GPT-2's byte alphabet, vocabulary and merge files, and the merging itself.
#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <absl/container/flat_hash_map.h>

#include "data/text_map.hpp"
#include "fgvl/core/status.hpp"
#include "fgvl/data/tokenizers.hpp"

namespace fgvl::data {

/// A byte-pair vocabulary as written in its files, in GPT-2's alphabet: each byte is a printable character, so that no token holds a space.
struct BpeFiles {
  std::vector<std::string> tokens{};                             ///< token of every id
  std::vector<std::pair<std::string, std::string>> merges{};     ///< earliest first
};

/// vocab.json and merges.txt. An empty `merges` path is merges.txt beside the vocabulary.
absl::StatusOr<BpeFiles> read_bpe_files(const TokenizerFiles& files);
/// vocab.json and merges.txt again.
std::vector<std::pair<std::string, std::string>> written_bpe_files(const BpeFiles& bpe);

/// The 256 characters of the alphabet in the order of CLIP's vocabulary (bytes_to_unicode: printable bytes first), with the byte that each stands for.
std::vector<std::pair<std::uint8_t, std::string>> byte_alphabet();
/// Back to bytes; characters outside the alphabet stay as they are.
std::string alphabet_to_bytes(std::string_view token);

/// Merges the bytes of a word into tokens: always the pair that comes first in the list, the leftmost of equals, one at a time.
class BpeMerger {
 public:
  /// `word_end`: "" or CLIP's "</w>", which is part of a word's last symbol.
  static absl::StatusOr<BpeMerger> make(const BpeFiles& files, std::string_view word_end);

  /// Appends the tokens of one word, which is not empty.
  void append(std::string_view word, std::vector<std::int64_t>& ids) const;

 private:
  struct Merge {
    std::int32_t rank = 0, id = 0;
  };
  static std::uint64_t pair(std::int32_t left, std::int32_t right) { return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint32_t>(right); }
  void merge(std::string_view word, std::vector<std::int64_t>& ids) const;

  std::array<std::int32_t, 256> first_{}, last_{};  ///< symbols of the bytes, before and at a word's end
  absl::flat_hash_map<std::uint64_t, Merge> merges_;
  TextMap<std::int32_t> whole_;  ///< words that merging makes into one token: most of a text
};

}  // namespace fgvl::data
