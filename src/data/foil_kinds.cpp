#include "data/foil_kinds.hpp"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

namespace fgvl::data::foil {
namespace {

constexpr std::int64_t kNumberDistance = 2;  // another number is at most this far away: the ones that are hard to tell

/// Whether one of `phrases`, or what implies one, is said in the text itself or of the picture.
bool is_said(const std::vector<std::string>& phrases, const Sentence& sentence, const TrueTexts& truth) {
  const auto said = [&](const std::string& phrase) { return sentence.says(phrase) || truth.says(phrase); };
  return std::any_of(phrases.begin(), phrases.end(), [&](const std::string& phrase) {
    const auto cases = sentence.rules.implied_by.find(phrase);
    return said(phrase) || (cases != sentence.rules.implied_by.end() && std::any_of(cases->second.begin(), cases->second.end(), said));
  });
}

std::vector<std::string> other_relations(const Sentence& sentence) {
  std::vector<std::string> foils;
  const Rules& rules = sentence.rules;
  for (std::size_t i = 0, length = 1; i < sentence.words.size(); i += length) {
    const auto match = sentence.longest_match(i, rules.relation_phrases);
    length = std::max<std::size_t>(1, match.length);
    if (match.length == 0 || i == 0 || !sentence.words[i].joined || sentence.any_fixed(i, length) || !sentence.starts_noun_phrase(i + length)) continue;
    for (const ItemEntry& entry : *match.entries) {
      const Items& set = rules.relations[entry.set];
      if (has_form(sentence.at(i - 1), set.not_after) || !sentence.is_of(i + length, set.of)) continue;
      for (std::size_t other = 0; other < set.items.size(); ++other) {
        if (other != entry.item) foils.push_back(sentence.edited({{i, length, set.items[other].front()}}));
      }
    }
  }
  return foils;
}

std::vector<std::string> other_attributes(const Sentence& sentence, const TrueTexts& truth) {
  std::vector<std::string> foils;
  const Rules& rules = sentence.rules;
  for (std::size_t i = 0, length = 1; i < sentence.words.size(); i += length) {
    const auto match = sentence.longest_match(i, rules.attribute_phrases);
    length = std::max<std::size_t>(1, match.length);
    if (match.length == 0 || sentence.any_fixed(i, length)) continue;
    const std::size_t next = i + length;
    const bool goes_on = sentence.is_joined(next);
    // "a red sits": a word that ends like a verb shows that the attribute was a noun.
    const auto is_verb_like = [&](std::size_t j) { return has_form(sentence.at(j), rules.grammar.third_persons) && !sentence.is_noun(j) && sentence.number_before(i) == Number::kSingular; };
    const bool before_noun = goes_on && sentence.is_content(next) && !sentence.is_participle(next) && !is_verb_like(next);
    const bool coordinated = goes_on && rules.conjunctions.count(sentence.at(next)) > 0 && sentence.is_joined(next + 1) && sentence.longest_match(next + 1, rules.attribute_phrases).length > 0;
    const bool behind_copula = i > 0 && sentence.words[i].joined && (rules.copulas.count(sentence.at(i - 1)) > 0 || rules.plural_copulas.count(sentence.at(i - 1)) > 0) && (!goes_on || !sentence.is_content(next));
    for (const ItemEntry& entry : *match.entries) {
      const Items& set = rules.attributes[entry.set];
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
  const Rules& rules = sentence.rules;
  if (behind >= sentence.words.size() || !sentence.words[behind].joined) return std::vector<Edit>{};
  const std::string& word = sentence.at(behind);
  for (const auto& [one, several] : rules.copulas) {
    if (word == (to_plural ? one : several)) return std::vector<Edit>{{behind, 1, to_plural ? several : one}};
    if (word == one || word == several) return std::nullopt;
  }
  if (rules.agreeing_behind.count(word) > 0) return std::nullopt;
  const auto relation = sentence.longest_match(behind, rules.role_phrases);
  const bool is_relation = relation.length > 0 && relation.entries->front() == Form::kPhrase;  // "left of"
  if (is_relation || rules.boundaries.count(word) > 0 || sentence.is_participle(behind)) return std::vector<Edit>{};
  return std::nullopt;
}

class NumberFoils {
 public:
  NumberFoils(const Sentence& sentence, const TrueTexts& truth) : sentence_(sentence), truth_(truth), rules_(sentence.rules) {}

  std::vector<std::string> made() {
    for (std::size_t i = 0; i < sentence_.words.size(); ++i) {
      if (sentence_.is_fixed[i] || !sentence_.is_joined(i + 1)) continue;
      const bool article = rules_.articles.count(sentence_.at(i)) > 0;
      const std::int64_t number = article ? 1 : sentence_.number_at(i);
      if (number == 0) continue;
      const bool after_determiner = i > 0 && sentence_.words[i].joined && (rules_.determiners.count(sentence_.at(i - 1)) > 0 || sentence_.is_number(i - 1));
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
    const auto match = sentence_.longest_match(*head, rules_.noun_phrases);
    if (sentence_.any_fixed(i, *head + match.length - i)) return std::nullopt;
    for (std::size_t j = i + 1; j < *head; ++j) {
      if (sentence_.is_participle(j)) return std::nullopt;  // "one sitting on chairs"
    }
    return std::pair(*head, match);
  }

  std::string written(std::int64_t number, std::size_t like) const {
    return std::isdigit(static_cast<unsigned char>(sentence_.at(like)[0])) != 0 ? absl::StrCat(number) : rules_.numbers[static_cast<std::size_t>(number) - 1];
  }
  bool is_number_said(std::int64_t number) const { return truth_.says(rules_.numbers[static_cast<std::size_t>(number) - 1]) || truth_.says(absl::StrCat(number)); }

  std::vector<std::string> forms(const NounEntry& entry) const {
    std::vector<std::string> all = rules_.nouns[entry.set].items[entry.item];
    const auto& plurals = rules_.nouns[entry.set].plurals[entry.item];
    all.insert(all.end(), plurals.begin(), plurals.end());
    return all;
  }

  /// The noun at `place` in the other number; empty where it has none.
  std::string in_other_number(std::size_t place, const Match<NounEntry>& match, bool to_plural) const {
    const NounEntry& entry = match.entries->front();
    const Nouns& set = rules_.nouns[entry.set];
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
    if (plural.empty() || !follows || (i > 0 && rules_.agreeing_before.count(sentence_.at(i - 1)) > 0)) return;
    if (sentence_.says_any(rules_.grammar.singular_pronouns)) return;  // "its" would have to be "their"
    const NounEntry& entry = head->second.entries->front();
    // "a dog" does not say that there is no second one: others must not speak of dogs, nor annotate two.
    const auto& plurals = rules_.nouns[entry.set].plurals[entry.item];
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
    const auto looks_plural = [&](std::size_t j) { return has_form(sentence_.at(j), rules_.grammar.plural_forms) || rules_.is_irregular_plural(sentence_.at(j)); };
    bool counts = head && sentence_.number_of(head->first, *head->second.entries) == Number::kPlural;
    if (!head && !sentence_.any_fixed(i, 2)) {
      for (std::size_t j = i + 1; j < sentence_.words.size() && j < i + kFurthestHead && sentence_.words[j].joined && sentence_.is_content(j) && !counts; ++j) counts = looks_plural(j);
    }
    if (!counts) return;
    const std::int64_t regions = head ? truth_.regions_naming(forms(head->second.entries->front())) : 0;
    const auto is_true = [&](std::int64_t other) { return other == regions || is_number_said(other); };
    for (std::int64_t other = std::max<std::int64_t>(2, number - kNumberDistance); other <= std::min<std::int64_t>(number + kNumberDistance, static_cast<std::int64_t>(rules_.numbers.size())); ++other) {
      if (other != number && !is_true(other)) foils_.push_back(sentence_.edited({{i, 1, written(other, i)}}));
    }
    if (!head || number - 1 > kNumberDistance || after_determiner || is_true(1) || sentence_.says_any(rules_.grammar.plural_pronouns)) return;
    if (i > 0 && rules_.plural_copulas.count(sentence_.at(i - 1)) > 0) return;  // "there are"
    const std::string singular = in_other_number(head->first, head->second, false);
    auto follows = agreement(sentence_, head->first + head->second.length, false);
    if (singular.empty() || !follows) return;
    std::vector<Edit> edits = {{i, 1, written(1, i)}, {head->first, head->second.length, singular}};
    edits.insert(edits.end(), follows->begin(), follows->end());
    foils_.push_back(sentence_.edited(std::move(edits)));
  }

  const Sentence& sentence_;
  const TrueTexts& truth_;
  const Rules& rules_;
  std::vector<std::string> foils_;
};

/// Whether the word or phrase at i is a noun on its own: not a verb behind a noun ("a man watches"), nor a part of a compound.
bool stands_alone(const Sentence& sentence, std::size_t i, std::size_t length) {
  if (sentence.any_fixed(i, length)) return false;
  if (sentence.is_joined(i + length) && sentence.is_noun(i + length)) return false;
  if (i == 0 || !sentence.words[i].joined) return true;
  if (sentence.rules.verb_markers.count(sentence.at(i - 1)) > 0) return false;
  for (std::size_t j = i; j-- > 0 && j + 4 > i;) {
    if (sentence.is_noun(j) && j + sentence.longest_match(j, sentence.rules.noun_phrases).length == i) return false;
    if (!sentence.words[j].joined) break;
  }
  return true;
}

/// Whether what bears one of `names` may bear one of `others`, because those imply it.
bool may_be(const Rules& rules, const std::vector<std::string>& names, const std::vector<std::string>& others) {
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    const auto cases = rules.implied_by.find(name);
    return cases != rules.implied_by.end() && std::any_of(others.begin(), others.end(), [&](const std::string& other) { return cases->second.count(other) > 0; });
  });
}

void add_noun_foils(const Sentence& sentence, const TrueTexts& truth, std::vector<std::string>& foils) {
  const Rules& rules = sentence.rules;
  for (std::size_t i = 0, length = 1; i < sentence.words.size(); i += length) {
    const auto match = sentence.longest_match(i, rules.noun_phrases);
    length = std::max<std::size_t>(1, match.length);
    if (match.length == 0 || !stands_alone(sentence, i, length)) continue;
    const Number number = sentence.number_of(i, *match.entries);
    if (number == Number::kUnknown) continue;
    for (const NounEntry& entry : *match.entries) {
      const Nouns& set = rules.nouns[entry.set];
      if (std::any_of(set.not_with.begin(), set.not_with.end(), [&](const std::string& word) { return sentence.says(word); }) || (set.mass && sentence.follows_article(i))) continue;
      for (std::size_t other = 0; other < set.items.size(); ++other) {
        if (other == entry.item || is_said(set.items[other], sentence, truth) || is_said(set.plurals[other], sentence, truth) || may_be(rules, set.items[entry.item], set.items[other])) continue;
        foils.push_back(sentence.edited({{i, length, (number == Number::kPlural ? set.plurals : set.items)[other].front()}}));
      }
    }
  }
}

/// Whether a thing may bear both labels: the same item, one the name of the other's set, one part of the other ("cell", "red cell"), or implied by the other.
bool are_related(const Rules& rules, const Label& a, const Label& b) {
  if (holds(absl::StrCat(" ", a.text, " "), b.text) || holds(absl::StrCat(" ", b.text, " "), a.text)) return true;
  const auto names = [](const Label& name, const Label& other) {
    return std::any_of(name.named.begin(), name.named.end(), [&](std::size_t set) {
      return std::find(other.named.begin(), other.named.end(), set) != other.named.end() || std::any_of(other.items.begin(), other.items.end(), [&](const auto& item) { return item.first == set; });
    });
  };
  const bool same = std::any_of(a.items.begin(), a.items.end(), [&](const auto& item) { return std::find(b.items.begin(), b.items.end(), item) != b.items.end(); });
  return same || names(a, b) || names(b, a) || may_be(rules, a.said_as, b.said_as) || may_be(rules, b.said_as, a.said_as);
}

void add_label_foils(const Sentence& sentence, const TrueTexts& truth, std::vector<std::string>& foils) {
  const Rules& rules = sentence.rules;
  if (rules.labels.size() < 2) return;
  const auto has_determiner = [&](const std::string& label) { return rules.determiners.count(label.substr(0, label.find(' '))) > 0; };
  for (std::size_t i = 0, length = 1; i < sentence.words.size(); i += length) {
    const auto match = sentence.longest_match(i, rules.label_phrases);
    length = std::max<std::size_t>(1, match.length);
    if (match.length == 0) continue;
    const bool is_all = i == 0 && length == sentence.words.size();
    if (!is_all && !stands_alone(sentence, i, length)) continue;
    const Label& label = rules.labels[match.entries->front()];
    for (const Label& other : rules.labels) {
      if (&other == &label || are_related(rules, label, other) || is_said(other.said_as, sentence, truth)) continue;
      if (!is_all) {
        // A word that the lexicon does not know must look like the name of one thing.
        const auto known = rules.noun_phrases.find(other.text), own = rules.noun_phrases.find(label.text);
        const bool is_one = known != rules.noun_phrases.end() ? known->second.front().singular && !known->second.front().plural && !rules.nouns[known->second.front().set].mass : !has_form(other.text, rules.grammar.plural_suspects);
        const bool was_one = own != rules.noun_phrases.end() ? own->second.front().singular && !own->second.front().plural && !rules.nouns[own->second.front().set].mass : !has_form(label.text, rules.grammar.plural_suspects);
        if (has_determiner(label.text) != has_determiner(other.text) || !is_one || !was_one) continue;
      }
      foils.push_back(sentence.edited({{i, length, other.text}}));
    }
  }
}

/// The noun phrases around the first verb or relation change places.
std::vector<std::string> swapped_roles(const Sentence& sentence) {
  const Rules& rules = sentence.rules;
  const auto& words = sentence.words;
  const std::size_t opening = sentence.longest_match(0, rules.openings).length;
  const auto left = sentence.noun_phrase(opening);
  if (!left) return {};
  std::size_t at = left->end;
  bool agrees = opening > 0;  // both must have one number
  const auto here = [&](std::size_t i) { return sentence.is_joined(i); };
  const bool copula = here(at) && rules.auxiliaries.count(sentence.at(at)) > 0;
  if (copula) ++at;
  const bool posture = here(at) && rules.postures.count(sentence.at(at)) > 0;
  agrees = agrees || copula || (posture && has_form(sentence.at(at), rules.grammar.third_persons));
  if (posture) ++at;
  if (!here(at)) return {};
  const auto match = sentence.longest_match(at, rules.role_phrases);
  if (match.length == 0 || sentence.any_fixed(at, match.length)) return {};
  const Form form = match.entries->front();
  if (posture && form != Form::kPhrase) return {};
  if (copula && (form == Form::kPlain || form == Form::kThirdPerson)) return {};
  at += match.length;
  if (form == Form::kPast && here(at) && rules.agents.count(sentence.at(at)) > 0) {
    ++at;
  } else if (form == Form::kPast && copula) {
    return {};
  }
  const auto right = here(at) ? sentence.noun_phrase(at) : std::nullopt;
  if (!right) return {};
  // "a tree branch" is no tree: what goes on behind the noun must be a participle, or no content at all.
  if (here(right->end) && sentence.is_content(right->end) && !sentence.is_participle(right->end) && !has_form(sentence.at(right->end), rules.grammar.pasts)) return {};
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

}  // namespace

std::vector<std::string> foil_texts(const Sentence& sentence, FoilKind kind, const TrueTexts& truth) {
  // "a plate left of a cup" and "a cup right of a plate" say the same: where somebody says the one, the other is no foil.
  const auto unless_true = [&](const std::vector<std::string>& the_same, std::vector<std::string> made) {
    return std::any_of(the_same.begin(), the_same.end(), [&](const std::string& text) { return truth.has_text(text); }) ? std::vector<std::string>() : made;
  };
  std::vector<std::string> texts;
  switch (kind) {
    case FoilKind::kGiven: break;
    case FoilKind::kRelation: texts = unless_true(swapped_roles(sentence), other_relations(sentence)); break;
    case FoilKind::kAttribute: texts = other_attributes(sentence, truth); break;
    case FoilKind::kNumber: texts = NumberFoils(sentence, truth).made(); break;
    case FoilKind::kNoun:
      add_noun_foils(sentence, truth, texts);
      add_label_foils(sentence, truth, texts);
      break;
    case FoilKind::kRole: texts = unless_true(other_relations(sentence), swapped_roles(sentence)); break;
  }
  return texts;
}

}  // namespace fgvl::data::foil
