#pragma once
/// Strings with the ids of the Python tokenizers, as tests/reference/tokenizer_strings.py writes them, and what may differ from them.
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>

#include <nlohmann/json.hpp>
#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include "fgvl/data/tokenizers.hpp"
#include "support/catch.hpp"

namespace fgvl::data {

/// Whether the two sides may know `c` differently, because their Unicode tables have other ages; found by giving every assigned character to both.
///
/// wordpiece: `tokenizers` 0.23 takes categories from tables of Unicode 8.0, and keeps unassigned characters, which BERT's own code (and ours) drops. Six characters
/// changed their category since (U+166D, U+1734, U+1885, U+1886, U+A9BD, U+111C9). It also starts CJK extension E at U+2B920 where BERT's code has U+2B820.
/// byte_bpe, clip_bpe: Python 3.11's `unicodedata` knows Unicode 14, ICU 72 knows 15, the regular expressions of `tokenizers` and of `regex` know later ones.
inline bool is_known_differently(UChar32 c, bool wordpiece) {
  UVersionInfo age;
  u_charAge(c, age);
  if (u_charType(c) == U_UNASSIGNED) return true;
  if (!wordpiece) return age[0] > 14;
  for (const UChar32 changed : {0x166D, 0x1734, 0x1885, 0x1886, 0xA9BD, 0x111C9}) {
    if (c == changed) return true;
  }
  return age[0] > 8 || (c >= 0x2B820 && c < 0x2B920);
}

inline bool has_known_differently(const std::string& text, bool wordpiece) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(text.data());
  for (std::size_t i = 0; i < text.size();) {
    UChar32 c = 0;
    U8_NEXT_OR_FFFD(bytes, i, text.size(), c);
    if (is_known_differently(c, wordpiece)) return true;
  }
  return false;
}

struct Comparison {
  std::int64_t strings = 0, equal = 0;
  std::int64_t plain = 0;     ///< hold only characters that both sides know alike
  std::int64_t excused = 0;   ///< differ, and hold a character that the two sides know differently
  std::int64_t mojibake = 0;  ///< differ, and ftfy's fix_encoding changes them
  std::int64_t wrong = 0;     ///< differ without an excuse
};

inline Comparison compare_strings(const std::filesystem::path& file, const Tokenizer& tokenizer, bool wordpiece, const char* key = "ids") {
  std::ifstream stream(file);
  INFO(file.string());
  REQUIRE(stream.good());
  std::string line;
  std::getline(stream, line);
  Comparison result;
  std::string wrong;
  while (std::getline(stream, line)) {
    const nlohmann::json row = nlohmann::json::parse(line);
    const std::string text = row["text"];
    const auto expected = row[key].get<std::vector<std::int64_t>>();
    const std::vector<std::int64_t> ids = tokenizer.ids(text);
    const bool plain = !has_known_differently(text, wordpiece);
    ++result.strings;
    result.plain += plain ? 1 : 0;
    if (ids == expected) {
      ++result.equal;
    } else if (!plain) {
      ++result.excused;
    } else if (row.contains("mojibake")) {
      ++result.mojibake;
    } else if (++result.wrong <= 20) {
      wrong += "\n" + line + "\n  got " + nlohmann::json(ids).dump();
    }
  }
  std::cout << file.parent_path().filename().string() << ", " << key << ": " << result.strings << " strings, " << result.plain << " with no character of another Unicode age; " << result.equal << " equal; differing: " << result.excused
            << " with such a character, " << result.mojibake << " that ftfy decodes anew, " << result.wrong << " others" << std::endl;
  INFO(wrong);
  CHECK(result.strings > 0);
  CHECK(result.wrong == 0);
  return result;
}

}  // namespace fgvl::data
