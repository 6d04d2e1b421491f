#include "data/foil_sentence.hpp"

#include <map>
#include <tuple>

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>

namespace fgvl::data::foil {
namespace {

constexpr std::size_t kMostLabels = 1000;

bool is_word_character(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || (c & 0x80) != 0; }

template <class Entry>
void add_phrase(Phrases<Entry>& phrases, const std::string& phrase, Entry entry, std::size_t& longest) {
  phrases[phrase].push_back(std::move(entry));
  longest = std::max<std::size_t>(longest, static_cast<std::size_t>(std::count(phrase.begin(), phrase.end(), ' ')) + 1);
}

std::unordered_set<std::string> set_of(const std::vector<std::string>& words) { return {words.begin(), words.end()}; }

}  // namespace

std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  return lower;
}

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

std::string spaced(const std::string& text) {
  std::string result = " ";
  for (const Word& word : words_of(text)) absl::StrAppend(&result, word.lower, " ");
  return result;
}

std::string phrase_of(const std::string& text) { return std::string(absl::StripAsciiWhitespace(spaced(text))); }

bool holds(const std::string& spaced_text, const std::string& phrase) { return spaced_text.find(absl::StrCat(" ", phrase, " ")) != std::string::npos; }

Rules::Rules(const FoilLexicon& lexicon, const std::vector<std::string>& label_texts, const Implications& implied)
    : numbers(lexicon.numbers), grammar(lexicon.grammar), articles(set_of(grammar.articles)), determiners(set_of(grammar.determiners)), possessives(set_of(grammar.possessives)), singular(set_of(grammar.singular)),
      plural(set_of(grammar.plural)), boundaries(set_of(grammar.boundaries)), modifiers(set_of(grammar.modifiers)), postures(set_of(lexicon.roles.postures)), conjunctions(set_of(grammar.conjunctions)),
      auxiliaries(set_of(grammar.auxiliaries)), agents(set_of(grammar.agents)), verb_markers(set_of(grammar.verb_markers)), agreeing_before(set_of(grammar.agreeing_before)),
      agreeing_behind(set_of(grammar.agreeing_behind)), copulas(grammar.copulas.begin(), grammar.copulas.end()), plurals(grammar.plurals.begin(), grammar.plurals.end()) {
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
  for (const std::string& phrase : grammar.openings) add_phrase(openings, phrase, true, longest);
  add_labels(label_texts);
  for (const auto& [text, also] : implied) {
    const std::vector<std::string> said_as = described(phrase_of(text)).said_as;
    implied_by[phrase_of(also)].insert(said_as.begin(), said_as.end());
  }
}

/// The most frequent ones, ties in alphabetical order.
void Rules::add_labels(const std::vector<std::string>& texts) {
  std::map<std::string, std::int64_t> counts;
  for (const std::string& text : texts) {
    const std::string key = phrase_of(text);
    if (!key.empty()) ++counts[key];
  }
  std::vector<std::pair<std::int64_t, std::string>> ranked;
  for (const auto& [label, count] : counts) ranked.emplace_back(-count, label);
  std::sort(ranked.begin(), ranked.end());
  if (ranked.size() > kMostLabels) ranked.resize(kMostLabels);
  for (const auto& [count, text] : ranked) {
    add_phrase(label_phrases, text, labels.size(), longest);
    labels.push_back(described(text));
  }
}

Label Rules::described(const std::string& text) const {
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
  return label;
}

bool Rules::is_irregular_plural(const std::string& word) const {
  return std::any_of(plurals.begin(), plurals.end(), [&](const auto& pair) { return pair.second == word && pair.first != word; });
}

std::string Rules::plural_of(const std::string& phrase) const {
  const std::size_t space = phrase.rfind(' ');
  const std::string before = space == std::string::npos ? "" : phrase.substr(0, space + 1), word = phrase.substr(before.size());
  if (const auto irregular = plurals.find(word); irregular != plurals.end()) return before + irregular->second;
  for (const auto& [one, several] : grammar.plural_endings) {
    const std::string ending = one.substr(1);
    if (absl::EndsWith(word, ending)) return absl::StrCat(before, word.substr(0, word.size() - ending.size()), several.substr(1));
  }
  return phrase;
}

const std::string& Rules::article_before(const std::string& phrase) const {
  const std::string lower = lower_case(phrase);
  const auto starts_with_word = [&](const std::vector<std::string>& words) {
    return std::any_of(words.begin(), words.end(), [&](const std::string& word) { return absl::StartsWith(lower, word) && (lower.size() == word.size() || !is_word_character(lower[word.size()])); });
  };
  const auto starts_with_vowel = [&] { return std::any_of(grammar.vowels.begin(), grammar.vowels.end(), [&](const std::string& vowel) { return absl::StartsWith(lower, vowel); }); };
  const bool is_vowel = starts_with_word(grammar.an_before) || (!starts_with_word(grammar.a_before) && starts_with_vowel());
  return grammar.articles[is_vowel ? 1 : 0];
}

}  // namespace fgvl::data::foil
