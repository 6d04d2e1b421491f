#include "fgvl/data/foils.hpp"

#include <map>
#include <set>

#include "data/files.hpp"
#include "data/foil_lexicon.hpp"
#include "data/foil_rules.hpp"
#include "support/catch.hpp"

namespace fgvl::data {
namespace {

using Texts = std::set<std::string>;

Texts foils_of(const std::string& text, FoilKind kind, const TrueTexts& truth = {}, const FoilRulesPtr& with = rules()) {
  Texts found;
  for (const Foil& foil : with->foils(text, kind, truth)) {
    CHECK(foil.kind == kind);
    CHECK(found.insert(foil.text).second);
  }
  return found;
}

TrueTexts saying(const std::vector<std::string>& texts) {
  TrueTexts truth;
  for (const std::string& text : texts) {
    truth.add_text(text);
    truth.add_said(text);
  }
  return truth;
}

/// Words by which the tests' expectations are made: the first word of each item of a built-in set.
std::vector<std::string> first_words(const std::vector<std::string>& items) {
  std::vector<std::string> words;
  for (const std::string& item : items) words.push_back(item_words(item).front());
  return words;
}

std::string lexicon_file(const std::string& name, const std::string& yaml) {
  const auto path = test::fresh_folder("foils_" + name) / "lexicon.yaml";
  test::write(path, yaml);
  return path.string();
}

void check_table(FoilKind kind, const std::vector<std::pair<std::string, Texts>>& table) {
  for (const auto& [text, expected] : table) {
    INFO(text);
    CHECK(foils_of(text, kind) == expected);
  }
}

TEST_CASE("relation foils: the opposite of a whole relation that stands before a noun phrase", "[foils]") {
  check_table(FoilKind::kRelation, {
    {"a cup left of a plate", {"a cup right of a plate"}},
    {"a cup to the left of a plate", {"a cup to the right of a plate"}},
    {"a cup on the left side of a plate", {"a cup on the right side of a plate"}},
    {"a bird above the house", {"a bird below the house"}},
    {"a cat underneath the table", {"a cat above the table", "a cat on the table"}},
    {"a cat on a table", {"a cat under a table"}},
    {"a cat on top of a table", {"a cat under a table"}},
    {"a man in front of a car", {"a man behind a car"}},
    {"a man behind a car", {"a man in front of a car"}},
    {"a dog inside a house", {"a dog outside a house"}},
    {"a man in a car", {"a man outside a car"}},
    {"a woman with an umbrella", {"a woman without an umbrella"}},
    {"a woman without an umbrella", {"a woman with an umbrella"}},
    {"a cat next to a dog", {"a cat far from a dog"}},
    {"A Cup Left of a plate, on a table.", {"A Cup Right of a plate, on a table."}},
    // What must not change.
    {"a bright red square", {}},
    {"a woman on the left", {}},
    {"a woman on the right", {}},
    {"left", {}},
    {"a man in a hat", {}},
    {"a cake covered with cream", {}},
    {"a house on fire", {}},
    {"the lights are turned on", {}},
    {"a tree in front", {}},
    {"a dog inside", {}},
    {"a close up of a flower", {}},
    {"a woman dressed in white", {}},
  });
  // "right of" said the other way round is true.
  CHECK(foils_of("a cup left of a plate", FoilKind::kRelation, saying({"a plate left of a cup"})).empty());
  CHECK(foils_of("a cup left of a plate", FoilKind::kRelation, saying({"A cup right of a plate!"})).empty());
}

TEST_CASE("role foils: noun phrases change places around a verb or relation that is not its own converse", "[foils]") {
  check_table(FoilKind::kRole, {
    {"a dog chases a cat", {"a cat chases a dog"}},
    {"A dog chases a cat.", {"A cat chases a dog."}},
    {"two dogs chase three cats", {"three cats chase two dogs"}},
    {"two dogs chasing a cat", {"a cat chasing two dogs"}},
    {"a small dog is chased by an old elephant", {"an old elephant is chased by a small dog"}},
    {"a man riding a horse on a beach", {"a horse riding a man on a beach"}},
    {"a cup on a table", {"a table on a cup"}},
    {"a cup is to the left of a plate", {"a plate is to the left of a cup"}},
    {"a cat sitting under a table", {"a table sitting under a cat"}},
    {"there is a dog behind a car", {"there is a car behind a dog"}},
    {"a quokka chases a numbat", {"a numbat chases a quokka"}},
    // Grammar: a verb in a form that one of them could not have.
    {"a dog chases two cats", {}},
    {"two dogs chase a cat", {}},
    {"a dog is chasing two cats", {}},
    {"there is a dog behind two cars", {}},
    // A relation that holds both ways.
    {"a dog next to a cat", {}},
    {"a dog and a cat", {}},
    {"a dog with a cat", {}},
    // No noun phrase on one side, or one that points back.
    {"chasing a cat", {}},
    {"a woman on the left", {}},
    {"a man riding his horse", {}},
    {"a dog that chases a cat", {}},
    {"a bird perched on top of a tree branch", {}},
    {"a dog chases a dog", {}},
  });
  CHECK(foils_of("a dog chases a cat", FoilKind::kRole, saying({"a cat chases a dog"})).empty());
  CHECK(foils_of("a cup left of a plate", FoilKind::kRole, saying({"a cup right of a plate"})).empty());
}

TEST_CASE("attribute foils: another word of the same set, before a noun or behind a copula, that nobody says", "[foils]") {
  const FoilLexicon english = load_lexicon("").value();
  const auto set = [&](const std::string& name) {
    for (const auto& [known, words] : english.attributes) {
      if (known == name) return words.words;
    }
    return std::vector<std::string>{};
  };
  const auto with_colours = [&](const std::string& before, const std::string& behind, const Texts& without) {
    Texts texts;
    for (const std::string& colour : first_words(set("colours"))) {
      if (without.count(colour) > 0) continue;
      texts.insert(before + colour + behind);
    }
    return texts;
  };
  Texts cars = with_colours("the ", " car", {"red"});
  CHECK(cars.size() == 10);
  CHECK(foils_of("the red car", FoilKind::kAttribute) == cars);
  CHECK(foils_of("the crimson car", FoilKind::kAttribute) == cars);
  CHECK(foils_of("the car is red", FoilKind::kAttribute) == with_colours("the car is ", "", {"red"}));
  // Not what others say of it, in any of its words, nor what the text itself says.
  CHECK(foils_of("the red car", FoilKind::kAttribute, saying({"a turquoise car with golden wheels"})) == with_colours("the ", " car", {"red", "blue", "yellow"}));
  const Texts coordinated = foils_of("the red and white car", FoilKind::kAttribute);
  Texts expected = with_colours("the ", " and white car", {"red", "white"});
  expected.merge(with_colours("the red and ", " car", {"red", "white"}));
  CHECK(coordinated == expected);
  // Articles follow the sound.
  const Texts articles = foils_of("a red car", FoilKind::kAttribute);
  CHECK(articles.count("an orange car") == 1);
  CHECK(articles.count("a blue car") == 1);
  CHECK(foils_of("An orange car", FoilKind::kAttribute).count("A red car") == 1);
  check_table(FoilKind::kAttribute, {
    {"a small dog", {"a large dog"}},
    {"a huge dog", {"a small dog"}},
    {"a tall man", {"a short man"}},
    {"a man with long hands", {"a man with short hands"}},
    {"a young woman", {"an old woman"}},
    {"a square table", {"a round table", "a rectangular table", "a triangular table", "an oval table"}},
    // What must not change.
    {"an orange on a table", {}},
    {"a glass of wine", {}},
    {"a glass sits on a table", {}},
    {"a woman in red", {}},
    {"orange juice", {}},
    {"a black and white photo", {}},
    {"a polar bear in a redwood forest", {}},
    {"a city square", {}},
  });
  CHECK(foils_of("a glass bottle", FoilKind::kAttribute).count("a wooden bottle") == 1);
}

TEST_CASE("number foils: numbers next to the true one, singular and plural where the whole phrase allows it", "[foils]") {
  check_table(FoilKind::kNumber, {
    {"two dogs", {"three dogs", "four dogs", "one dog"}},
    {"five small dogs on a sofa", {"three small dogs on a sofa", "four small dogs on a sofa", "six small dogs on a sofa", "seven small dogs on a sofa", "five small dogs on two sofas"}},
    {"3 men", {"2 men", "4 men", "5 men", "1 man"}},
    {"twelve birds", {"ten birds", "eleven birds"}},
    {"one dog", {"two dogs", "three dogs"}},
    {"a dog", {"two dogs"}},
    {"an old woman sitting on the grass", {"two old women sitting on the grass"}},
    {"a man is riding the bus", {"two men are riding the bus"}},
    {"two men are riding the bus", {"three men are riding the bus", "four men are riding the bus", "one man is riding the bus"}},
    {"a baseball field", {"two baseball fields"}},
    {"a dog house", {"two dog houses"}},
    {"the two cats", {"the three cats", "the four cats"}},
    {"four quokkas", {"two quokkas", "three quokkas", "five quokkas", "six quokkas"}},
    // What must not change.
    {"a dog runs", {}},
    {"a dog which is wet", {}},
    {"there was a dog", {}},
    {"a cat has its head on a keyboard", {}},
    {"one of the dogs", {}},
    {"this one", {}},
    {"two tone car", {}},
    {"route 5 buses", {}},
    {"water", {}},
    {"a sheep", {}},
  });
  // "a dog" does not say that there is one only: whoever has a second one to tell of prevents it.
  CHECK(foils_of("a dog", FoilKind::kNumber, saying({"dogs in a park"})).empty());
  TrueTexts regions;
  for (int region = 0; region < 3; ++region) regions.add_said("dog", region);
  CHECK(foils_of("a dog", FoilKind::kNumber, regions).empty());
  CHECK(foils_of("two dogs", FoilKind::kNumber, regions) == Texts{"four dogs", "one dog"});
  CHECK(foils_of("two dogs", FoilKind::kNumber, saying({"four animals"})) == Texts{"three dogs", "one dog"});
}

TEST_CASE("noun foils: co-hyponyms of a lexicon in the number of the noun, none of which anybody mentions", "[foils]") {
  const auto with = rules({.lexicon = lexicon_file("nouns", "nouns: {animals: {words: [dog|puppy, cat|kitten, sheep, owl, mouse], names: [animal]}, drinks: {words: [water, beer, tea]}}\n")});
  const auto made = [&](const std::string& text, const TrueTexts& truth = {}) { return foils_of(text, FoilKind::kNoun, truth, with); };
  CHECK(made("a dog") == Texts{"a cat", "a sheep", "an owl", "a mouse"});
  CHECK(made("two puppies sleeping") == Texts{"two cats sleeping", "two sheep sleeping", "two owls sleeping", "two mice sleeping"});
  CHECK(made("a dog beside a cat") == Texts{"a sheep beside a cat", "an owl beside a cat", "a mouse beside a cat", "a dog beside a sheep", "a dog beside an owl", "a dog beside a mouse"});
  CHECK(made("a dog", saying({"some kittens and an owl"})) == Texts{"a sheep", "a mouse"});
  CHECK(made("an owl") == Texts{"a dog", "a cat", "a sheep", "a mouse"});
  CHECK(made("one sheep") == Texts{"one dog", "one cat", "one owl", "one mouse"});
  CHECK(made("three sheep") == Texts{"three dogs", "three cats", "three owls", "three mice"});
  CHECK(made("the sheep").empty());  // one, or several?
  CHECK(made("cold water") == Texts{"cold beer", "cold tea"});
  CHECK(made("a dog house").empty());
  CHECK(made("a hot dog").empty() == false);  // food, not an animal
  CHECK(made("a hot dog").count("a hot cat") == 0);
  CHECK(made("an animal").empty());
  CHECK(made("doghouse").empty());
  const auto english = [](const std::string& text) { return foils_of(text, FoilKind::kNoun); };
  CHECK(english("a man on the left") == Texts{"a woman on the left"});
  CHECK(english("a man with his hand up").count("a woman with his hand up") == 0);
  CHECK(english("a man watches").count("a woman watches") == 1);
}

TEST_CASE("noun foils from a data set's labels: the labels are exchanged, unless one may be the other", "[foils]") {
  const auto made = [](const std::string& text, const std::vector<std::string>& labels, const TrueTexts& truth = {}) { return foils_of(text, FoilKind::kNoun, truth, rules({}, labels)); };
  CHECK(made("a platelet", {"a red blood cell", "a white blood cell", "a platelet"}) == Texts{"a red blood cell", "a white blood cell"});
  CHECK(made("a red blood cell beside the rim", {"a red blood cell", "a platelet"}) == Texts{"a platelet beside the rim"});
  CHECK(made("a zorb", {"zorb", "ukulele", "oboe", "scissors", "hourglass"}) == Texts{"a ukulele", "an oboe", "an hourglass"});
  CHECK(made("zorb", {"zorb", "oboe", "scissors"}) == Texts{"oboe", "scissors"});
  // One may be the other: a part of its words, its name, the same thing.
  CHECK(made("person", {"person", "man", "cell", "red cell"}) == Texts{"cell", "red cell"});
  CHECK(made("cell", {"person", "cell", "red cell"}) == Texts{"person"});
  CHECK(made("cell", {"person", "cell", "red cell"}, saying({"two women"})).empty());
  CHECK(made("hound", {"hound", "puppy"}) == foils_of("hound", FoilKind::kNoun));
}

TEST_CASE("noun foils from a data set's labels: what one label implies is no foil of it, nor of whoever says it, and the other way round", "[foils]") {
  const std::vector<std::string> labels = {"zorb", "small zorb thing", "oboe", "dax", "truck", "big load"};
  const Implications implied = {{"zorb", "oboe"}, {"oboe", "dax"}, {"zorb", "dax"}, {"lorry", "big load"}};
  const auto with = FoilRules::make({}, labels, implied).value();
  const auto made = [&](const std::string& text, const TrueTexts& truth = {}) { return foils_of(text, FoilKind::kNoun, truth, with); };
  CHECK(made("zorb") == Texts{"truck", "big load"});
  CHECK(made("oboe") == Texts{"small zorb thing", "truck", "big load"});
  CHECK(made("dax") == Texts{"small zorb thing", "truck", "big load"});
  // The parent says nothing of a child, but may be it; a child that is said says its parents.
  CHECK(made("big load", saying({"an oboe"})) == Texts{"zorb", "small zorb thing"});
  CHECK(made("big load", saying({"a dax"})) == Texts{"zorb", "small zorb thing", "oboe"});
  CHECK(made("big load", saying({"two zorbs"})) == Texts{"small zorb thing"});
  // The lexicon's own words keep to it as well, and a lorry is its truck.
  const auto cars = FoilRules::make({}, {}, {{"van", "car"}, {"bike", "vehicle"}}).value();
  CHECK(foils_of("a car", FoilKind::kNoun, {}, cars).count("a van") == 0);
  CHECK(foils_of("a van", FoilKind::kNoun, {}, cars).count("a car") == 0);
  CHECK(foils_of("a car", FoilKind::kNoun, {}, cars).count("a bicycle") == 1);
  CHECK(made("truck").count("big load") == 0);
  CHECK(made("dax", saying({"a pickup"})) == Texts{"small zorb thing"});
}

TEST_CASE("a lexicon with mistakes is refused: file, line and key of each", "[foils]") {
  const std::string path = lexicon_file("mistakes", R"(nouns:
  animals: {words: [dog, Cat]}
  birds: {words: [owl]}
  fish: {words: [carp, trout, carp|koi]}
attributes:
  texture: {words: [smooth, rough], of: [animals, bird]}
relation: {}
grammar: {copula: {is: are}, pronouns: [it],
  articles: [the], pasts: ["a b"],
  plural_endings: {y: ies}}
)");
  const auto made = FoilRules::make({.lexicon = path});
  REQUIRE_FALSE(made.ok());
  CHECK(exit_code(made.status()) == ExitCode::kUsage);
  const std::string message(made.status().message());
  INFO(message);
  for (const char* expected : {":2: nouns.animals: words: \"Cat\"", ":3: nouns.birds: words: expected at least two items", ":4: nouns.fish: words: \"carp\" stands there twice", ":6: attributes.texture: of: there is no set of nouns named \"bird\"",
                               ":7: relation: unknown key (did you mean \"relations\"?)", ":8: grammar.copula: unknown key (did you mean \"copulas\"?)", ":8: grammar.pronouns: unknown key", ":8: grammar: articles: expected two", ":8: grammar: pasts: \"a b\": expected a lower-case word",
                               ":8: grammar: plural_endings: \"y: ies\": expected an ending on both sides"}) {
    CHECK_THAT(message, Catch::Contains(path + expected));
  }
  const auto refused = [](const std::string& yaml) { return std::string(FoilRules::make({.lexicon = lexicon_file("refused", yaml)}).status().message()); };
  CHECK_THAT(refused(""), Catch::Contains("lexicon.yaml: holds no key: write what differs"));
  CHECK_THAT(refused("# words\n\n"), Catch::Contains("holds no key"));
  CHECK_THAT(refused("attributes: {texture: {words: [smooth, rough], of: [animal]}}\n"), Catch::Contains("lexicon.yaml:1: attributes.texture: of: there is no set of nouns named \"animal\" (did you mean \"animals\"?)"));
  CHECK_THAT(refused("nouns: {animals: null}\n"), Catch::Contains("relations.support: of: there is no set of nouns named \"animals\"") && Catch::Contains("removed must go from here"));
  const auto missing = FoilRules::make({.lexicon = "/nowhere/lexicon.yaml"});
  REQUIRE_FALSE(missing.ok());
  CHECK_THAT(std::string(missing.status().message()), Catch::Contains("/nowhere/lexicon.yaml"));
}

TEST_CASE("a set that is null in a lexicon of one's own is gone, and a new one is used", "[foils]") {
  const auto with = rules({.lexicon = lexicon_file("own", "attributes: {colours: null, texture: {words: [smooth, rough]}}\n")});
  CHECK(foils_of("a red car", FoilKind::kAttribute, {}, with).empty());
  CHECK(foils_of("a rough red car", FoilKind::kAttribute, {}, with) == Texts{"a smooth red car"});
  CHECK(foils_of("a small car", FoilKind::kAttribute, {}, with) == Texts{"a large car"});
}

TEST_CASE("every word of the rules comes from the lexicon: one of another language makes foils of it", "[foils]") {
  const auto german = rules({.lexicon = lexicon_file("german", R"(relations:
  tiefe: {words: [hinter, vor]}
attributes:
  farben: {words: [rote|roter, graue, gelbe]}
nouns:
  tiere: {words: [katze, ziege, wal]}
numbers: [eins, zwei, drei]
roles: {verbs: [jagen|jagt|jagend|gejagt], relations: [hinter], postures: []}
fixed: []
grammar:
  articles: [eine, eine]
  determiners: [eine]
  singular: [eine]
  plural: []
  boundaries: [und, hinter, vor, die, da, ist, von, zu]
  conjunctions: [und]
  copulas: {ist: sind}
  auxiliaries: [ist]
  openings: [da ist]
  agents: [von]
  verb_markers: [zu]
  agreeing_before: [ist]
  agreeing_behind: [die]
  singular_pronouns: [ihr]
  plural_pronouns: [ihnen]
  plurals: {}
  plural_endings: {"*e": "*en", "*": "*e"}
)")});
  const auto made = [&](const std::string& text, FoilKind kind) { return foils_of(text, kind, {}, german); };
  CHECK(made("eine katze hinter eine ziege", FoilKind::kRelation) == Texts{"eine katze vor eine ziege"});
  CHECK(made("da ist eine katze hinter eine ziege", FoilKind::kRole) == Texts{"da ist eine ziege hinter eine katze"});
  CHECK(made("eine katze ist gejagt von eine ziege", FoilKind::kRole) == Texts{"eine ziege ist gejagt von eine katze"});
  CHECK(made("eine katze is gejagt von eine ziege", FoilKind::kRole).empty());
  CHECK(made("eine rote und graue katze", FoilKind::kAttribute) == Texts{"eine gelbe und graue katze", "eine rote und gelbe katze"});
  CHECK(made("die katze ist rote", FoilKind::kAttribute) == Texts{"die katze ist graue", "die katze ist gelbe"});
  CHECK(made("eine katze", FoilKind::kNoun) == Texts{"eine ziege", "eine wal"});
  CHECK(made("zu katze", FoilKind::kNoun).empty());
  CHECK(made("zwei wale", FoilKind::kNoun) == Texts{"zwei katzen", "zwei ziegen"});
  CHECK(made("eine katze", FoilKind::kNumber) == Texts{"zwei katzen"});
  CHECK(made("eine katze ist rote", FoilKind::kNumber) == Texts{"zwei katzen sind rote"});
  CHECK(made("zwei katzen sind rote", FoilKind::kNumber) == Texts{"drei katzen sind rote", "eins katze ist rote"});
  CHECK(made("eine katze vor its haus", FoilKind::kNumber) == Texts{"zwei katzen vor its haus"});
  for (const char* text : {"eine katze vor ihr haus", "da ist eine katze", "eine katze die jagt"}) CHECK(made(text, FoilKind::kNumber).empty());
  CHECK(made("zwei katzen vor them", FoilKind::kNumber) == Texts{"drei katzen vor them", "eins katze vor them"});
  CHECK(made("zwei katzen vor ihnen", FoilKind::kNumber) == Texts{"drei katzen vor ihnen"});
}

TEST_CASE("draw_foil: kinds by their weights among those that a text yields, then each foil as likely", "[foils]") {
  const std::map<FoilKind, std::vector<Foil>> some = {{FoilKind::kRelation, {{"r", FoilKind::kRelation}}}, {FoilKind::kNoun, {{"n1", FoilKind::kNoun}, {"n2", FoilKind::kNoun}}}, {FoilKind::kRole, {}}};
  const FoilKinds weights{.given = 1, .relation = 1, .noun = 3, .role = 5};
  std::map<std::string, int> counts;
  constexpr int kDraws = 8000;
  for (std::uint64_t i = 0; i < kDraws; ++i) {
    Generator generator({.seed = 7, .sample = i});
    ++counts[draw_foil(some, weights, generator)->text];
  }
  // 1/4, 3/8, 3/8; five standard deviations of a share of 8000 draws are 0.027.
  CHECK(counts["r"] / double(kDraws) == Approx(0.25).margin(0.027));
  CHECK(counts["n1"] / double(kDraws) == Approx(0.375).margin(0.027));
  CHECK(counts["n2"] / double(kDraws) == Approx(0.375).margin(0.027));
  Generator generator({.seed = 7});
  CHECK_FALSE(draw_foil(some, {.given = 1, .relation = 0, .number = 1, .role = 1}, generator).has_value());
}

}  // namespace
}  // namespace fgvl::data
