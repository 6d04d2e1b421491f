#include "fgvl/data/caption.hpp"

#include <algorithm>

#include <absl/strings/str_join.h>
#include <absl/strings/str_replace.h>
#include <absl/strings/str_split.h>
#include <unicode/locid.h>

#include "data/tokenizer_unicode.hpp"

namespace fgvl::data {
namespace {

/// What a style does to punctuation: sets of ASCII characters.
struct Rules {
  std::string_view removed, to_space;
  bool names_person = true;  ///< "<person>" becomes "person"
};

Rules rules_of(CaptionStyle style) {
  switch (style) {
    case CaptionStyle::kPevl: return {",.'!?\"()*:;~", "-/", true};
    case CaptionStyle::kBlip: return {"", ".!\"()*#:;~", false};
    case CaptionStyle::kX2vlm: return {"", ",.'!?\"()*#:;~-/", true};
    default: return {",.'!?\"()*#:;~", "-/", true};
  }
}

std::string lower_case(std::string_view text) {
  if (std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; })) {
    std::string lower(text);
    for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
    return lower;
  }
  return unicode::utf8(icu::UnicodeString::fromUTF8(icu::StringPiece(text.data(), static_cast<int32_t>(text.size()))).toLower(icu::Locale::getRoot()));
}

std::string without_punctuation(const std::string& text, const Rules& rules) {
  std::string kept;
  for (const char c : text) {
    if (rules.removed.find(c) != std::string_view::npos) continue;
    kept += rules.to_space.find(c) != std::string_view::npos ? ' ' : c;
  }
  return kept;
}

/// Runs of two or more white-space characters become one space; a single one stays as it is.
std::string collapsed(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t begin = i;
    std::size_t behind = i, spaces = 0;
    while (behind < text.size()) {
      std::size_t at = behind;
      if (!unicode::is_python_space(unicode::next(text, at))) break;
      behind = at;
      ++spaces;
    }
    if (spaces >= 2) {
      result += ' ';
    } else if (spaces == 0) {
      unicode::next(text, behind);
    }
    if (spaces < 2) result.append(text.substr(begin, behind - begin));
    i = behind;
  }
  return result;
}

}  // namespace

config::EnumNames<CaptionStyle> enum_names(CaptionStyle) {
  return {{CaptionStyle::kXvlm, "xvlm"}, {CaptionStyle::kAlbef, "albef"}, {CaptionStyle::kPevl, "pevl"}, {CaptionStyle::kBlip, "blip"}, {CaptionStyle::kX2vlm, "x2vlm"}, {CaptionStyle::kNone, "none"}};
}

absl::StatusOr<std::string> prepare_caption(std::string_view text, std::int64_t max_words, CaptionStyle style) {
  std::string result(text);
  if (style != CaptionStyle::kNone) {
    const Rules rules = rules_of(style);
    result = without_punctuation(lower_case(text), rules);
    if (rules.names_person) result = absl::StrReplaceAll(result, {{"<person>", "person"}});
    result = collapsed(result);
    while (!result.empty() && result.back() == '\n') result.pop_back();
    const std::size_t first = result.find_first_not_of(' '), last = result.find_last_not_of(' ');
    result = first == std::string::npos ? "" : result.substr(first, last - first + 1);
    std::vector<std::string> words = absl::StrSplit(result, ' ');
    if (static_cast<std::int64_t>(words.size()) > max_words) {
      words.resize(static_cast<std::size_t>(max_words));
      result = absl::StrJoin(words, " ");
    }
  }
  if (result.empty()) return absl::InvalidArgumentError("no text is left after removing punctuation");
  return result;
}

}  // namespace fgvl::data
