#pragma once
/// Texts cut into words, and what the lexicon knows of them: what the rules in foil_kinds.cpp are made of.
#include <algorithm>
#include <cctype>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include <absl/strings/str_cat.h>

#include "data/foil_lexicon.hpp"
#include "fgvl/data/foils.hpp"

namespace fgvl::data::foil {

constexpr std::size_t kFurthestHead = 4;  // words from a number or adjective to its noun

struct Word {
  std::string lower;
  std::size_t begin, end;  ///< in the text
  bool joined;             ///< nothing but spaces stands between it and the word before
};

std::string lower_case(std::string_view text);
/// Letters and digits; an apostrophe or hyphen between two of them belongs to the word.
std::vector<Word> words_of(const std::string& text);
/// " word word ": what phrases are searched in.
std::string spaced(const std::string& text);
/// The words alone, with single spaces between them: what phrases are known by.
std::string phrase_of(const std::string& text);
/// Whether a text that spaced() made says a phrase.
bool holds(const std::string& spaced_text, const std::string& phrase);

/// A span of words and what stands there instead.
struct Edit {
  std::size_t first, count;
  std::string text;
};

template <class Entry>
using Phrases = std::unordered_map<std::string, std::vector<Entry>>;

template <class Entry>
struct Match {
  std::size_t length = 0;  ///< words; 0: none
  const std::vector<Entry>* entries = nullptr;
};

struct ItemEntry {
  std::size_t set, item;
};
struct NounEntry {
  std::size_t set, item;
  bool singular, plural;  ///< both: "sheep"
};
enum class Form { kPlain, kThirdPerson, kParticiple, kPast, kPhrase };
enum class Number { kUnknown, kSingular, kPlural };

struct Items {
  std::vector<std::vector<std::string>> items{};
  std::vector<std::string> not_after{};
  std::set<std::size_t> of{};
};
struct Nouns {
  std::vector<std::vector<std::string>> items{}, plurals{};
  std::vector<std::string> names{}, not_with{};
  bool mass = false;
};
/// A label of the data set, and every word by which a text would say it.
struct Label {
  std::string text;
  std::vector<std::string> said_as;
  std::vector<std::pair<std::size_t, std::size_t>> items{};  ///< set and item of the lexicon that it is
  std::vector<std::size_t> named{};                          ///< sets all of whose items it names
};

/// A noun phrase of a sentence.
struct NounPhrase {
  std::size_t begin = 0, head = 0, end = 0;
  Number number = Number::kUnknown;
};


/// What the lexicon and the labels say, by phrase.
struct Rules {
  Rules(const FoilLexicon& lexicon, const std::vector<std::string>& labels, const Implications& implied);

  std::string plural_of(const std::string& singular) const;
  /// The one of the two articles that stands before `phrase`.
  const std::string& article_before(const std::string& phrase) const;
  void add_labels(const std::vector<std::string>& labels);
  Label described(const std::string& text) const;
  bool is_irregular_plural(const std::string& word) const;

  std::vector<Items> relations, attributes;
  std::vector<Nouns> nouns;
  std::vector<Label> labels;
  Phrases<ItemEntry> relation_phrases, attribute_phrases;
  Phrases<NounEntry> noun_phrases;
  Phrases<std::size_t> label_phrases;  ///< indices into labels
  std::unordered_map<std::string, std::unordered_set<std::string>> implied_by;  ///< phrase -> phrases of whatever it is true of too: vehicle -> truck, trucks
  Phrases<Form> role_phrases;
  Phrases<bool> fixed, openings;
  std::vector<std::string> numbers;
  Grammar grammar;
  std::unordered_set<std::string> articles, determiners, possessives, singular, plural, boundaries, modifiers, postures, conjunctions, auxiliaries, agents, verb_markers, agreeing_before, agreeing_behind;
  std::unordered_map<std::string, std::string> copulas, plurals;  ///< of one -> of several
  std::unordered_set<std::string> plural_copulas;
  std::size_t longest = 1;  ///< phrase, in words
};

/// A text cut into words, with what the lexicon knows of them.
struct Sentence {
  Sentence(const Rules& known, const std::string& source) : rules(known), text(source), words(words_of(source)), is_fixed(words.size(), false), lower(spaced(source)) {
    for (std::size_t i = 0; i < words.size(); ++i) {
      const auto match = longest_match(i, rules.fixed);
      if (match.length == 0) continue;
      // "on the left" is fixed, and in "on the left of" it is not.
      bool goes_on = false;
      for (std::size_t j = i; j < i + match.length; ++j) {
        const std::size_t relation = std::max(longest_match(j, rules.relation_phrases).length, longest_match(j, rules.role_phrases).length);
        goes_on = goes_on || j + relation > i + match.length;
      }
      for (std::size_t j = i; j < i + match.length && !goes_on; ++j) is_fixed[j] = true;
    }
  }

  /// The longest phrase that starts at word i; its words are joined.
  template <class Entry>
  Match<Entry> longest_match(std::size_t i, const Phrases<Entry>& phrases) const {
    Match<Entry> best;
    std::string key;
    for (std::size_t n = 1; n <= rules.longest && i + n <= words.size(); ++n) {
      const Word& word = words[i + n - 1];
      if (n > 1 && !word.joined) break;
      if (n > 1) key += ' ';
      key += word.lower;
      if (const auto found = phrases.find(key); found != phrases.end()) best = {n, &found->second};
    }
    return best;
  }

  bool any_fixed(std::size_t first, std::size_t count) const { return std::any_of(is_fixed.begin() + static_cast<std::ptrdiff_t>(first), is_fixed.begin() + static_cast<std::ptrdiff_t>(first + count), [](bool f) { return f; }); }
  bool is_joined(std::size_t i) const { return i < words.size() && words[i].joined; }
  const std::string& at(std::size_t i) const { return words[i].lower; }
  bool is_number(std::size_t i) const { return number_at(i) > 0; }
  /// 1 to 12, or 0.
  std::int64_t number_at(std::size_t i) const {
    for (std::size_t n = 0; n < rules.numbers.size(); ++n) {
      if (at(i) == rules.numbers[n] || at(i) == absl::StrCat(n + 1)) return static_cast<std::int64_t>(n) + 1;
    }
    return 0;
  }
  bool is_content(std::size_t i) const { return rules.boundaries.count(at(i)) == 0 && rules.determiners.count(at(i)) == 0 && !is_number(i); }
  bool is_participle(std::size_t i) const { return has_form(at(i), rules.grammar.participles); }
  bool follows_article(std::size_t i) const { return i > 0 && words[i].joined && rules.articles.count(at(i - 1)) > 0; }
  /// Whether a noun that the lexicon knows starts at word i.
  bool is_noun(std::size_t i) const { return i < words.size() && longest_match(i, rules.noun_phrases).length > 0; }
  bool is_modifier(std::size_t i) const { return rules.modifiers.count(at(i)) > 0 || longest_match(i, rules.attribute_phrases).length > 0 || is_noun(i); }

  /// What the words before the noun at i say of its number.
  Number number_before(std::size_t i) const {
    for (std::size_t steps = 0; i > 0 && steps < kFurthestHead && words[i].joined; ++steps) {
      --i;
      if (const std::int64_t number = number_at(i); number > 0) return number == 1 ? Number::kSingular : Number::kPlural;
      if (rules.singular.count(at(i)) > 0) return Number::kSingular;
      if (rules.plural.count(at(i)) > 0) return Number::kPlural;
      if (!is_content(i)) return Number::kUnknown;
    }
    return Number::kUnknown;
  }

  Number number_of(std::size_t i, const std::vector<NounEntry>& entries) const {
    const NounEntry& entry = entries.front();
    if (entry.singular && entry.plural) return number_before(i);
    return entry.plural ? Number::kPlural : Number::kSingular;
  }

  /// The known noun in which the words from i on end, at most some words away; its place, or none. `starts` before it are skipped.
  std::optional<std::size_t> head_from(std::size_t i) const {
    for (std::size_t j = i; j < words.size() && j < i + kFurthestHead && (j == i || words[j].joined) && is_content(j); ++j) {
      const auto match = longest_match(j, rules.noun_phrases);
      if (match.length == 0) continue;
      // "wooden dining table": the last of nouns that follow one another is the head.
      const std::size_t behind = j + match.length;
      if (behind < words.size() && words[behind].joined && is_content(behind) && is_noun(behind)) continue;
      return j;
    }
    return std::nullopt;
  }

  bool is_of(std::size_t i, const std::set<std::size_t>& sets) const {
    if (sets.empty()) return true;
    if (i < words.size() && (rules.determiners.count(at(i)) > 0 || is_number(i))) ++i;
    if (i >= words.size()) return false;
    const auto head = head_from(i);
    if (!head) return false;
    const auto match = longest_match(*head, rules.noun_phrases);
    return std::any_of(match.entries->begin(), match.entries->end(), [&](const NounEntry& entry) { return sets.count(entry.set) > 0; });
  }

  /// Whether a noun phrase may start at word i, which goes on from the word before.
  bool starts_noun_phrase(std::size_t i) const {
    if (!is_joined(i)) return false;
    if (is_content(i)) return true;
    return (rules.determiners.count(at(i)) > 0 || is_number(i)) && is_joined(i + 1) && is_content(i + 1);
  }

  /// The noun phrase at word i, whose every word is known but for a single noun behind a determiner.
  std::optional<NounPhrase> noun_phrase(std::size_t i) const {
    if (i >= words.size()) return std::nullopt;
    NounPhrase phrase{i, i, i, Number::kUnknown};
    bool has_determiner = false;
    std::size_t j = i;
    for (; j < words.size() && (j == i || words[j].joined) && (rules.determiners.count(at(j)) > 0 || is_number(j)) && j < i + 2; ++j) has_determiner = true;
    if (rules.possessives.count(at(i)) > 0) return std::nullopt;  // "his horse rides a man": whose?
    const std::size_t content = j;
    std::optional<std::size_t> behind_head;
    while (j < words.size() && (j == i || words[j].joined) && is_content(j)) {
      const auto match = longest_match(j, rules.noun_phrases);
      if (match.length > 0) {
        phrase.head = j;
        j += match.length;
        behind_head = j;
      } else if (is_modifier(j)) {
        ++j;
      } else {
        break;
      }
    }
    if (behind_head) {
      phrase.end = *behind_head;
      phrase.number = number_of(phrase.head, *longest_match(phrase.head, rules.noun_phrases).entries);
      if (phrase.end < words.size() && words[phrase.end].joined && has_form(at(phrase.end), rules.grammar.genitives)) return std::nullopt;
      return phrase;
    }
    if (!has_determiner || content >= words.size() || !words[content].joined || !is_content(content) || is_modifier(content)) return std::nullopt;
    phrase.head = content;
    phrase.end = content + 1;
    phrase.number = number_before(content);
    return phrase;
  }

  /// The text with `edits`, in the order of their places; an article before an edit follows its sound.
  std::string edited(std::vector<Edit> edits) const {
    std::vector<Edit> all;
    for (Edit& edit : edits) {
      const bool has_article = follows_article(edit.first) && (all.empty() || all.back().first != edit.first - 1);
      if (has_article) all.push_back({edit.first - 1, 1, rules.article_before(edit.text)});
      all.push_back(std::move(edit));
    }
    std::string result;
    std::size_t done = 0;
    for (const Edit& edit : all) {
      const std::size_t begin = words[edit.first].begin;
      result.append(text, done, begin - done);
      const bool capital = std::isupper(static_cast<unsigned char>(text[begin])) != 0;
      result += edit.text;
      if (capital) result[result.size() - edit.text.size()] = static_cast<char>(std::toupper(static_cast<unsigned char>(edit.text[0])));
      done = words[edit.first + edit.count - 1].end;
    }
    result.append(text, done, std::string::npos);
    return result;
  }

  bool says(const std::string& phrase) const { return holds(lower, phrase); }
  bool says_any(const std::vector<std::string>& phrases) const {
    return std::any_of(phrases.begin(), phrases.end(), [&](const std::string& phrase) { return says(phrase); });
  }

  const Rules& rules;
  const std::string& text;
  std::vector<Word> words;
  std::vector<bool> is_fixed;
  std::string lower;
};

}  // namespace fgvl::data::foil
