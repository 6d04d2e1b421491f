#pragma once
/// What BERT, GPT-2 and Python call a space, a control character, punctuation, a letter or a number. Properties are those of the ICU that fgvl is built with.
#include <array>
#include <string>
#include <string_view>

#include <unicode/uchar.h>
#include <unicode/unistr.h>
#include <unicode/utf8.h>

namespace fgvl::data::unicode {

constexpr UChar32 kReplacement = 0xFFFD;

/// The character at `at`, which moves behind it; malformed bytes give U+FFFD.
inline UChar32 next(std::string_view text, std::size_t& at) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(text.data());
  UChar32 c = 0;
  U8_NEXT_OR_FFFD(bytes, at, text.size(), c);
  return c;
}

inline void append(std::string& text, UChar32 c) {
  std::uint8_t bytes[U8_MAX_LENGTH];
  std::size_t length = 0;
  U8_APPEND_UNSAFE(bytes, length, c);
  text.append(reinterpret_cast<const char*>(bytes), length);
}

inline std::string utf8(const icu::UnicodeString& text) {
  std::string bytes;
  text.toUTF8String(bytes);
  return bytes;
}

inline bool in(UChar32 c, std::uint32_t categories) { return (U_MASK(u_charType(c)) & categories) != 0; }

/// What Python's str.isspace (and its regular expressions' \s) calls white space.
inline bool is_python_space(UChar32 c) {
  if (c < 0x80) return c == ' ' || (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x1F);
  return c == 0x85 || c == 0x2028 || c == 0x2029 || u_charType(c) == U_SPACE_SEPARATOR;
}

/// BERT's control characters: categories C* (unassigned ones too) but for tab and line ends.
inline bool is_control(UChar32 c) { return c != '\t' && c != '\n' && c != '\r' && in(c, U_GC_C_MASK); }

/// BERT's punctuation: every ASCII character that is no letter, digit, space or control, and categories P*.
inline bool is_punctuation(UChar32 c) {
  if (c < 0x80) return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
  return in(c, U_GC_P_MASK);
}

/// BERT's CJK ideographs: each is a word.
inline bool is_cjk(UChar32 c) {
  return c >= 0x3400 && ((c >= 0x4E00 && c <= 0x9FFF) || c <= 0x4DBF || (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) ||
                         (c >= 0x2B820 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F));
}

/// The classes of GPT-2's and CLIP's patterns: \s, \p{L}, \p{N} and the rest.
enum class Kind : std::uint8_t { kSpace, kLetter, kNumber, kOther };

inline Kind kind_of_any(UChar32 c) {
  if (in(c, U_GC_L_MASK)) return Kind::kLetter;
  if (in(c, U_GC_N_MASK)) return Kind::kNumber;
  return u_isUWhiteSpace(c) ? Kind::kSpace : Kind::kOther;
}

inline constexpr std::array<Kind, 128> kAsciiKind = [] {
  std::array<Kind, 128> kinds{};
  for (int c = 0; c < 128; ++c) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'), space = c == ' ' || (c >= 0x09 && c <= 0x0D);
    kinds[static_cast<std::size_t>(c)] = letter ? Kind::kLetter : c >= '0' && c <= '9' ? Kind::kNumber : space ? Kind::kSpace : Kind::kOther;
  }
  return kinds;
}();

inline Kind kind_of(UChar32 c) { return c < 128 ? kAsciiKind[static_cast<std::size_t>(c)] : kind_of_any(c); }

}  // namespace fgvl::data::unicode
