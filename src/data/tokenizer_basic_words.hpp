#pragma once
/// BERT's basic tokenisation as one pass over the bytes: what stands between white space, cleaned, lower-cased, without accents, cut at punctuation.
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include <unicode/normalizer2.h>

#include "data/tokenizer_unicode.hpp"

namespace fgvl::data {

/// Written out in a text, these stand alone, also inside a word.
inline constexpr std::array<std::string_view, 5> kBertSpecial = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};

/// What BERT's cleaning does to an ASCII character.
struct BertAscii {
  enum class Kind : std::uint8_t { kWord, kSpace, kPunctuation, kDropped };
  Kind kind{};
  char lower{};
};

inline constexpr std::array<BertAscii, 128> kBertAscii = [] {
  using Kind = BertAscii::Kind;
  std::array<BertAscii, 128> table{};
  for (int c = 0; c < 128; ++c) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    const bool space = c == ' ' || c == '\t' || c == '\n' || c == '\r';
    table[static_cast<std::size_t>(c)] = {letter ? Kind::kWord : space ? Kind::kSpace : c < 32 || c == 127 ? Kind::kDropped : Kind::kPunctuation,
                                          static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c)};
  }
  return table;
}();

class BasicWords {
 public:
  /// `on_word(whole, ends)` for each stretch without white space, in order: its cleaned bytes, and where each of its parts ends in them.
  /// `on_special(index)` for each special token. Neither keeps what it was given.
  template <class OnWord, class OnSpecial>
  void each(std::string_view text, OnWord&& on_word, OnSpecial&& on_special) {
    const auto finish = [&] {
      if (bytes_.empty()) return;
      if (is_ascii_) {
        close();
      } else {
        strip_accents();
      }
      if (!bytes_.empty()) on_word(std::string_view(bytes_), ends_);
      clear();
    };
    clear();
    for (std::size_t i = 0; i < text.size();) {
      const auto byte = static_cast<std::uint8_t>(text[i]);
      if (byte < 0x80) {
        const BertAscii ascii = kBertAscii[byte];
        if (ascii.kind == BertAscii::Kind::kWord) {
          bytes_.push_back(ascii.lower);
        } else if (ascii.kind == BertAscii::Kind::kSpace) {
          finish();
        } else if (ascii.kind == BertAscii::Kind::kPunctuation) {
          if (const int special = byte == '[' ? special_at(text.substr(i)) : -1; special >= 0) {
            finish();
            on_special(special);
            i += kBertSpecial[static_cast<std::size_t>(special)].size();
            continue;
          }
          cut_around(ascii.lower);
        }
        ++i;
        continue;
      }
      const UChar32 c = unicode::next(text, i);
      if (c == unicode::kReplacement || unicode::is_control(c)) continue;
      if (unicode::is_python_space(c)) {
        finish();
        continue;
      }
      const bool alone = unicode::is_cjk(c);
      if (alone) finish();
      is_ascii_ = false;
      // Character by character: the reference lower-cases before it knows words, so there is no final sigma here.
      unicode::append(bytes_, u_tolower(c));
      if (alone) finish();
    }
    finish();
  }

 private:
  static int special_at(std::string_view text) {
    for (std::size_t i = 0; i < kBertSpecial.size(); ++i) {
      if (text.substr(0, kBertSpecial[i].size()) == kBertSpecial[i]) return static_cast<int>(i);
    }
    return -1;
  }
  void clear() {
    bytes_.clear();
    ends_.clear();
    is_ascii_ = true;
  }
  /// Ends the open part, if there is one.
  void close() {
    if (bytes_.size() > (ends_.empty() ? 0 : ends_.back())) ends_.push_back(bytes_.size());
  }
  void cut_around(char punctuation) {
    close();
    bytes_.push_back(punctuation);
    ends_.push_back(bytes_.size());
  }

  /// NFD of the word, non-spacing marks left out, cut anew.
  void strip_accents() {
    UErrorCode error = U_ZERO_ERROR;
    static const icu::Normalizer2* const kNfd = icu::Normalizer2::getNFDInstance(error);
    icu::UnicodeString word = icu::UnicodeString::fromUTF8(bytes_);
    if (kNfd->spanQuickCheckYes(word, error) < word.length()) word = kNfd->normalize(word, error);
    clear();
    for (int32_t i = 0; i < word.length();) {
      const UChar32 c = word.char32At(i);
      i += U16_LENGTH(c);
      if (c >= 0x80 && u_charType(c) == U_NON_SPACING_MARK) continue;
      if (!unicode::is_punctuation(c)) {
        unicode::append(bytes_, c);
        continue;
      }
      close();
      unicode::append(bytes_, c);
      close();
    }
    close();
  }

  std::string bytes_;
  std::vector<std::size_t> ends_;
  bool is_ascii_ = true;
};

}  // namespace fgvl::data
