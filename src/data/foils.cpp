#include "fgvl/data/foils.hpp"

#include <algorithm>
#include <set>

#include "data/foil_kinds.hpp"
#include "data/foil_lexicon.hpp"
#include "data/foil_sentence.hpp"

namespace fgvl::data {

struct FoilRules::Impl : foil::Rules {
  using Rules::Rules;
};

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
  visitor.check(options.makes_foils() || options.lexicon.empty(), "lexicon: no foil is made with its words; raise kinds.relation, attribute, number, noun or role above 0");
}

void TrueTexts::add_text(const std::string& prepared) { texts_.insert(foil::spaced(prepared)); }

void TrueTexts::add_said(const std::string& prepared, std::int64_t region) {
  said_.emplace_back(foil::spaced(prepared), region);
  for (const foil::Word& word : foil::words_of(prepared)) words_.insert(word.lower);
}

bool TrueTexts::has_text(const std::string& text) const { return texts_.count(foil::spaced(text)) > 0; }

bool TrueTexts::says(const std::string& phrase) const {
  if (phrase.find(' ') == std::string::npos) return words_.count(phrase) > 0;
  return std::any_of(said_.begin(), said_.end(), [&](const auto& said) { return foil::holds(said.first, phrase); });
}

std::int64_t TrueTexts::regions_naming(const std::vector<std::string>& phrases) const {
  std::set<std::int64_t> regions;
  for (const auto& [text, region] : said_) {
    if (region < 0) continue;
    for (const std::string& phrase : phrases) {
      if (foil::holds(text, phrase)) regions.insert(region);
    }
  }
  return static_cast<std::int64_t>(regions.size());
}

FoilRules::FoilRules(FoilOptions options, std::unique_ptr<const Impl> impl) : options_(std::move(options)), impl_(std::move(impl)) {}
FoilRules::~FoilRules() = default;

absl::StatusOr<std::shared_ptr<const FoilRules>> FoilRules::make(const FoilOptions& options, const std::vector<std::string>& labels, const Implications& implied) {
  FGVL_ASSIGN_OR_RETURN(const FoilLexicon lexicon, load_lexicon(options.lexicon));
  return std::shared_ptr<const FoilRules>(new FoilRules(options, std::make_unique<const Impl>(lexicon, labels, implied)));
}

std::vector<Foil> FoilRules::foils(const std::string& prepared, FoilKind kind, const TrueTexts& truth) const {
  const foil::Sentence sentence(*impl_, prepared);
  std::vector<Foil> foils;
  std::set<std::string> known = {sentence.lower};
  for (std::string& text : foil::foil_texts(sentence, kind, truth)) {
    if (!known.insert(foil::spaced(text)).second || truth.has_text(text)) continue;
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
