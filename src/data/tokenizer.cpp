#include "fgvl/data/tokenizer.hpp"

#include <algorithm>
#include <array>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <unicode/locid.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include "fgvl/core/files.hpp"

namespace fgvl::data {
namespace {

constexpr std::size_t kMaxWordCharacters = 100;  // longer words become [UNK]
constexpr std::array<const char*, 5> kSpecial = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};

bool is_space(UChar32 c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || u_charType(c) == U_SPACE_SEPARATOR; }

/// What Python's str.isspace (and its regular expressions' \s) calls white space.
bool is_python_space(UChar32 c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || u_charType(c) == U_SPACE_SEPARATOR || c == 0x2028 || c == 0x2029;
}

bool is_control(UChar32 c) {
  if (c == '\t' || c == '\n' || c == '\r') return false;
  const int type = u_charType(c);
  return type == U_CONTROL_CHAR || type == U_FORMAT_CHAR || type == U_PRIVATE_USE_CHAR || type == U_SURROGATE || type == U_UNASSIGNED;
}

bool is_punctuation(UChar32 c) {
  if ((c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126)) return true;
  switch (u_charType(c)) {
    case U_DASH_PUNCTUATION:
    case U_START_PUNCTUATION:
    case U_END_PUNCTUATION:
    case U_CONNECTOR_PUNCTUATION:
    case U_OTHER_PUNCTUATION:
    case U_INITIAL_PUNCTUATION:
    case U_FINAL_PUNCTUATION: return true;
    default: return false;
  }
}

bool is_cjk(UChar32 c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) ||
         (c >= 0x2B820 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

template <class F>
void each_character(const icu::UnicodeString& text, F&& use) {
  for (int32_t i = 0; i < text.length(); i = text.moveIndex32(i, 1)) use(text.char32At(i));
}

std::string utf8(const icu::UnicodeString& text) {
  std::string bytes;
  text.toUTF8String(bytes);
  return bytes;
}

icu::UnicodeString lower_without_accents(const icu::UnicodeString& word) {
  // Character by character: the reference knows no final sigma here.
  icu::UnicodeString lower;
  each_character(word, [&](UChar32 c) { lower.append(icu::UnicodeString(c).toLower(icu::Locale::getRoot())); });
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* decomposed = icu::Normalizer2::getNFDInstance(error);
  icu::UnicodeString plain;
  each_character(U_SUCCESS(error) ? decomposed->normalize(lower, error) : lower, [&](UChar32 c) {
    if (u_charType(c) != U_NON_SPACING_MARK) plain.append(c);
  });
  return plain;
}

/// Cuts at punctuation; every punctuation character is a word of its own.
void split_punctuation(const icu::UnicodeString& word, std::vector<icu::UnicodeString>& parts) {
  bool open = false;
  each_character(word, [&](UChar32 c) {
    if (is_punctuation(c)) {
      parts.emplace_back(c);
      open = false;
    } else {
      if (!open) parts.emplace_back();
      parts.back().append(c);
      open = true;
    }
  });
}

std::vector<icu::UnicodeString> basic_words(const std::string& text) {
  icu::UnicodeString clean;
  each_character(icu::UnicodeString::fromUTF8(text), [&](UChar32 c) {
    if (c == 0 || c == 0xFFFD || is_control(c)) return;
    if (is_space(c)) {
      clean.append(UChar32(' '));
    } else if (is_cjk(c)) {
      clean.append(UChar32(' ')).append(c).append(UChar32(' '));
    } else {
      clean.append(c);
    }
  });
  std::vector<icu::UnicodeString> words;
  icu::UnicodeString word;
  const auto finish = [&] {
    if (word.isEmpty()) return;
    const std::string written = utf8(word);
    if (std::find(kSpecial.begin(), kSpecial.end(), written) != kSpecial.end()) {
      words.push_back(word);
    } else {
      split_punctuation(lower_without_accents(word), words);
    }
    word.remove();
  };
  each_character(clean, [&](UChar32 c) {
    if (is_python_space(c)) {
      finish();
    } else {
      word.append(c);
    }
  });
  finish();
  return words;
}

/// A special token anywhere in a text stands alone, also inside a word.
std::string isolate_special(const std::string& text) {
  std::string isolated;
  for (std::size_t i = 0; i < text.size();) {
    const auto special = text[i] == '[' ? std::find_if(kSpecial.begin(), kSpecial.end(), [&](const char* token) { return text.compare(i, std::char_traits<char>::length(token), token) == 0; })
                                        : kSpecial.end();
    if (special != kSpecial.end()) {
      absl::StrAppend(&isolated, " ", *special, " ");
      i += std::char_traits<char>::length(*special);
    } else {
      isolated += text[i++];
    }
  }
  return isolated;
}

}  // namespace

absl::StatusOr<Tokenizer> Tokenizer::make(std::vector<std::string> vocabulary) {
  Tokenizer tokenizer;
  for (std::size_t i = 0; i < vocabulary.size(); ++i) {
    if (!tokenizer.id_of_.emplace(vocabulary[i], static_cast<std::int64_t>(i)).second) {
      return absl::InvalidArgumentError(absl::StrCat("vocabulary: line ", i + 1, ": \"", vocabulary[i], "\" is there twice"));
    }
  }
  for (const char* token : kSpecial) {
    if (tokenizer.id_of_.count(token) == 0) return absl::InvalidArgumentError(absl::StrCat("vocabulary: the token ", token, " is missing"));
  }
  if (vocabulary[0] != "[PAD]") return absl::InvalidArgumentError("vocabulary: the first token must be [PAD]");
  tokenizer.unknown_ = tokenizer.id_of_["[UNK]"];
  tokenizer.cls_ = tokenizer.id_of_["[CLS]"];
  tokenizer.sep_ = tokenizer.id_of_["[SEP]"];
  tokenizer.mask_ = tokenizer.id_of_["[MASK]"];
  tokenizer.vocabulary_ = std::move(vocabulary);
  return tokenizer;
}

absl::StatusOr<Tokenizer> Tokenizer::load(const std::string& path) {
  FGVL_ASSIGN_OR_RETURN(const std::string text, read_file(path));
  std::vector<std::string> lines = absl::StrSplit(text, '\n');
  if (!lines.empty() && lines.back().empty()) lines.pop_back();
  for (std::string& line : lines) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
  }
  absl::StatusOr<Tokenizer> tokenizer = make(std::move(lines));
  if (!tokenizer.ok()) return annotate(tokenizer.status(), path);
  return tokenizer;
}

std::vector<std::string> Tokenizer::words(const std::string& text) {
  std::vector<std::string> words;
  for (const icu::UnicodeString& word : basic_words(isolate_special(text))) words.push_back(utf8(word));
  return words;
}

std::vector<std::string> Tokenizer::tokens(const std::string& text) const {
  std::vector<std::string> tokens;
  for (const icu::UnicodeString& word : basic_words(isolate_special(text))) {
    const std::string whole = utf8(word);
    if (std::find(kSpecial.begin(), kSpecial.end(), whole) != kSpecial.end()) {
      tokens.push_back(whole);
      continue;
    }
    if (static_cast<std::size_t>(word.countChar32()) > kMaxWordCharacters) {
      tokens.emplace_back("[UNK]");
      continue;
    }
    std::vector<std::string> pieces;
    for (int32_t start = 0; start < word.length();) {
      int32_t end = word.length();
      std::string piece;
      for (; end > start; end = word.moveIndex32(end, -1)) {
        piece = absl::StrCat(start > 0 ? "##" : "", utf8(word.tempSubStringBetween(start, end)));
        if (id_of_.count(piece) > 0) break;
      }
      if (end <= start) {
        pieces = {"[UNK]"};
        break;
      }
      pieces.push_back(piece);
      start = end;
    }
    tokens.insert(tokens.end(), pieces.begin(), pieces.end());
  }
  return tokens;
}

std::vector<std::int64_t> Tokenizer::ids(const std::string& text) const {
  std::vector<std::int64_t> ids;
  for (const std::string& token : tokens(text)) {
    const auto found = id_of_.find(token);
    ids.push_back(found == id_of_.end() ? unknown_ : found->second);
  }
  return ids;
}

absl::StatusOr<std::string> prepare_caption(const std::string& text, std::int64_t max_words) {
  icu::UnicodeString lower = icu::UnicodeString::fromUTF8(text);
  lower.toLower(icu::Locale::getRoot());
  icu::UnicodeString kept;
  static constexpr char kRemoved[] = ",.'!?\"()*#:;~";
  each_character(lower, [&](UChar32 c) {
    if (c > 0 && c < 128 && std::char_traits<char>::find(kRemoved, sizeof kRemoved - 1, static_cast<char>(c)) != nullptr) return;
    kept.append(c == '-' || c == '/' ? UChar32(' ') : c);
  });
  kept.findAndReplace("<person>", "person");
  // Runs of two or more white-space characters become one space; a single one stays as it is.
  icu::UnicodeString collapsed;
  icu::UnicodeString run;
  const auto flush = [&] {
    if (run.countChar32() >= 2) {
      collapsed.append(UChar32(' '));
    } else {
      collapsed.append(run);
    }
    run.remove();
  };
  each_character(kept, [&](UChar32 c) {
    if (is_python_space(c)) {
      run.append(c);
    } else {
      flush();
      collapsed.append(c);
    }
  });
  flush();
  std::string result = utf8(collapsed);
  while (!result.empty() && result.back() == '\n') result.pop_back();
  const std::size_t first = result.find_first_not_of(' '), last = result.find_last_not_of(' ');
  result = first == std::string::npos ? "" : result.substr(first, last - first + 1);
  std::vector<std::string> words = absl::StrSplit(result, ' ');
  if (static_cast<std::int64_t>(words.size()) > max_words) {
    words.resize(static_cast<std::size_t>(max_words));
    result.clear();
    for (const std::string& word : words) absl::StrAppend(&result, result.empty() ? "" : " ", word);
  }
  if (result.empty()) return absl::InvalidArgumentError("no text is left after removing punctuation");
  return result;
}

}  // namespace fgvl::data
