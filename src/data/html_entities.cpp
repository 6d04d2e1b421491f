#include "data/html_entities.hpp"

#include <algorithm>
#include <functional>
#include <map>
#include <string_view>

#include <unicode/locid.h>
#include <unicode/unistr.h>

namespace fgvl::data {
namespace {

struct Entity {
  std::string_view name, value;
};
constexpr Entity kEntities[] = {
#include "data/html_entities.inc"
};

constexpr std::size_t kLongestName = 32;  // what Python's pattern reads

std::u32string utf32(std::string_view text) {
  const icu::UnicodeString wide = icu::UnicodeString::fromUTF8(text);
  std::u32string result;
  for (int32_t i = 0; i < wide.length(); i = wide.moveIndex32(i, 1)) result.push_back(static_cast<char32_t>(wide.char32At(i)));
  return result;
}

using Table = std::map<std::u32string, std::u32string, std::less<>>;

const Table& entities() {
  static const Table kTable = [] {
    Table table;
    for (const Entity& entity : kEntities) table[utf32(entity.name)] = utf32(entity.value);
    return table;
  }();
  return kTable;
}

bool is_digit(char32_t c) { return c >= U'0' && c <= U'9'; }
bool is_hex(char32_t c) { return is_digit(c) || (c >= U'a' && c <= U'f') || (c >= U'A' && c <= U'F'); }
bool is_alphanumeric(char32_t c) { return is_digit(c) || (c >= U'a' && c <= U'z') || (c >= U'A' && c <= U'Z'); }

/// The character of a number, by HTML's rules: Windows-1252 for the C1 controls, nothing for other controls and noncharacters.
std::u32string numbered(std::uint32_t number) {
  static constexpr char32_t kC1[32] = {0x20AC, 0x81, 0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0x8D, 0x017D, 0x8F,
                                       0x90, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x9D, 0x017E, 0x0178};
  if (number >= 0x80 && number <= 0x9F) return {kC1[number - 0x80]};
  if (number == 0 || (number >= 0xD800 && number <= 0xDFFF) || number > 0x10FFFF) return {0xFFFD};
  const bool control = number <= 0x08 || number == 0x0B || (number >= 0x0E && number <= 0x1F) || number == 0x7F;
  const bool noncharacter = (number >= 0xFDD0 && number <= 0xFDEF) || (number & 0xFFFE) == 0xFFFE;
  if (control || noncharacter) return {};
  return {static_cast<char32_t>(number)};
}

/// Reads `#123` or `#x1F` at `at`; false when there is none. `at` moves behind it, a semicolon included.
bool read_number(const std::u32string& text, std::size_t& at, std::u32string& value) {
  std::size_t i = at + 1;
  const bool hex = i < text.size() && (text[i] == U'x' || text[i] == U'X');
  if (hex) ++i;
  const std::size_t first = i;
  std::uint64_t number = 0;
  for (; i < text.size() && (hex ? is_hex(text[i]) : is_digit(text[i])); ++i) {
    const std::uint32_t digit = is_digit(text[i]) ? text[i] - U'0' : (text[i] | 0x20) - U'a' + 10;
    number = std::min<std::uint64_t>(number * (hex ? 16 : 10) + digit, 0x110000);
  }
  if (i == first) return false;
  if (i < text.size() && text[i] == U';') ++i;
  at = i;
  value = numbered(static_cast<std::uint32_t>(number));
  return true;
}

bool ends_name(char32_t c) { return c == U'\t' || c == U'\n' || c == U'\f' || c == U' ' || c == U'<' || c == U'&' || c == U'#' || c == U';'; }

const Table& capital_entities() {
  static const Table kTable = [] {
    Table table;
    for (const auto& [name, value] : entities()) {
      if (name.back() != U';') continue;
      std::u32string capitals;
      bool has_capital = false;
      for (const char32_t c : name) {
        has_capital = has_capital || (c >= U'A' && c <= U'Z');
        capitals.push_back(c >= U'a' && c <= U'z' ? c - 32 : c);
      }
      if (has_capital || html_unescape(U"&" + capitals) != U"&" + capitals) continue;
      icu::UnicodeString upper = icu::UnicodeString::fromUTF32(reinterpret_cast<const UChar32*>(value.data()), static_cast<int32_t>(value.size()));
      upper.toUpper(icu::Locale::getRoot());
      std::string bytes;
      table[capitals] = utf32(upper.toUTF8String(bytes));
    }
    return table;
  }();
  return kTable;
}

}  // namespace

std::u32string html_unescape(const std::u32string& text) {
  std::u32string result;
  for (std::size_t i = 0; i < text.size();) {
    const char32_t c = text[i++];
    if (c != U'&') {
      result.push_back(c);
      continue;
    }
    std::u32string value;
    if (i < text.size() && text[i] == U'#') {
      if (read_number(text, i, value)) {
        result += value;
      } else {
        result.push_back(c);
      }
      continue;
    }
    std::size_t end = i;
    while (end < text.size() && end - i < kLongestName && !ends_name(text[end])) ++end;
    if (end > i && end < text.size() && text[end] == U';') ++end;
    auto found = entities().end();
    for (; end > i + 1 && found == entities().end(); --end) found = entities().find(std::u32string_view(text).substr(i, end - i));
    if (found == entities().end()) {
      result.push_back(c);
    } else {
      result += found->second;
      i += found->first.size();
    }
  }
  return result;
}

std::u32string html_unescape_whole(const std::u32string& text) {
  constexpr std::size_t kLongest = 24;
  std::u32string result;
  for (std::size_t i = 0; i < text.size();) {
    const char32_t c = text[i];
    if (c == U'&') {
      const bool number = i + 1 < text.size() && text[i + 1] == U'#';
      const std::size_t first = i + 1 + (number ? 1 : 0);
      std::size_t end = first;
      while (end < text.size() && end - first < kLongest && is_alphanumeric(text[end])) ++end;
      if (end > first && end < text.size() && text[end] == U';') {
        ++end;
        const std::u32string_view name = std::u32string_view(text).substr(i + 1, end - i - 1);
        std::size_t at = i + 1;
        std::u32string value;
        if (number && read_number(text, at, value) && at == end) {
          result += value;
          i = end;
          continue;
        }
        const auto known = entities().find(name);
        const auto capital = capital_entities().find(name);
        if (!number && (known != entities().end() || capital != capital_entities().end())) {
          result += known != entities().end() ? known->second : capital->second;
          i = end;
          continue;
        }
      }
    }
    result.push_back(c);
    ++i;
  }
  return result;
}

}  // namespace fgvl::data
