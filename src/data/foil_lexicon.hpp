#pragma once
#include <string>
#include <utility>
#include <vector>

#include "fgvl/core/config_visitor.hpp"
#include "fgvl/core/status.hpp"

namespace fgvl::data {

/// Items that exclude one another: "couch|sofa" is one item in two words. What the fields mean stands in foil_lexicon_english.yaml.
struct WordSet {
  std::vector<std::string> words{};
  std::vector<std::string> of{};        ///< sets of nouns; empty: any noun
  std::vector<std::string> not_after{}; ///< relations only
  std::vector<std::string> known{};     ///< what `of` may name; no field of the file
};
void visit_fields(config::Visitor& visitor, WordSet& set);

struct NounSet {
  std::vector<std::string> words{};
  std::vector<std::string> names{};
  std::vector<std::string> not_with{};
  bool mass = false;
};
void visit_fields(config::Visitor& visitor, NounSet& set);

struct RoleWords {
  std::vector<std::string> verbs{}, relations{}, postures{};
};
void visit_fields(config::Visitor& visitor, RoleWords& words);

/// The words and endings by which sentences are cut and mended.
struct Grammar {
  std::vector<std::string> articles{};  ///< before a consonant and before a vowel; or none
  std::vector<std::string> determiners{}, possessives{}, singular{}, plural{}, boundaries{}, modifiers{}, conjunctions{}, auxiliaries{}, openings{}, agents{}, verb_markers{};
  std::vector<std::string> agreeing_before{}, agreeing_behind{}, singular_pronouns{}, plural_pronouns{};
  std::vector<std::string> participles{}, pasts{}, third_persons{}, genitives{}, plural_forms{}, plural_suspects{};  ///< forms of words, as has_form() reads them
  std::vector<std::pair<std::string, std::string>> copulas{}, plurals{};                                             ///< of one -> of several
  std::vector<std::pair<std::string, std::string>> plural_endings{};                                                 ///< "*y" -> "*ies"; the first that fits
  std::vector<std::string> an_before{}, a_before{}, vowels{};
};
void visit_fields(config::Visitor& visitor, Grammar& grammar);

struct FoilLexicon {
  std::vector<std::pair<std::string, WordSet>> relations{}, attributes{};
  std::vector<std::pair<std::string, NounSet>> nouns{};
  std::vector<std::string> numbers{}, fixed{};
  RoleWords roles{};
  Grammar grammar{};
};
void visit_fields(config::Visitor& visitor, FoilLexicon& lexicon);

/// Whether `word` fits one of `forms` ("*ing": this ending, "?": any one letter) and none of those that begin with "!".
bool has_form(const std::string& word, const std::vector<std::string>& forms);

/// The words of an item: "couch|sofa" -> couch, sofa.
std::vector<std::string> item_words(const std::string& item);

/// The built-in English lexicon, with the file `path` laid over it: sets are replaced or added by name (null removes one), lists are replaced. Empty: as it is.
absl::StatusOr<FoilLexicon> load_lexicon(const std::string& path);

}  // namespace fgvl::data
