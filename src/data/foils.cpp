#include "fgvl/data/foils.hpp"

#include <algorithm>
#include <cctype>
#include <set>
#include <unordered_map>

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>

#include "data/foil_lexicon.hpp"

namespace fgvl::data {
namespace {

constexpr std::size_t kMostLabels = 1000;
constexpr std::size_t kFurthestHead = 4;    // words from a number or adjective to its noun
constexpr std::int64_t kNumberDistance = 2; // another number is at most this far away: the ones that are hard to tell

bool is_word_character(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || (c & 0x80) != 0; }

std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  return lower;
}

struct Word {
  std::string lower;
  std::size_t begin, end;  ///< in the text
  bool joined;             ///< nothing but spaces stands between it and the word before
};

/// Letters and digits; an apostrophe or hyphen between two of them belongs to the word.
std::vector<Word> words_of(const std::string& text) {
  std::vector<Word> words;
  for (std::size_t i = 0; i < text.size();) {
    if (!is_word_character(text[i])) {
      ++i;
      continue;
    }
    std::size_t end = i;
    while (end < text.size() && (is_word_character(text[end]) || ((text[end] == '\'' || text[end] == '-') && end + 1 < text.size() && is_word_character(text[end + 1])))) ++end;
    const std::size_t before = words.empty() ? 0 : words.back().end;
    const bool joined = !words.empty() && text.find_first_not_of(' ', before) == i;
    words.push_back({lower_case(std::string_view(text).substr(i, end - i)), i, end, joined});
    i = end;
  }
  return words;
}

/// " word word ": what phrases are searched in.
std::string spaced(const std::string& text) {
  std::string result = " ";
  for (const Word& word : words_of(text)) absl::StrAppend(&result, word.lower, " ");
  return result;
}

bool holds(const std::string& spaced_text, const std::string& phrase) { return spaced_text.find(absl::StrCat(" ", phrase, " ")) != std::string::npos; }

bool is_vowel(char c) { return std::string_view("aeiou").find(c) != std::string_view::npos; }

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

}  // namespace

struct FoilRules::Impl {
  Impl(const FoilLexicon& lexicon, const std::vector<std::string>& labels);

  struct Sentence;

  std::string plural_of(const std::string& singular) const;
  const char* article_before(const std::string& phrase) const;
  void add_labels(const std::vector<std::string>& labels);
  bool is_irregular_plural(const std::string& word) const;

  std::vector<Items> relations, attributes;
  std::vector<Nouns> nouns;
  std::vector<Label> labels;
  Phrases<ItemEntry> relation_phrases, attribute_phrases;
  Phrases<NounEntry> noun_phrases;
  Phrases<std::size_t> label_phrases;  ///< indices into labels
  Phrases<Form> role_phrases;
  Phrases<bool> fixed;
  std::vector<std::string> numbers;
  std::unordered_set<std::string> determiners, possessives, singular, plural, boundaries, modifiers, postures;
  std::vector<std::string> an_before, a_before;
  std::unordered_map<std::string, std::string> copulas, plurals;  ///< of one -> of several
  std::unordered_set<std::string> plural_copulas;
  std::size_t longest = 1;  ///< phrase, in words
};

/// A text cut into words, with what the lexicon knows of them.
struct FoilRules::Impl::Sentence {
  Sentence(const Impl& rules, const std::string& source) : impl(rules), text(source), words(words_of(source)), is_fixed(words.size(), false), lower(spaced(source)) {
    for (std::size_t i = 0; i < words.size(); ++i) {
      const auto match = longest_match(i, impl.fixed);
      if (match.length == 0) continue;
      // "on the left" is fixed, and in "on the left of" it is not.
      bool goes_on = false;
      for (std::size_t j = i; j < i + match.length; ++j) {
        const std::size_t relation = std::max(longest_match(j, impl.relation_phrases).length, longest_match(j, impl.role_phrases).length);
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
    for (std::size_t n = 1; n <= impl.longest && i + n <= words.size(); ++n) {
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
    for (std::size_t n = 0; n < impl.numbers.size(); ++n) {
      if (at(i) == impl.numbers[n] || at(i) == absl::StrCat(n + 1)) return static_cast<std::int64_t>(n) + 1;
    }
    return 0;
  }
  bool is_content(std::size_t i) const { return impl.boundaries.count(at(i)) == 0 && impl.determiners.count(at(i)) == 0 && !is_number(i); }
  bool is_participle(std::size_t i) const { return at(i).size() > 4 && absl::EndsWith(at(i), "ing"); }
  /// Whether a noun that the lexicon knows starts at word i.
  bool is_noun(std::size_t i) const { return i < words.size() && longest_match(i, impl.noun_phrases).length > 0; }
  bool is_modifier(std::size_t i) const { return impl.modifiers.count(at(i)) > 0 || longest_match(i, impl.attribute_phrases).length > 0 || is_noun(i); }

  /// What the words before the noun at i say of its number.
  Number number_before(std::size_t i) const {
    for (std::size_t steps = 0; i > 0 && steps < kFurthestHead && words[i].joined; ++steps) {
      --i;
      if (const std::int64_t number = number_at(i); number > 0) return number == 1 ? Number::kSingular : Number::kPlural;
      if (impl.singular.count(at(i)) > 0) return Number::kSingular;
      if (impl.plural.count(at(i)) > 0) return Number::kPlural;
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
      const auto match = longest_match(j, impl.noun_phrases);
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
    if (i < words.size() && (impl.determiners.count(at(i)) > 0 || is_number(i))) ++i;
    if (i >= words.size()) return false;
    const auto head = head_from(i);
    if (!head) return false;
    const auto match = longest_match(*head, impl.noun_phrases);
    return std::any_of(match.entries->begin(), match.entries->end(), [&](const NounEntry& entry) { return sets.count(entry.set) > 0; });
  }

  /// Whether a noun phrase may start at word i, which goes on from the word before.
  bool starts_noun_phrase(std::size_t i) const {
    if (!is_joined(i)) return false;
    if (is_content(i)) return true;
    return (impl.determiners.count(at(i)) > 0 || is_number(i)) && is_joined(i + 1) && is_content(i + 1);
  }

  /// The noun phrase at word i, whose every word is known but for a single noun behind a determiner.
  std::optional<NounPhrase> noun_phrase(std::size_t i) const {
    if (i >= words.size()) return std::nullopt;
    NounPhrase phrase{i, i, i, Number::kUnknown};
    bool has_determiner = false;
    std::size_t j = i;
    for (; j < words.size() && (j == i || words[j].joined) && (impl.determiners.count(at(j)) > 0 || is_number(j)) && j < i + 2; ++j) has_determiner = true;
    if (impl.possessives.count(at(i)) > 0) return std::nullopt;  // "his horse rides a man": whose?
    const std::size_t content = j;
    std::optional<std::size_t> behind_head;
    while (j < words.size() && (j == i || words[j].joined) && is_content(j)) {
      const auto match = longest_match(j, impl.noun_phrases);
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
      phrase.number = number_of(phrase.head, *longest_match(phrase.head, impl.noun_phrases).entries);
      if (phrase.end < words.size() && words[phrase.end].joined && absl::EndsWith(at(phrase.end), "'s")) return std::nullopt;
      return phrase;
    }
    if (!has_determiner || content >= words.size() || !words[content].joined || !is_content(content) || is_modifier(content)) return std::nullopt;
    phrase.head = content;
    phrase.end = content + 1;
    phrase.number = number_before(content);
    return phrase;
  }

  /// The text with `edits`, in the order of their places; "a" or "an" before an edit follows its sound.
  std::string edited(std::vector<Edit> edits) const {
    std::vector<Edit> all;
    for (Edit& edit : edits) {
      const bool has_article = edit.first > 0 && words[edit.first].joined && (at(edit.first - 1) == "a" || at(edit.first - 1) == "an") && (all.empty() || all.back().first != edit.first - 1);
      if (has_article) all.push_back({edit.first - 1, 1, impl.article_before(edit.text)});
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
  bool may_follow(std::size_t i, const std::vector<std::string>& not_after) const {
    return std::none_of(not_after.begin(), not_after.end(), [&](const std::string& word) { return word[0] == '*' ? absl::EndsWith(at(i), word.substr(1)) : at(i) == word; });
  }

  const Impl& impl;
  const std::string& text;
  std::vector<Word> words;
  std::vector<bool> is_fixed;
  std::string lower;
};

namespace {

using Sentence = FoilRules::Impl::Sentence;

/// Whether one of `phrases` is said, in the text itself or of the picture.
bool is_said(const std::vector<std::string>& phrases, const Sentence& sentence, const TrueTexts& truth) {
  return std::any_of(phrases.begin(), phrases.end(), [&](const std::string& phrase) { return sentence.says(phrase) || truth.says(phrase); });
}

std::vector<std::string> relation_foils(const Sentence& sentence) {
  std::vector<std::string> foils;
  const FoilRules::Impl& impl = sentence.impl;
  for (std::size_t i = 0, length = 1; i < sentence.words.size(); i += length) {
    const auto match = sentence.longest_match(i, impl.relation_phrases);
    length = std::max<std::size_t>(1, match.length);
    if (match.length == 0 || i == 0 || !sentence.words[i].joined || sentence.any_fixed(i, length) || !sentence.starts_noun_phrase(i + length)) continue;
    for (const ItemEntry& entry : *match.entries) {
      const Items& set = impl.relations[entry.set];
      if (!sentence.may_follow(i - 1, set.not_after) || !sentence.is_of(i + length, set.of)) continue;
      for (std::size_t other = 0; other < set.items.size(); ++other) {
        if (other != entry.item) foils.push_back(sentence.edited({{i, length, set.items[other].front()}}));
      }
    }
  }
  return foils;
}

std::vector<std::string> attribute_foils(const Sentence& sentence, const TrueTexts& truth) {
  std::vector<std::string> foils;
  const FoilRules::Impl& impl = sentence.impl;
  for (std::size_t i = 0, length = 1; i < sentence.words.size(); i += length) {
    const auto match = sentence.longest_match(i, impl.attribute_phrases);
    length = std::max<std::size_t>(1, match.length);
    if (match.length == 0 || sentence.any_fixed(i, length)) continue;
    const std::size_t next = i + length;
    const bool goes_on = sentence.is_joined(next);
    // "a red sits": a word that ends like a verb shows that the attribute was a noun.
    const auto is_verb_like = [&](std::size_t j) { return absl::EndsWith(sentence.at(j), "s") && !absl::EndsWith(sentence.at(j), "ss") && !sentence.is_noun(j) && sentence.number_before(i) == Number::kSingular; };
    const bool before_noun = goes_on && sentence.is_content(next) && !sentence.is_participle(next) && !is_verb_like(next);
    const bool coordinated = goes_on && (sentence.at(next) == "and" || sentence.at(next) == "or") && sentence.is_joined(next + 1) && sentence.longest_match(next + 1, impl.attribute_phrases).length > 0;
    const bool behind_copula = i > 0 && sentence.words[i].joined && (impl.copulas.count(sentence.at(i - 1)) > 0 || impl.plural_copulas.count(sentence.at(i - 1)) > 0) && (!goes_on || !sentence.is_content(next));
    for (const ItemEntry& entry : *match.entries) {
      const Items& set = impl.attributes[entry.set];
      const bool fits = set.of.empty() ? before_noun || coordinated || behind_copula : before_noun && sentence.is_of(next, set.of);
      if (!fits) continue;
      for (std::size_t other = 0; other < set.items.size(); ++other) {
        if (other == entry.item || is_said(set.items[other], sentence, truth)) continue;
        foils.push_back(sentence.edited({{i, length, set.items[other].front()}}));
      }
    }
  }
  return foils;
}

/// What follows a noun phrase whose number is changed: nothing, a preposition or a participle keep it right, "is" becomes "are", and of other words nobody knows.
std::optional<std::vector<Edit>> agreement(const Sentence& sentence, std::size_t behind, bool to_plural) {
  const FoilRules::Impl& impl = sentence.impl;
  if (behind >= sentence.words.size() || !sentence.words[behind].joined) return std::vector<Edit>{};
  const std::string& word = sentence.at(behind);
  for (const auto& [one, several] : impl.copulas) {
    if (word == (to_plural ? one : several)) return std::vector<Edit>{{behind, 1, to_plural ? several : one}};
    if (word == one || word == several) return std::nullopt;
  }
  for (const char* verb : {"does", "do", "which", "who", "that", "it", "there", "he", "she", "they"}) {
    if (word == verb) return std::nullopt;
  }
  const auto relation = sentence.longest_match(behind, impl.role_phrases);
  const bool is_relation = relation.length > 0 && relation.entries->front() == Form::kPhrase;  // "left of"
  if (is_relation || impl.boundaries.count(word) > 0 || sentence.is_participle(behind)) return std::vector<Edit>{};
  return std::nullopt;
}

class NumberFoils {
 public:
  NumberFoils(const Sentence& sentence, const TrueTexts& truth) : sentence_(sentence), truth_(truth), impl_(sentence.impl) {}

  std::vector<std::string> made() {
    for (std::size_t i = 0; i < sentence_.words.size(); ++i) {
      if (sentence_.is_fixed[i] || !sentence_.is_joined(i + 1)) continue;
      const bool article = sentence_.at(i) == "a" || sentence_.at(i) == "an";
      const std::int64_t number = article ? 1 : sentence_.number_at(i);
      if (number == 0) continue;
      const bool after_determiner = i > 0 && sentence_.words[i].joined && (impl_.determiners.count(sentence_.at(i - 1)) > 0 || sentence_.is_number(i - 1));
      const bool after_noun = i > 0 && sentence_.words[i].joined && sentence_.is_content(i - 1) && std::isdigit(static_cast<unsigned char>(sentence_.at(i)[0])) != 0;  // "route 5"
      if (after_noun || (number == 1 && after_determiner)) continue;
      if (number == 1) {
        from_one(i, article);
      } else {
        from_several(i, number, after_determiner);
      }
    }
    return foils_;
  }

 private:
  /// The counted noun, known, and not the first part of a compound.
  std::optional<std::pair<std::size_t, Match<NounEntry>>> counted(std::size_t i) const {
    const auto head = sentence_.head_from(i + 1);
    if (!head) return std::nullopt;
    const auto match = sentence_.longest_match(*head, impl_.noun_phrases);
    if (sentence_.any_fixed(i, *head + match.length - i)) return std::nullopt;
    for (std::size_t j = i + 1; j < *head; ++j) {
      if (sentence_.is_participle(j)) return std::nullopt;  // "one sitting on chairs"
    }
    return std::pair(*head, match);
  }

  std::string written(std::int64_t number, std::size_t like) const {
    return std::isdigit(static_cast<unsigned char>(sentence_.at(like)[0])) != 0 ? absl::StrCat(number) : impl_.numbers[static_cast<std::size_t>(number) - 1];
  }
  bool is_number_said(std::int64_t number) const { return truth_.says(impl_.numbers[static_cast<std::size_t>(number) - 1]) || truth_.says(absl::StrCat(number)); }

  std::vector<std::string> forms(const NounEntry& entry) const {
    std::vector<std::string> all = impl_.nouns[entry.set].items[entry.item];
    const auto& plurals = impl_.nouns[entry.set].plurals[entry.item];
    all.insert(all.end(), plurals.begin(), plurals.end());
    return all;
  }

  /// The noun at `place` in the other number; empty where it has none.
  std::string in_other_number(std::size_t place, const Match<NounEntry>& match, bool to_plural) const {
    const NounEntry& entry = match.entries->front();
    const Nouns& set = impl_.nouns[entry.set];
    if (set.mass || (entry.singular && entry.plural)) return "";
    std::vector<std::string> phrase;
    for (std::size_t j = place; j < place + match.length; ++j) phrase.push_back(sentence_.at(j));
    const std::string written = absl::StrJoin(phrase, " ");
    const auto &from = to_plural ? set.items[entry.item] : set.plurals[entry.item], &to = to_plural ? set.plurals[entry.item] : set.items[entry.item];
    const auto found = std::find(from.begin(), from.end(), written);
    return found == from.end() ? "" : to[static_cast<std::size_t>(found - from.begin())];
  }

  void from_one(std::size_t i, bool article) {
    const auto head = counted(i);
    if (!head || head->second.entries->front().plural) return;
    const std::string plural = in_other_number(head->first, head->second, true);
    auto follows = agreement(sentence_, head->first + head->second.length, true);
    if (plural.empty() || !follows || (i > 0 && sentence_.at(i - 1) == "is")) return;
    for (const char* pronoun : {"it", "its", "he", "his", "she", "her", "himself", "herself"}) {
      if (sentence_.says(pronoun)) return;  // it would have to be "their"
    }
    const NounEntry& entry = head->second.entries->front();
    // "a dog" does not say that there is no second one: others must not speak of dogs, nor annotate two.
    const auto& plurals = impl_.nouns[entry.set].plurals[entry.item];
    if (is_said(plurals, sentence_, truth_) || truth_.regions_naming(forms(entry)) > 1) return;
    for (std::int64_t number = 2; number <= 1 + (article ? 1 : kNumberDistance); ++number) {
      if (is_number_said(number)) continue;
      std::vector<Edit> edits = {{i, 1, written(number, i)}, {head->first, head->second.length, plural}};
      edits.insert(edits.end(), follows->begin(), follows->end());
      foils_.push_back(sentence_.edited(std::move(edits)));
    }
  }

  void from_several(std::size_t i, std::int64_t number, bool after_determiner) {
    const auto head = counted(i);
    // Of an unknown noun only that it is a plural must be seen.
    const auto looks_plural = [&](std::size_t j) {
      const std::string& word = sentence_.at(j);
      return word.size() > 3 && absl::EndsWith(word, "s") && !absl::EndsWith(word, "ss") && !absl::EndsWith(word, "us") && !absl::EndsWith(word, "is");
    };
    bool counts = head && sentence_.number_of(head->first, *head->second.entries) == Number::kPlural;
    if (!head && !sentence_.any_fixed(i, 2)) {
      for (std::size_t j = i + 1; j < sentence_.words.size() && j < i + kFurthestHead && sentence_.words[j].joined && sentence_.is_content(j) && !counts; ++j) counts = looks_plural(j) || impl_.is_irregular_plural(sentence_.at(j));
    }
    if (!counts) return;
    const std::int64_t regions = head ? truth_.regions_naming(forms(head->second.entries->front())) : 0;
    const auto is_true = [&](std::int64_t other) { return other == regions || is_number_said(other); };
    for (std::int64_t other = std::max<std::int64_t>(2, number - kNumberDistance); other <= std::min<std::int64_t>(number + kNumberDistance, static_cast<std::int64_t>(impl_.numbers.size())); ++other) {
      if (other != number && !is_true(other)) foils_.push_back(sentence_.edited({{i, 1, written(other, i)}}));
    }
    if (!head || number - 1 > kNumberDistance || after_determiner || is_true(1) || sentence_.says("they") || sentence_.says("their") || sentence_.says("them")) return;
    if (i > 0 && impl_.plural_copulas.count(sentence_.at(i - 1)) > 0) return;  // "there are"
    const std::string singular = in_other_number(head->first, head->second, false);
    auto follows = agreement(sentence_, head->first + head->second.length, false);
    if (singular.empty() || !follows) return;
    std::vector<Edit> edits = {{i, 1, written(1, i)}, {head->first, head->second.length, singular}};
    edits.insert(edits.end(), follows->begin(), follows->end());
    foils_.push_back(sentence_.edited(std::move(edits)));
  }

  const Sentence& sentence_;
  const TrueTexts& truth_;
  const FoilRules::Impl& impl_;
  std::vector<std::string> foils_;
};

/// Whether the word or phrase at i is a noun on its own: not a verb behind a noun ("a man watches"), nor a part of a compound.
bool stands_alone(const Sentence& sentence, std::size_t i, std::size_t length) {
  if (sentence.any_fixed(i, length)) return false;
  if (sentence.is_joined(i + length) && sentence.is_noun(i + length)) return false;
  if (i == 0 || !sentence.words[i].joined) return true;
  if (sentence.at(i - 1) == "to") return false;
  for (std::size_t j = i; j-- > 0 && j + 4 > i;) {
    if (sentence.is_noun(j) && j + sentence.longest_match(j, sentence.impl.noun_phrases).length == i) return false;
    if (!sentence.words[j].joined) break;
  }
  return true;
}

bool follows_article(const Sentence& sentence, std::size_t i) { return i > 0 && sentence.words[i].joined && (sentence.at(i - 1) == "a" || sentence.at(i - 1) == "an"); }

void add_noun_foils(const Sentence& sentence, const TrueTexts& truth, std::vector<std::string>& foils) {
  const FoilRules::Impl& impl = sentence.impl;
  for (std::size_t i = 0, length = 1; i < sentence.words.size(); i += length) {
    const auto match = sentence.longest_match(i, impl.noun_phrases);
    length = std::max<std::size_t>(1, match.length);
    if (match.length == 0 || !stands_alone(sentence, i, length)) continue;
    const Number number = sentence.number_of(i, *match.entries);
    if (number == Number::kUnknown) continue;
    for (const NounEntry& entry : *match.entries) {
      const Nouns& set = impl.nouns[entry.set];
      if (std::any_of(set.not_with.begin(), set.not_with.end(), [&](const std::string& word) { return sentence.says(word); }) || (set.mass && follows_article(sentence, i))) continue;
      for (std::size_t other = 0; other < set.items.size(); ++other) {
        if (other == entry.item || is_said(set.items[other], sentence, truth) || is_said(set.plurals[other], sentence, truth)) continue;
        foils.push_back(sentence.edited({{i, length, (number == Number::kPlural ? set.plurals : set.items)[other].front()}}));
      }
    }
  }
}

/// Whether a thing may bear both labels: the same item, one the name of the other's set, or one part of the other ("cell", "red cell").
bool are_related(const Label& a, const Label& b) {
  if (holds(absl::StrCat(" ", a.text, " "), b.text) || holds(absl::StrCat(" ", b.text, " "), a.text)) return true;
  const auto names = [](const Label& name, const Label& other) {
    return std::any_of(name.named.begin(), name.named.end(), [&](std::size_t set) {
      return std::find(other.named.begin(), other.named.end(), set) != other.named.end() || std::any_of(other.items.begin(), other.items.end(), [&](const auto& item) { return item.first == set; });
    });
  };
  const bool same = std::any_of(a.items.begin(), a.items.end(), [&](const auto& item) { return std::find(b.items.begin(), b.items.end(), item) != b.items.end(); });
  return same || names(a, b) || names(b, a);
}

void add_label_foils(const Sentence& sentence, const TrueTexts& truth, std::vector<std::string>& foils) {
  const FoilRules::Impl& impl = sentence.impl;
  if (impl.labels.size() < 2) return;
  const auto has_determiner = [&](const std::string& label) { return impl.determiners.count(label.substr(0, label.find(' '))) > 0; };
  for (std::size_t i = 0, length = 1; i < sentence.words.size(); i += length) {
    const auto match = sentence.longest_match(i, impl.label_phrases);
    length = std::max<std::size_t>(1, match.length);
    if (match.length == 0) continue;
    const bool is_all = i == 0 && length == sentence.words.size();
    if (!is_all && !stands_alone(sentence, i, length)) continue;
    const Label& label = impl.labels[match.entries->front()];
    for (const Label& other : impl.labels) {
      if (&other == &label || are_related(label, other) || is_said(other.said_as, sentence, truth)) continue;
      if (!is_all) {
        // A word that the lexicon does not know must look like the name of one thing.
        const auto known = impl.noun_phrases.find(other.text), own = impl.noun_phrases.find(label.text);
        const bool is_one = known != impl.noun_phrases.end() ? known->second.front().singular && !known->second.front().plural && !impl.nouns[known->second.front().set].mass : !absl::EndsWith(other.text, "s");
        const bool was_one = own != impl.noun_phrases.end() ? own->second.front().singular && !own->second.front().plural && !impl.nouns[own->second.front().set].mass : !absl::EndsWith(label.text, "s");
        if (has_determiner(label.text) != has_determiner(other.text) || !is_one || !was_one) continue;
      }
      foils.push_back(sentence.edited({{i, length, other.text}}));
    }
  }
}

/// The noun phrases around the first verb or relation change places.
std::vector<std::string> role_foils(const Sentence& sentence) {
  const FoilRules::Impl& impl = sentence.impl;
  const auto& words = sentence.words;
  const bool there = words.size() > 2 && sentence.at(0) == "there" && (sentence.at(1) == "is" || sentence.at(1) == "are");
  const auto left = sentence.noun_phrase(there ? 2 : 0);
  if (!left) return {};
  std::size_t at = left->end;
  bool agrees = there;  // both must have one number
  const auto here = [&](std::size_t i) { return sentence.is_joined(i); };
  const bool copula = here(at) && (sentence.at(at) == "is" || sentence.at(at) == "are" || sentence.at(at) == "was" || sentence.at(at) == "were");
  if (copula) ++at;
  const bool posture = here(at) && impl.postures.count(sentence.at(at)) > 0;
  agrees = agrees || copula || (posture && absl::EndsWith(sentence.at(at), "s"));
  if (posture) ++at;
  if (!here(at)) return {};
  const auto match = sentence.longest_match(at, impl.role_phrases);
  if (match.length == 0 || sentence.any_fixed(at, match.length)) return {};
  const Form form = match.entries->front();
  if (posture && form != Form::kPhrase) return {};
  if (copula && (form == Form::kPlain || form == Form::kThirdPerson)) return {};
  at += match.length;
  if (form == Form::kPast && here(at) && sentence.at(at) == "by") {
    ++at;
  } else if (form == Form::kPast && copula) {
    return {};
  }
  const auto right = here(at) ? sentence.noun_phrase(at) : std::nullopt;
  if (!right) return {};
  // "a tree branch" is no tree: what goes on behind the noun must be a participle, or no content at all.
  if (here(right->end) && sentence.is_content(right->end) && !sentence.is_participle(right->end) && !absl::EndsWith(sentence.at(right->end), "ed")) return {};
  const bool known = left->number != Number::kUnknown && right->number != Number::kUnknown;
  const bool same = known && left->number == right->number;
  if (agrees && !same) return {};
  if (form == Form::kThirdPerson && !(same && left->number == Number::kSingular)) return {};
  if (form == Form::kPlain && !(same && left->number == Number::kPlural)) return {};
  const auto part = [&](const NounPhrase& phrase) { return sentence.text.substr(words[phrase.begin].begin, words[phrase.end - 1].end - words[phrase.begin].begin); };
  std::string first = part(*right), second = part(*left);
  if (std::isupper(static_cast<unsigned char>(second[0])) != 0 && left->begin == 0) {
    first[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(first[0])));
    second[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(second[0])));
  }
  const std::size_t left_end = words[left->end - 1].end, right_begin = words[right->begin].begin;
  return {absl::StrCat(sentence.text.substr(0, words[left->begin].begin), first, sentence.text.substr(left_end, right_begin - left_end), second, sentence.text.substr(words[right->end - 1].end))};
}

template <class Entry>
void add_phrase(Phrases<Entry>& phrases, const std::string& phrase, Entry entry, std::size_t& longest) {
  phrases[phrase].push_back(std::move(entry));
  longest = std::max<std::size_t>(longest, static_cast<std::size_t>(std::count(phrase.begin(), phrase.end(), ' ')) + 1);
}

std::unordered_set<std::string> set_of(const std::vector<std::string>& words) { return {words.begin(), words.end()}; }

}  // namespace

FoilRules::Impl::Impl(const FoilLexicon& lexicon, const std::vector<std::string>& label_texts)
    : numbers(lexicon.numbers), determiners(set_of(lexicon.grammar.determiners)), possessives(set_of(lexicon.grammar.possessives)), singular(set_of(lexicon.grammar.singular)),
      plural(set_of(lexicon.grammar.plural)), boundaries(set_of(lexicon.grammar.boundaries)), modifiers(set_of(lexicon.grammar.modifiers)), postures(set_of(lexicon.roles.postures)),
      an_before(lexicon.grammar.an_before), a_before(lexicon.grammar.a_before), copulas(lexicon.grammar.copulas.begin(), lexicon.grammar.copulas.end()),
      plurals(lexicon.grammar.plurals.begin(), lexicon.grammar.plurals.end()) {
  for (const auto& [one, several] : copulas) plural_copulas.insert(several);
  std::map<std::string, std::size_t> set_index;
  for (const auto& [name, set] : lexicon.nouns) {
    set_index[name] = nouns.size();
    Nouns made{.names = set.names, .not_with = set.not_with, .mass = set.mass};
    for (const std::string& item : set.words) {
      const std::size_t index = made.items.size();
      made.items.push_back(item_words(item));
      auto& several = made.plurals.emplace_back();
      for (const std::string& word : made.items.back()) {
        several.push_back(set.mass ? word : plural_of(word));
        const bool same = several.back() == word;
        add_phrase(noun_phrases, word, NounEntry{nouns.size(), index, true, same && !set.mass}, longest);
        if (!same) add_phrase(noun_phrases, several.back(), NounEntry{nouns.size(), index, false, true}, longest);
      }
    }
    nouns.push_back(std::move(made));
  }
  for (const auto& [sets, made, phrases] : {std::tuple(&lexicon.relations, &relations, &relation_phrases), std::tuple(&lexicon.attributes, &attributes, &attribute_phrases)}) {
    for (const auto& [name, set] : *sets) {
      Items items{.not_after = set.not_after};
      for (const std::string& noun : set.of) items.of.insert(set_index.at(noun));
      for (const std::string& item : set.words) {
        for (const std::string& word : item_words(item)) add_phrase(*phrases, word, ItemEntry{made->size(), items.items.size()}, longest);
        items.items.push_back(item_words(item));
      }
      made->push_back(std::move(items));
    }
  }
  for (const std::string& verb : lexicon.roles.verbs) {
    const std::vector<std::string> forms = item_words(verb);
    for (std::size_t f = 0; f < forms.size() && f < 4; ++f) add_phrase(role_phrases, forms[f], static_cast<Form>(f), longest);
  }
  for (const std::string& relation : lexicon.roles.relations) add_phrase(role_phrases, relation, Form::kPhrase, longest);
  for (const std::string& phrase : lexicon.fixed) add_phrase(fixed, phrase, true, longest);
  add_labels(label_texts);
}

/// The most frequent ones, ties in alphabetical order.
void FoilRules::Impl::add_labels(const std::vector<std::string>& texts) {
  std::map<std::string, std::int64_t> counts;
  for (const std::string& text : texts) {
    const std::string key = std::string(absl::StripAsciiWhitespace(spaced(text)));
    if (!key.empty()) ++counts[key];
  }
  std::vector<std::pair<std::int64_t, std::string>> ranked;
  for (const auto& [label, count] : counts) ranked.emplace_back(-count, label);
  std::sort(ranked.begin(), ranked.end());
  if (ranked.size() > kMostLabels) ranked.resize(kMostLabels);
  for (const auto& [count, text] : ranked) {
    Label label{text, {text, plural_of(text)}};
    for (std::size_t set = 0; set < nouns.size(); ++set) {
      const Nouns& known = nouns[set];
      const bool is_name = std::find(known.names.begin(), known.names.end(), text) != known.names.end();
      if (is_name) label.named.push_back(set);
      for (std::size_t item = 0; item < known.items.size(); ++item) {
        const bool is_item = std::find(known.items[item].begin(), known.items[item].end(), text) != known.items[item].end();
        if (is_item) label.items.emplace_back(set, item);
        if (!is_name && !is_item) continue;
        // Everything that is a case of it says it too: "a man" says "person".
        label.said_as.insert(label.said_as.end(), known.items[item].begin(), known.items[item].end());
        label.said_as.insert(label.said_as.end(), known.plurals[item].begin(), known.plurals[item].end());
      }
    }
    add_phrase(label_phrases, text, labels.size(), longest);
    labels.push_back(std::move(label));
  }
}

bool FoilRules::Impl::is_irregular_plural(const std::string& word) const {
  return std::any_of(plurals.begin(), plurals.end(), [&](const auto& pair) { return pair.second == word && pair.first != word; });
}

std::string FoilRules::Impl::plural_of(const std::string& phrase) const {
  const std::size_t space = phrase.rfind(' ');
  const std::string before = space == std::string::npos ? "" : phrase.substr(0, space + 1), word = phrase.substr(before.size());
  if (const auto irregular = plurals.find(word); irregular != plurals.end()) return before + irregular->second;
  for (const auto& [one, several] : plurals) {  // "fireman", "policewoman"
    if (one.size() > 2 && several != one && (one == "man" || one == "woman") && absl::EndsWith(word, one)) return absl::StrCat(before, word.substr(0, word.size() - one.size()), several);
  }
  for (const char* hiss : {"s", "x", "z", "ch", "sh"}) {
    if (absl::EndsWith(word, hiss)) return absl::StrCat(before, word, "es");
  }
  if (word.size() > 1 && word.back() == 'y' && !is_vowel(word[word.size() - 2])) return absl::StrCat(before, word.substr(0, word.size() - 1), "ies");
  return absl::StrCat(before, word, "s");
}

const char* FoilRules::Impl::article_before(const std::string& phrase) const {
  const std::string lower = lower_case(phrase);
  const auto starts = [&](const std::vector<std::string>& words) {
    return std::any_of(words.begin(), words.end(), [&](const std::string& word) { return absl::StartsWith(lower, word) && (lower.size() == word.size() || !is_word_character(lower[word.size()])); });
  };
  if (starts(an_before)) return "an";
  if (starts(a_before)) return "a";
  if (lower[0] == '8' || absl::StartsWith(lower, "11") || absl::StartsWith(lower, "18")) return "an";
  return is_vowel(lower[0]) ? "an" : "a";
}

config::EnumNames<FoilKind> enum_names(FoilKind) {
  return {{FoilKind::kGiven, "given"}, {FoilKind::kRelation, "relation"}, {FoilKind::kAttribute, "attribute"}, {FoilKind::kNumber, "number"}, {FoilKind::kNoun, "noun"}, {FoilKind::kRole, "role"}};
}

double FoilKinds::of(FoilKind kind) const {
  switch (kind) {
    case FoilKind::kGiven: return given;
    case FoilKind::kRelation: return relation;
    case FoilKind::kAttribute: return attribute;
    case FoilKind::kNumber: return number;
    case FoilKind::kNoun: return noun;
    case FoilKind::kRole: return role;
  }
  return 0;
}

void visit_fields(config::Visitor& visitor, FoilKinds& kinds) {
  visitor("given", kinds.given, "foils that the data carry", config::kNonNegative);
  visitor("relation", kinds.relation, "the opposite relation: left of, right of", config::kNonNegative);
  visitor("attribute", kinds.attribute, "another colour, size, material, shape", config::kNonNegative);
  visitor("number", kinds.number, "another number", config::kNonNegative);
  visitor("noun", kinds.noun, "another thing", config::kNonNegative);
  visitor("role", kinds.role, "the two things around a verb or relation swapped", config::kNonNegative);
}

bool FoilOptions::makes_foils() const { return kinds.relation > 0 || kinds.attribute > 0 || kinds.number > 0 || kinds.noun > 0 || kinds.role > 0; }

void visit_fields(config::Visitor& visitor, FoilOptions& options) {
  visitor("kinds", options.kinds, "how often each kind is drawn among those that a text yields; 0: never");
  visitor("lexicon", options.lexicon, "YAML file laid over the built-in English words (src/data/foil_lexicon_english.yaml); empty: those");
  visitor("own_labels", options.own_labels, "labels of the data set are exchanged for one another as well");
}

void TrueTexts::add_text(const std::string& prepared) { texts_.insert(spaced(prepared)); }

void TrueTexts::add_said(const std::string& prepared, std::int64_t region) {
  said_.emplace_back(spaced(prepared), region);
  for (const Word& word : words_of(prepared)) words_.insert(word.lower);
}

bool TrueTexts::has_text(const std::string& text) const { return texts_.count(spaced(text)) > 0; }

bool TrueTexts::says(const std::string& phrase) const {
  if (phrase.find(' ') == std::string::npos) return words_.count(phrase) > 0;
  return std::any_of(said_.begin(), said_.end(), [&](const auto& said) { return holds(said.first, phrase); });
}

std::int64_t TrueTexts::regions_naming(const std::vector<std::string>& phrases) const {
  std::set<std::int64_t> regions;
  for (const auto& [text, region] : said_) {
    if (region < 0) continue;
    for (const std::string& phrase : phrases) {
      if (holds(text, phrase)) regions.insert(region);
    }
  }
  return static_cast<std::int64_t>(regions.size());
}

FoilRules::FoilRules(FoilOptions options, std::unique_ptr<const Impl> impl) : options_(std::move(options)), impl_(std::move(impl)) {}
FoilRules::~FoilRules() = default;

absl::StatusOr<std::shared_ptr<const FoilRules>> FoilRules::make(const FoilOptions& options, const std::vector<std::string>& labels) {
  FGVL_ASSIGN_OR_RETURN(const FoilLexicon lexicon, load_lexicon(options.lexicon));
  return std::shared_ptr<const FoilRules>(new FoilRules(options, std::make_unique<const Impl>(lexicon, labels)));
}

std::vector<Foil> FoilRules::foils(const std::string& prepared, FoilKind kind, const TrueTexts& truth) const {
  const Sentence sentence(*impl_, prepared);
  // "a plate left of a cup" and "a cup right of a plate" say the same: where somebody says the one, the other is no foil.
  const auto unless_true = [&](const std::vector<std::string>& the_same, std::vector<std::string> made) {
    return std::any_of(the_same.begin(), the_same.end(), [&](const std::string& text) { return truth.has_text(text); }) ? std::vector<std::string>() : made;
  };
  std::vector<std::string> texts;
  switch (kind) {
    case FoilKind::kGiven: break;
    case FoilKind::kRelation: texts = unless_true(role_foils(sentence), relation_foils(sentence)); break;
    case FoilKind::kAttribute: texts = attribute_foils(sentence, truth); break;
    case FoilKind::kNumber: texts = NumberFoils(sentence, truth).made(); break;
    case FoilKind::kNoun:
      add_noun_foils(sentence, truth, texts);
      add_label_foils(sentence, truth, texts);
      break;
    case FoilKind::kRole: texts = unless_true(relation_foils(sentence), role_foils(sentence)); break;
  }
  std::vector<Foil> foils;
  std::set<std::string> known = {sentence.lower};
  for (std::string& text : texts) {
    if (!known.insert(spaced(text)).second || truth.has_text(text)) continue;
    foils.push_back({std::move(text), kind});
  }
  return foils;
}

std::map<FoilKind, std::vector<Foil>> FoilRules::foils(const std::string& prepared, const TrueTexts& truth) const {
  std::map<FoilKind, std::vector<Foil>> by_kind;
  for (const FoilKind kind : kFoilKinds) {
    if (options_.kinds.of(kind) <= 0) continue;
    if (std::vector<Foil> made = foils(prepared, kind, truth); !made.empty()) by_kind.emplace(kind, std::move(made));
  }
  return by_kind;
}

std::optional<Foil> draw_foil(const std::map<FoilKind, std::vector<Foil>>& by_kind, const FoilKinds& weights, Generator& generator) {
  double total = 0;
  for (const auto& [kind, foils] : by_kind) total += foils.empty() ? 0 : weights.of(kind);
  if (total <= 0) return std::nullopt;
  double point = generator.uniform() * total;
  const std::vector<Foil>* chosen = nullptr;
  for (const auto& [kind, foils] : by_kind) {
    if (foils.empty() || weights.of(kind) <= 0) continue;
    chosen = &foils;
    if (point < weights.of(kind)) break;
    point -= weights.of(kind);
  }
  return generator.choose(*chosen);
}

}  // namespace fgvl::data
