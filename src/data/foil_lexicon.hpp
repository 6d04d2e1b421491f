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

struct Grammar {
  std::vector<std::string> determiners{}, possessives{}, singular{}, plural{}, boundaries{}, modifiers{}, an_before{}, a_before{};
  std::vector<std::pair<std::string, std::string>> copulas{}, plurals{};  ///< of one -> of several
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

/// The words of an item: "couch|sofa" -> couch, sofa.
std::vector<std::string> item_words(const std::string& item);

/// The built-in English lexicon, with the file `path` laid over it: sets are replaced or added by name (null removes one), lists are replaced. Empty: as it is.
absl::StatusOr<FoilLexicon> load_lexicon(const std::string& path);

}  // namespace fgvl::data
