#include <algorithm>

#include <absl/container/flat_hash_map.h>
#include <unicode/locid.h>
#include <unicode/normalizer2.h>
#include <unicode/unistr.h>

#include "data/html_entities.hpp"
#include "data/tokenizer_unicode.hpp"
#include "fgvl/data/tokenizers.hpp"

namespace fgvl::data {
namespace {

using Text = std::u32string;

Text utf32(const icu::UnicodeString& text) {
  Text result;
  for (int32_t i = 0; i < text.length();) {
    const UChar32 c = text.char32At(i);
    i += U16_LENGTH(c);
    result.push_back(static_cast<char32_t>(c));
  }
  return result;
}

icu::UnicodeString utf16(const Text& text) { return icu::UnicodeString::fromUTF32(reinterpret_cast<const UChar32*>(text.data()), static_cast<int32_t>(text.size())); }

/// Characters that ftfy replaces whatever stands beside them: C1 controls as Windows-1252, Latin ligatures and digraphs, half- and full-width forms, curly quotes.
absl::flat_hash_map<char32_t, Text> replacements() {
  static constexpr char32_t kC1[32] = {0x20AC, 0x81, 0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0x8D, 0x017D, 0x8F,
                                       0x90, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x9D, 0x017E, 0x0178};
  absl::flat_hash_map<char32_t, Text> table = {
      {U'\u0132', U"IJ"}, {U'\u0133', U"ij"}, {U'\u0149', U"\u02BCn"}, {U'\u01F1', U"DZ"}, {U'\u01F2', U"Dz"}, {U'\u01F3', U"dz"}, {U'\u01C4', U"D\u017D"}, {U'\u01C5', U"D\u017E"},
      {U'\u01C6', U"d\u017E"}, {U'\u01C7', U"LJ"}, {U'\u01C8', U"Lj"}, {U'\u01C9', U"lj"}, {U'\u01CA', U"NJ"}, {U'\u01CB', U"Nj"}, {U'\u01CC', U"nj"},
      {U'\uFB00', U"ff"}, {U'\uFB01', U"fi"}, {U'\uFB02', U"fl"}, {U'\uFB03', U"ffi"}, {U'\uFB04', U"ffl"}, {U'\uFB05', U"\u017Ft"}, {U'\uFB06', U"st"}, {U'\u3000', U" "}};
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* compatible = icu::Normalizer2::getNFKCInstance(error);
  for (char32_t c = 0xFF01; c < 0xFFF0; ++c) {
    const Text other = utf32(compatible->normalize(icu::UnicodeString(static_cast<UChar32>(c)), error));
    if (other != Text{c}) table[c] = other;
  }
  for (char32_t c = 0x80; c <= 0x9F; ++c) table[c] = {kC1[c - 0x80]};
  for (const char32_t c : {U'\u02BC', U'\u2018', U'\u2019', U'\u201A', U'\u201B'}) table[c] = U"'";
  for (const char32_t c : {U'\u201C', U'\u201D', U'\u201E', U'\u201F'}) table[c] = U"\"";
  for (const char32_t c : {U'\u2028', U'\u2029'}) table[c] = U"\n";
  // Each step sees what the one before it made: an entry may lead to another.
  for (auto& [c, text] : table) {
    Text last;
    for (const char32_t made : text) {
      const auto again = table.find(made);
      if (again != table.end() && made != c) {
        last += again->second;
      } else {
        last += made;
      }
    }
    text = last;
  }
  return table;
}

bool is_dropped(char32_t c) {
  return c <= 0x08 || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F || (c >= 0x206A && c <= 0x206F) || c == 0xFEFF || (c >= 0xFFF9 && c <= 0xFFFC);
}

Text without_terminal_escapes(const Text& text) {
  Text kept;
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] == 0x1B && i + 1 < text.size() && text[i + 1] == U'[') {
      std::size_t end = i + 2;
      while (end < text.size() && (text[end] == U';' || u_isdigit(static_cast<UChar32>(text[end])))) ++end;
      if (end < text.size() && ((text[end] >= U'a' && text[end] <= U'z') || (text[end] >= U'A' && text[end] <= U'Z'))) {
        i = end + 1;
        continue;
      }
    }
    kept.push_back(text[i++]);
  }
  return kept;
}

/// One line, as ftfy's fix_and_explain without fix_encoding: all steps again until nothing changes.
Text fix_line(Text text, bool unescape) {
  static const absl::flat_hash_map<char32_t, Text> kReplacements = replacements();
  while (true) {
    const Text before = text;
    if (unescape) text = html_unescape_whole(text);
    Text replaced;
    for (std::size_t i = 0; i < text.size(); ++i) {
      const char32_t c = text[i];
      if (c == U'\r') {  // "\r\n" and "\r" are line breaks
        if (i + 1 >= text.size() || text[i + 1] != U'\n') replaced.push_back(U'\n');
        continue;
      }
      const auto found = c < 0x80 ? kReplacements.end() : kReplacements.find(c);
      if (found == kReplacements.end()) {
        replaced.push_back(c);
      } else {
        replaced += found->second;
      }
    }
    text = without_terminal_escapes(replaced);
    text.erase(std::remove_if(text.begin(), text.end(), is_dropped), text.end());
    UErrorCode error = U_ZERO_ERROR;
    text = utf32(icu::Normalizer2::getNFCInstance(error)->normalize(utf16(text), error));
    if (text == before) return text;
  }
}

/// Nothing but printable ASCII without '&' and plain white space: what cleaning leaves as it is.
bool is_plain(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c >= 0x20 && c < 0x7F && c != '&') || c == '\t' || c == '\n' || c == '\f' || c == '\r'; });
}

std::string single_spaced(std::string_view text, bool lower_ascii) {
  std::string result;
  result.reserve(text.size());
  bool space = false;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t begin = i;
    const UChar32 c = static_cast<std::uint8_t>(text[i]) < 0x80 ? static_cast<UChar32>(text[i++]) : unicode::next(text, i);
    if (unicode::is_python_space(c)) {
      space = true;
      continue;
    }
    if (space && !result.empty()) result.push_back(' ');
    space = false;
    if (lower_ascii && c >= 'A' && c <= 'Z') {
      result.push_back(static_cast<char>(c + 32));
    } else {
      result.append(text.substr(begin, i - begin));
    }
  }
  return result;
}

}  // namespace

std::string clean_clip_text(std::string_view text) {
  if (is_plain(text)) return single_spaced(text, /*lower_ascii=*/true);
  const Text wide = utf32(icu::UnicodeString::fromUTF8(icu::StringPiece(text.data(), static_cast<int32_t>(text.size()))));
  Text fixed;
  bool unescape = true;  // a '<' means that this line and all behind it are HTML already
  for (std::size_t begin = 0; begin < wide.size();) {
    const std::size_t line_break = wide.find(U'\n', begin);
    const std::size_t end = line_break == Text::npos ? wide.size() : line_break + 1;
    const Text line = wide.substr(begin, end - begin);
    unescape = unescape && line.find(U'<') == Text::npos;
    fixed += fix_line(line, unescape);
    begin = end;
  }
  icu::UnicodeString clean = utf16(html_unescape(html_unescape(fixed)));
  return unicode::utf8(icu::UnicodeString::fromUTF8(single_spaced(unicode::utf8(clean), /*lower_ascii=*/false)).toLower(icu::Locale::getRoot()));
}

}  // namespace fgvl::data
