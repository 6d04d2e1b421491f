#include "data/foil_lexicon.hpp"

#include <algorithm>
#include <set>

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <c10/util/Exception.h>

#include "core/config_tree.hpp"
#include "fgvl/core/config.hpp"
#include "fgvl/core/files.hpp"
#include "fgvl/core/glob.hpp"

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

void check_phrases(config::Visitor& visitor, const char* key, const std::vector<std::string>& phrases) {
  for (const std::string& phrase : phrases) visitor.check(is_phrase(phrase), absl::StrCat(key, ": \"", phrase, "\": expected lower-case words with single spaces between them"));
}

void check_forms(config::Visitor& visitor, const char* key, const std::vector<std::string>& forms) {
  for (const std::string& form : forms) {
    const std::string word = form.substr(form[0] == '!' ? 1 : 0);
    visitor.check(is_phrase(word) && word.find(' ') == std::string::npos, absl::StrCat(key, ": \"", form, "\": expected a lower-case word, \"*ing\" for an ending, or \"!*ss\" for one that is left out"));
  }
}

/// Blank lines and comments alone.
bool says_nothing(const std::string& yaml) {
  const std::vector<std::string> lines = absl::StrSplit(yaml, '\n');
  return std::all_of(lines.begin(), lines.end(), [](const std::string& line) {
    const absl::string_view text = absl::StripAsciiWhitespace(line);
    return text.empty() || text[0] == '#';
  });
}

/// "*y": an ending, or "*" for all words.
bool is_ending(const std::string& text) { return absl::StartsWith(text, "*") && (text.size() == 1 || is_phrase(text.substr(1))) && text.find('*', 1) == std::string::npos; }

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

bool has_form(const std::string& word, const std::vector<std::string>& forms) {
  const auto fits = [&](const std::string& form) { return form[0] != '!' && matches_glob(form, word); };
  const auto left_out = [&](const std::string& form) { return form[0] == '!' && matches_glob(std::string_view(form).substr(1), word); };
  return std::any_of(forms.begin(), forms.end(), fits) && std::none_of(forms.begin(), forms.end(), left_out);
}

std::vector<std::string> item_words(const std::string& item) { return absl::StrSplit(item, '|'); }

void visit_fields(config::Visitor& visitor, WordSet& set) {
  visitor("words", set.words, "items that exclude one another; a|b: the same in other words");
  visitor("of", set.of, "only before a noun of these sets");
  visitor("not_after", set.not_after, "words, or forms of them, that may not stand before it");
  check_items(visitor, set.words);
  check_forms(visitor, "not_after", set.not_after);
  for (const std::string& noun : set.of) {
    const std::string near = config::nearest(noun, set.known);
    visitor.check(std::find(set.known.begin(), set.known.end(), noun) != set.known.end(),
                  absl::StrCat("of: there is no set of nouns named \"", noun, "\"", near.empty() ? "; name one of `nouns` here, or add it there (a set that was removed must go from here as well)" : absl::StrCat(" (did you mean \"", near, "\"?)")));
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
  visitor("articles", grammar.articles, "before a consonant and before a vowel; or none");
  visitor.check(grammar.articles.empty() || grammar.articles.size() == 2, absl::StrCat("articles: expected two, the one before a consonant and the one before a vowel, or none, got ", grammar.articles.size()));
  check_phrases(visitor, "articles", grammar.articles);
  for (const auto& [key, list, doc] : {std::tuple("determiners", &grammar.determiners, "start a noun phrase"), {"possessives", &grammar.possessives, "those of them that point back"}, {"singular", &grammar.singular, "determiners of one"},
                                       {"plural", &grammar.plural, "determiners of several"}, {"boundaries", &grammar.boundaries, "words at which a noun phrase ends"}, {"modifiers", &grammar.modifiers, "adjectives that no set has"},
                                       {"conjunctions", &grammar.conjunctions, "between two attributes of one noun"}, {"auxiliaries", &grammar.auxiliaries, "may stand before a role"},
                                       {"openings", &grammar.openings, "stay at the start when roles are swapped"}, {"agents", &grammar.agents, "behind a past form: who does it"},
                                       {"verb_markers", &grammar.verb_markers, "the word behind is a verb"}, {"agreeing_before", &grammar.agreeing_before, "before a noun phrase, agree with its number"},
                                       {"agreeing_behind", &grammar.agreeing_behind, "behind a noun phrase, agree with its number, or begin what does"}, {"singular_pronouns", &grammar.singular_pronouns, "point at one"},
                                       {"plural_pronouns", &grammar.plural_pronouns, "point at several"}, {"an_before", &grammar.an_before, "a vowel is heard"}, {"a_before", &grammar.a_before, "none is heard"},
                                       {"vowels", &grammar.vowels, "beginnings that are heard as vowels"}}) {
    visitor(key, *list, doc);
    check_phrases(visitor, key, *list);
  }
  for (const auto& [key, list, doc] : {std::tuple("participles", &grammar.participles, "verbs that go on behind a noun"), {"pasts", &grammar.pasts, "past forms"}, {"third_persons", &grammar.third_persons, "verbs of one"},
                                       {"genitives", &grammar.genitives, "nouns that own the next one"}, {"plural_forms", &grammar.plural_forms, "an unknown noun is a plural"},
                                       {"plural_suspects", &grammar.plural_suspects, "an unknown noun may be a plural"}}) {
    visitor(key, *list, doc);
    check_forms(visitor, key, *list);
  }
  visitor("copulas", grammar.copulas, "of one: of several");
  visitor("plurals", grammar.plurals, "irregular ones, singular: plural");
  visitor("plural_endings", grammar.plural_endings, "of all other nouns, ending of one: of several; the first that fits");
  for (const auto& [one, several] : grammar.plural_endings) {
    visitor.check(is_ending(one) && is_ending(several), absl::StrCat("plural_endings: \"", one, ": ", several, "\": expected an ending on both sides, as in \"*y\": \"*ies\""));
  }
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
  if (const absl::StatusOr<std::string> content = read_file(path); content.ok() && says_nothing(*content)) return absl::InvalidArgumentError(absl::StrCat(path, ": holds no key: write what differs from the built-in words (relations, attributes, nouns, numbers, roles, fixed, grammar), or name no lexicon"));
  FGVL_ASSIGN_OR_RETURN(const config::Document document, config::Document::load(path));
  return config::read(document, english);
}

}  // namespace fgvl::data
