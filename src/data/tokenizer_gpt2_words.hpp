#pragma once
/// GPT-2's cutting of a text into words (openai/gpt-2 encoder.py): what the pattern
///   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
/// matches, by hand: one look at each character, several times as fast as ICU's regular expressions (benchmarks/tokenizer.cpp).
#include <string_view>

#include "data/tokenizer_unicode.hpp"

namespace fgvl::data {

/// Length of 's 't 're 've 'm 'll 'd at the start of `text`, 0: none.
inline std::size_t contraction(std::string_view text) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  const char a = text[1], b = text.size() > 2 ? text[2] : '\0';
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
  return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

template <class Use>
void each_gpt2_word(std::string_view text, Use&& use) {
  using unicode::Kind;
  const auto kind_at = [&](std::size_t at, std::size_t& behind) {  // and where the character ends
    behind = at;
    return unicode::kind_of(unicode::next(text, behind));
  };
  // Behind the characters of `kind` from `at` on; `last`: where the last of them starts.
  const auto run = [&](std::size_t at, Kind kind, std::size_t& last) {
    for (std::size_t behind = 0; at < text.size() && kind_at(at, behind) == kind; at = behind) last = at;
    return at;
  };
  for (std::size_t begin = 0; begin < text.size();) {
    std::size_t end = begin + contraction(text.substr(begin)), last = begin, behind = 0;
    if (end == begin) {
      const Kind kind = kind_at(begin, behind);
      if (kind != Kind::kSpace) {
        end = run(behind, kind, last);
      } else {
        std::size_t after = 0;
        const Kind next = text[begin] == ' ' && behind < text.size() ? kind_at(behind, after) : Kind::kSpace;
        if (next != Kind::kSpace) {
          end = run(after, next, last);
        } else {
          // White space up to the last of it, which goes with the word behind it; all of it at the end, and where it is one character.
          end = run(behind, Kind::kSpace, last);
          if (end < text.size() && last > begin) end = last;
        }
      }
    }
    use(text.substr(begin, end - begin));
    begin = end;
  }
}

}  // namespace fgvl::data
