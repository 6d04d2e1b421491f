#include "fgvl/data/foils.hpp"

#include <algorithm>
#include <cctype>
#include <iostream>
#include <map>
#include <numeric>
#include <set>
#include <thread>

#include <torch/torch.h>

#include "data/files.hpp"
#include "data/foil_lexicon.hpp"
#include "fgvl/data/datasets.hpp"
#include "fgvl/data/loader.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

namespace fgvl::data {
namespace {

using Texts = std::set<std::string>;

FoilRulesPtr rules(const FoilOptions& options = {}, const std::vector<std::string>& labels = {}) {
  const auto made = FoilRules::make(options, labels);
  INFO(made.status());
  REQUIRE(made.ok());
  return *made;
}

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

TextPipelinePtr pipeline(const std::vector<std::string>& texts) {
  TextOptions options;
  options.masking.probability = 0;
  return std::make_shared<TextPipeline>(make_tokenizer(WordPieceOptions{}, build_vocabulary(texts)).value(), options);
}

Record kitchen() {
  Record record;
  record.key = "kitchen";
  record.image = to_tensor(test::plain_image(64, 64, 40));
  record.captions = {"a red cup left of a plate"};
  record.caption_foils = {"a red cup above a plate"};
  record.regions = {{{0, 0, 30, 30}, {"a red cup"}, "cup", {}}, {{34, 0, 64, 30}, {"a blue plate"}, "plate", {}}};
  return record;
}

TEST_CASE("foil_rules: made foils beside the data's own, none of them by default, and nothing else of a sample changes", "[foils]") {
  const auto texts = pipeline({"a red blue green cup plate left right of above two cups plates bowl"});
  SampleOptions given;
  given.foils = true;
  SampleOptions none = given, made = given;
  none.foils = false;
  made.foil_rules.kinds = {.given = 0, .relation = 1, .attribute = 1, .number = 1, .noun = 1, .role = 1};
  const FoilRulesPtr with = rules(made.foil_rules, {"cup", "plate"});
  std::map<FoilKind, int> kinds;
  for (std::uint64_t i = 0; i < 60; ++i) {
    const GeneratorKey key{.seed = 1, .sample = i, .purpose = "s"};
    const Sample a = make_sample(kitchen(), given, {}, *texts, key), b = make_sample(kitchen(), none, {}, *texts, key), c = make_sample(kitchen(), made, {}, *texts, key, with.get());
    REQUIRE((a.texts.size() == 3 && b.texts.size() == 3 && c.texts.size() == 3));
    CHECK(a.texts[0].foil == "a red cup above a plate");
    CHECK(a.texts[0].foil_kind == FoilKind::kGiven);
    for (std::size_t t = 0; t < 3; ++t) {
      CHECK(b.texts[t].foil.empty());
      CHECK((a.texts[t].text == b.texts[t].text && a.texts[t].text == c.texts[t].text));
      if (c.texts[t].foil.empty()) continue;
      ++kinds[c.texts[t].foil_kind];
      CHECK(c.texts[t].foil_kind != FoilKind::kGiven);
      // Words that the model cannot tell from others are no foil.
      CHECK(std::count(c.texts[t].foil_ids.begin(), c.texts[t].foil_ids.end(), texts->tokenizer().unknown_id()) == 0);
    }
  }
  for (const FoilKind kind : {FoilKind::kRelation, FoilKind::kAttribute, FoilKind::kNumber, FoilKind::kNoun, FoilKind::kRole}) CHECK(kinds[kind] > 0);
  CHECK_THROWS_WITH(make_sample(kitchen(), made, {}, *texts, {}), Catch::Contains("[make_sample] rules"));
}

TEST_CASE("survey: foils of words that the vocabulary lacks are counted, and together with those that are delivered they are all that the rules make", "[foils]") {
  const auto texts = pipeline({"a red blue cup plate left right of"});
  SampleOptions options;
  options.foils = true;
  options.foil_rules.kinds = {.given = 0, .relation = 1, .attribute = 1, .number = 1, .noun = 1, .role = 1};
  const FoilRulesPtr with = rules(options.foil_rules, {"cup", "plate"});
  const RecordSurvey found = survey(kitchen(), options, *texts, with.get());
  REQUIRE(found.texts.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) {
    const TextFoils& text = found.texts[i];
    INFO(text.text);
    const auto count = [](const std::map<FoilKind, std::vector<Foil>>& foils) { return std::accumulate(foils.begin(), foils.end(), std::int64_t{0}, [](std::int64_t sum, const auto& kind) { return sum + static_cast<std::int64_t>(kind.second.size()); }); };
    CHECK(text.foils_of_unknown_words > 0);
    if (i == 0) CHECK(count(text.foils) > 0);
    CHECK(count(text.foils) + text.foils_of_unknown_words == count(with->foils(text.text, true_texts(kitchen(), *texts, static_cast<std::int64_t>(i) - 1))));
  }
}

TEST_CASE("foil_rules: a flip turns made foils with their texts", "[foils]") {
  const auto texts = pipeline({"a red cup plate left right of"});
  SampleOptions options;
  options.foils = true;
  options.max_regions = 0;
  options.foil_rules.kinds = {.given = 0, .relation = 1};
  options.augment.horizontal_flip = 1;
  const Sample sample = make_sample(kitchen(), options, {}, *texts, {}, rules(options.foil_rules).get());
  REQUIRE(sample.texts.size() == 1);
  CHECK(sample.texts[0].text == "a red cup right of a plate");
  CHECK(sample.texts[0].foil == "a red cup left of a plate");
}

TEST_CASE("survey: every foil that visits deliver, and no other, with and without position tokens", "[foils]") {
  const auto words = build_vocabulary({"a red blue green cup plate left right of above two cups plates bowl"});
  TextOptions text_options;
  text_options.masking.probability = 0;
  Record record = kitchen();
  record.captions = {"a red cup left of a plate", "a red cup", "a blue plate right of a cup"};
  record.caption_foils = {"a red cup above a plate", "A red cup!", "a green plate right of a cup"};
  record.caption_phrases = {{{2, 9, {0, 0, 30, 30}}}, {}, {{2, 12, {34, 0, 64, 30}}}};
  record.regions[0].texts = {"a red cup", "a cup"};
  record.regions[0].foils = {"a red cup", "a green cup", "a blue cup", "a green cup", ""};
  record.regions.push_back({{70, 0, 90, 30}, {"a bowl"}, "bowl", {"a plate"}});  // outside
  using Delivered = std::set<std::pair<std::string, std::string>>;
  for (const bool positions : {false, true}) {
    for (const double given : {0.0, 1.0}) {
      CAPTURE(positions, given);
      const auto texts = std::make_shared<TextPipeline>(make_tokenizer(WordPieceOptions{.position_tokens = true}, words).value(), text_options);
      SampleOptions options;
      options.captions_per_image = 3;
      options.foils = true;
      options.position_tokens = positions;
      options.foil_rules.kinds = {.given = given, .relation = 1, .attribute = 1, .number = 1, .noun = 1, .role = 1};
      const FoilRulesPtr with = rules(options.foil_rules, {"cup", "plate"});
      Delivered seen, surveyed;
      for (std::uint64_t i = 0; i < 3000; ++i) {
        for (const SampleText& text : make_sample(record, options, {.size = 8}, *texts, {.seed = 1, .sample = i, .purpose = "s"}, with.get()).texts) {
          if (!text.foil.empty()) seen.emplace(text.text, config::name_of(text.foil_kind) + " " + text.foil);
        }
      }
      const RecordSurvey all = survey(record, options, *texts, with.get());
      for (const TextFoils& text : all.texts) {
        for (const auto& [kind, foils] : text.foils) {
          CHECK_FALSE(foils.empty());
          for (const Foil& foil : foils) surveyed.emplace(text.text, config::name_of(kind) + " " + foil.text);
        }
      }
      CHECK(surveyed == seen);
      CHECK(all.texts.size() == 6);
      CHECK(all.regions == 2);
      REQUIRE(all.problems.size() == 1);
      CHECK(all.problems[0].cause == "box_outside");
    }
  }
}

TEST_CASE("what a record says of a region: its own texts, those of regions that overlap it, and the captions", "[foils]") {
  const auto texts = pipeline({"a"});
  Record record = kitchen();
  record.regions.push_back({{20, 0, 40, 30}, {"a hand"}, "", {}});
  const TrueTexts cup = true_texts(record, *texts, 0), hand = true_texts(record, *texts, 2);
  CHECK((cup.says("cup") && cup.says("hand") && cup.says("left of") && !cup.says("blue")));
  CHECK((hand.says("blue") && hand.says("red")));
  for (const TrueTexts* truth : {&cup, &hand}) CHECK((truth->has_text("a blue plate") && truth->has_text("plate")));
}

/// Whole words in lower case: written apart from the library's.
std::string plain(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '\'' || c == '-') {
      result += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    } else if (!result.empty() && result.back() != ' ') {
      result += ' ';
    }
  }
  while (!result.empty() && result.back() == ' ') result.pop_back();
  return result;
}

TEST_CASE("on real annotations no foil equals a true text of its record, articles agree, and threads change nothing", "[foils]") {
  const auto shared = test::shared_dir();
  FGVL_SKIP_UNLESS(!shared.empty(), "real captions and region descriptions");
  const std::string root = (shared / "data" / "photos").string();
  const std::vector<DatasetPtr> datasets = {
    open_dataset(XvlmJsonlOptions{.file = "xvlm/regions.jsonl", .image_root = ""}, {.root = root, .split = Split::kAll}).value(),
    open_dataset(XvlmJsonlOptions{.file = "xvlm/captions.jsonl", .image_root = ""}, {.root = root, .split = Split::kAll}).value(),
    open_dataset(CocoOptions{.instances = "coco/instances.json", .captions = "coco/captions.json", .images = "images"}, {.root = root, .split = Split::kAll}).value()};
  FoilOptions options{.kinds = {.given = 0, .relation = 1, .attribute = 1, .number = 1, .noun = 1, .role = 1}};
  std::map<FoilKind, int> counts;
  for (const DatasetPtr& dataset : datasets) {
    std::vector<std::string> all = dataset->texts().value();
    const auto texts = pipeline(all);
    SampleOptions sample;
    sample.foils = true;
    sample.foil_rules = options;
    const FoilRulesPtr with = open_foil_rules(sample, *dataset, *texts).value();
    for (std::int64_t i = 0; i < dataset->size(); ++i) {
      const Record record = dataset->get(i).value();
      Texts truth;
      for (const std::string& caption : record.captions) truth.insert(plain(caption));
      for (const Region& region : record.regions) {
        for (const std::string& text : region.texts) truth.insert(plain(text));
        truth.insert(plain(region.label));
      }
      const auto check = [&](const std::string& text, std::int64_t region) {
        const auto prepared = texts->prepare(text);
        if (!prepared.ok()) return;
        for (const auto& [kind, foils] : with->foils(*prepared, true_texts(record, *texts, region))) {
          for (const Foil& foil : foils) {
            INFO(*prepared << " -> " << foil.text);
            ++counts[kind];
            CHECK(plain(foil.text) != plain(*prepared));
            CHECK(truth.count(plain(foil.text)) == 0);
            const std::string words = " " + plain(foil.text) + " ";
            for (const char* wrong : {" a orange ", " an red ", " a oval ", " a old ", " an green ", " a elephant ", " an dog ", " one men ", " one women ", " two man ", " two woman ", " a a ", " the the "}) CHECK(words.find(wrong) == std::string::npos);
          }
        }
      };
      for (const std::string& caption : record.captions) check(caption, -1);
      for (std::size_t r = 0; r < record.regions.size(); ++r) {
        for (const std::string& text : record.regions[r].texts) check(text, static_cast<std::int64_t>(r));
      }
    }
    // Two loaders, with three threads and with none.
    const auto batches = [&](std::int64_t workers) {
      const auto loader = Loader::make({{"s", dataset, 1.0, sample}}, {.size = 16}, texts, {.batch_size = 4, .workers = workers, .seed = 3, .max_skipped_fraction = 1}).value();
      std::vector<Tensor> foils;
      for (int batch = 0; batch < 4; ++batch) {
        const RegionBatch made = loader->next().value();
        foils.push_back(made.foil_ids);
        foils.push_back(made.foil_to_text);
      }
      return foils;
    };
    const std::vector<Tensor> alone = batches(0), together = batches(3);
    std::int64_t delivered = 0;
    for (std::size_t i = 0; i < alone.size(); ++i) {
      CHECK(at::equal(alone[i], together[i]));
      delivered += alone[i].size(0);
    }
    CHECK(delivered > 0);
  }
  for (const auto& [kind, count] : counts) std::cout << "foils of kind " << config::name_of(kind) << ": " << count << std::endl;
  for (const FoilKind kind : {FoilKind::kRelation, FoilKind::kAttribute, FoilKind::kNumber, FoilKind::kNoun, FoilKind::kRole}) CHECK(counts[kind] > 0);
}

}  // namespace
}  // namespace fgvl::data
