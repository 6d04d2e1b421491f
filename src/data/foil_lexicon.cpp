#include "data/foil_lexicon.hpp"

#include <algorithm>
#include <set>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <c10/util/Exception.h>

#include "fgvl/core/config.hpp"

namespace fgvl::data {
namespace {

constexpr const char* kEnglish =
#include "foil_lexicon_english.inc"
    ;

/// Lower-case words with single spaces: what texts are compared by.
bool is_phrase(const std::string& text) {
  if (text.empty() || text.front() == ' ' || text.back() == ' ' || text.find("  ") != std::string::npos) return false;
  return std::none_of(text.begin(), text.end(), [](char c) { return (c >= 'A' && c <= 'Z') || c == '|' || c == ',' || c == '.'; });
}

void check_phrases(config::Visitor& visitor, const char* key, const std::vector<std::string>& phrases, bool may_be_ending = false) {
  for (const std::string& phrase : phrases) {
    const bool ending = may_be_ending && phrase.size() > 1 && phrase[0] == '*';
    visitor.check(is_phrase(ending ? phrase.substr(1) : phrase), absl::StrCat(key, ": \"", phrase, "\": expected lower-case words with single spaces between them"));
  }
}

/// At least two items, of distinct words.
void check_items(config::Visitor& visitor, const std::vector<std::string>& items) {
  visitor.check(items.size() >= 2, absl::StrCat("words: expected at least two items to exchange, got ", items.size()));
  std::set<std::string> known;
  for (const std::string& item : items) {
    for (const std::string& word : item_words(item)) {
      visitor.check(is_phrase(word), absl::StrCat("words: \"", item, "\": expected lower-case words with single spaces between them, a|b for words that mean the same"));
      visitor.check(known.insert(word).second, absl::StrCat("words: \"", word, "\" stands there twice: nothing may be exchanged for itself"));
    }
  }
}

}  // namespace

std::vector<std::string> item_words(const std::string& item) { return absl::StrSplit(item, '|'); }

void visit_fields(config::Visitor& visitor, WordSet& set) {
  visitor("words", set.words, "items that exclude one another; a|b: the same in other words");
  visitor("of", set.of, "only before a noun of these sets");
  visitor("not_after", set.not_after, "words that may not stand before it");
  check_items(visitor, set.words);
  check_phrases(visitor, "not_after", set.not_after, /*may_be_ending=*/true);
  for (const std::string& noun : set.of) {
    visitor.check(std::find(set.known.begin(), set.known.end(), noun) != set.known.end(), absl::StrCat("of: there is no set of nouns named \"", noun, "\""));
  }
}

void visit_fields(config::Visitor& visitor, NounSet& set) {
  visitor("words", set.words, "nouns that exclude one another, singular; a|b: the same in other words");
  visitor("names", set.names, "what all of them may be called as well");
  visitor("not_with", set.not_with, "words that the text must not have");
  visitor("mass", set.mass, "without plural and article");
  check_items(visitor, set.words);
  check_phrases(visitor, "names", set.names);
  check_phrases(visitor, "not_with", set.not_with);
}

void visit_fields(config::Visitor& visitor, RoleWords& words) {
  visitor("verbs", words.verbs, "plain|-s|-ing|past");
  visitor("relations", words.relations, "phrases between two noun phrases");
  visitor("postures", words.postures, "may stand before a relation");
  for (const std::string& verb : words.verbs) check_phrases(visitor, "verbs", item_words(verb));
  check_phrases(visitor, "relations", words.relations);
  check_phrases(visitor, "postures", words.postures);
}

void visit_fields(config::Visitor& visitor, Grammar& grammar) {
  for (const auto& [key, list, doc] : {std::tuple("determiners", &grammar.determiners, "start a noun phrase"), {"possessives", &grammar.possessives, "those of them that point back"}, {"singular", &grammar.singular, "determiners of one"},
                                       {"plural", &grammar.plural, "determiners of several"}, {"boundaries", &grammar.boundaries, "words at which a noun phrase ends"},
                                       {"modifiers", &grammar.modifiers, "adjectives that no set has"}, {"an_before", &grammar.an_before, "a vowel is heard"}, {"a_before", &grammar.a_before, "none is heard"}}) {
    visitor(key, *list, doc);
    check_phrases(visitor, key, *list);
  }
  visitor("copulas", grammar.copulas, "of one: of several");
  visitor("plurals", grammar.plurals, "irregular ones, singular: plural");
}

void visit_fields(config::Visitor& visitor, FoilLexicon& lexicon) {
  visitor.entries("nouns", lexicon.nouns, NounSet{}, "nouns");
  std::vector<std::string> known;
  for (const auto& [name, set] : lexicon.nouns) known.push_back(name);
  WordSet fresh;
  fresh.known = known;
  for (auto* sets : {&lexicon.relations, &lexicon.attributes}) {
    for (auto& [name, set] : *sets) set.known = known;
  }
  visitor.entries("relations", lexicon.relations, fresh, "relations and their opposites");
  visitor.entries("attributes", lexicon.attributes, fresh, "attributes");
  visitor("numbers", lexicon.numbers, "number words from one on");
  visitor("fixed", lexicon.fixed, "phrases in which nothing is changed");
  visitor("roles", lexicon.roles, "what stands between two noun phrases that are exchanged");
  visitor("grammar", lexicon.grammar, "words without content");
  check_phrases(visitor, "numbers", lexicon.numbers);
  check_phrases(visitor, "fixed", lexicon.fixed);
}

absl::StatusOr<FoilLexicon> load_lexicon(const std::string& path) {
  static const FoilLexicon english = [] {
    const auto document = config::Document::parse(kEnglish, "the built-in lexicon");
    TORCH_INTERNAL_ASSERT(document.ok(), document.status().ToString());
    const auto read = config::read(*document, FoilLexicon{});
    TORCH_INTERNAL_ASSERT(read.ok(), read.status().ToString());
    return *read;
  }();
  if (path.empty()) return english;
  FGVL_ASSIGN_OR_RETURN(const config::Document document, config::Document::load(path));
  return config::read(document, english);
}

}  // namespace fgvl::data
