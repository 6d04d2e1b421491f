#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "fgvl/core/config_visitor.hpp"
#include "fgvl/core/random.hpp"
#include "fgvl/core/status.hpp"

namespace fgvl::data {

/// What makes a foil, a text that is false of a picture, out of a true text (the skills of VALSE, arXiv 2112.07566, and of ARO, arXiv 2210.01936).
enum class FoilKind {
  kGiven,      ///< written in the record: Record::caption_foils, Region::foils
  kRelation,   ///< "a cup left of a plate" -> "a cup right of a plate"
  kAttribute,  ///< "a red car" -> "a blue car"
  kNumber,     ///< "two dogs" -> "three dogs"
  kNoun,       ///< "a dog on a sofa" -> "a cat on a sofa"
  kRole        ///< "a dog chases a cat" -> "a cat chases a dog"
};
config::EnumNames<FoilKind> enum_names(FoilKind);
inline constexpr std::array<FoilKind, 6> kFoilKinds = {FoilKind::kGiven, FoilKind::kRelation, FoilKind::kAttribute, FoilKind::kNumber, FoilKind::kNoun, FoilKind::kRole};

/// How often a kind is drawn, relative to the other kinds that a text yields; 0: never.
struct FoilKinds {
  double given = 1.0;
  double relation = 0.0;
  double attribute = 0.0;
  double number = 0.0;
  double noun = 0.0;
  double role = 0.0;

  double of(FoilKind kind) const;
};
void visit_fields(config::Visitor& visitor, FoilKinds& kinds);

/// Which foils the texts of a stream get. The defaults make none: only what records carry is delivered.
struct FoilOptions {
  FoilKinds kinds{};
  std::string lexicon{};   ///< YAML file laid over the built-in English words (src/data/foil_lexicon_english.yaml); empty: those alone
  bool own_labels = true;  ///< the labels of the data set are a set of nouns too, which are exchanged for one another

  /// Whether a kind other than `given` is drawn.
  bool makes_foils() const;
};
void visit_fields(config::Visitor& visitor, FoilOptions& options);

/// Pairs of prepared texts: what is true of whatever the first is true of ("truck", "vehicle"). Chains are followed.
using Implications = std::vector<std::pair<std::string, std::string>>;

struct Foil {
  std::string text{};  ///< prepared, as the text that it was made from
  FoilKind kind = FoilKind::kGiven;
};

/// What is known to be true of a picture or region: what no foil may say. Texts are prepared; they are compared word by word, without regard to case and punctuation.
class TrueTexts {
 public:
  /// A text that no foil may equal.
  void add_text(const std::string& prepared);
  /// A text whose words are also true of what foils are made for: no foil may bring one of them in as its attribute or noun. `region`: which region it names, or -1.
  void add_said(const std::string& prepared, std::int64_t region = -1);

  bool has_text(const std::string& text) const;
  /// Whether `phrase` stands in an added text as whole words.
  bool says(const std::string& phrase) const;
  /// Distinct regions whose texts hold one of `phrases`.
  std::int64_t regions_naming(const std::vector<std::string>& phrases) const;

 private:
  std::unordered_set<std::string> texts_;
  std::vector<std::pair<std::string, std::int64_t>> said_;  ///< " word word ", region
  std::unordered_set<std::string> words_;
};

/// Makes texts false by rule: it exchanges words of one set of a lexicon, relations with their opposites, and the noun phrases around a verb. Immutable; all threads may share one.
/// A foil differs from its text in whole words, equals no true text, brings in no noun, attribute or number that a true text says, and keeps articles and number right; where a rule cannot
/// know that, it makes none. What no annotation mentions, no rule can know: a foil may happen to be true of a picture that is described sparsely.
class FoilRules {
 public:
  /// `labels`: prepared texts that are exchanged for one another (FoilOptions::own_labels); the 1000 most frequent ones are kept. Of two texts of which one implies the other, neither is the other's foil, and
  /// whoever says the one that is implied by another is taken to say both.
  /// InvalidArgument names file, line and key of each mistake in the lexicon.
  static absl::StatusOr<std::shared_ptr<const FoilRules>> make(const FoilOptions& options, const std::vector<std::string>& labels = {}, const Implications& implied = {});

  /// Every foil that the rules of `kind` make of a prepared text, in the order of its words and of the lexicon; none for kGiven.
  std::vector<Foil> foils(const std::string& prepared, FoilKind kind, const TrueTexts& truth) const;
  /// The same of every kind whose weight is not 0; kinds without a foil are left out.
  std::map<FoilKind, std::vector<Foil>> foils(const std::string& prepared, const TrueTexts& truth) const;

  ~FoilRules();

  struct Impl;

 private:
  FoilRules(FoilOptions options, std::unique_ptr<const Impl> impl);
  FoilOptions options_;
  std::unique_ptr<const Impl> impl_;
};
using FoilRulesPtr = std::shared_ptr<const FoilRules>;

/// A kind drawn by its weight among those that have a foil, and one of its foils, each as likely. `by_kind` holds the foils of each kind. Absent: there is none.
std::optional<Foil> draw_foil(const std::map<FoilKind, std::vector<Foil>>& by_kind, const FoilKinds& weights, Generator& generator);

}  // namespace fgvl::data
