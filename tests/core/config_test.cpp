#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>

#include "fgvl/core/config.hpp"
#include "fgvl/core/registry.hpp"
#include "fgvl/core/schedule.hpp"
#include "support/catch.hpp"
#include "support/folders.hpp"

namespace fgvl::config {
namespace {

enum class Colour { kRed, kBlue };
EnumNames<Colour> enum_names(Colour) { return {{Colour::kRed, "red"}, {Colour::kBlue, "blue"}}; }

struct Inner {
  double rate = 0.5;
  std::int64_t count = 3;
};
void visit_fields(Visitor& visitor, Inner& inner) {
  visitor("rate", inner.rate, "a share", kFraction);
  visitor("count", inner.count, "how many", {1, 10});
}

using Shapes = Registry<double>;
struct Options {
  bool flag = false;
  std::string name = "plain";
  Colour colour = Colour::kRed;
  std::vector<double> numbers = {0.1, 1e-300, 3.0};
  std::optional<double> maybe = 0.02;
  Inner inner{};
  std::vector<std::pair<std::string, Inner>> entries{};
  std::vector<std::pair<std::string, Inner>> parts{};
};
void visit_fields(Visitor& visitor, Options& options) {
  visitor("flag", options.flag, "");
  visitor("name", options.name, "");
  visitor("colour", options.colour, "");
  visitor("numbers", options.numbers, "");
  visitor("maybe", options.maybe, "");
  visitor("inner", options.inner, "");
  visitor.entries("entries", options.entries, Inner{}, "");
  visitor.list("parts", options.parts, Inner{}, "");
}

absl::StatusOr<Options> parsed(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  auto document = Document::parse(yaml, "run.yaml");
  if (!document.ok()) return document.status();
  const absl::Status status = document->override_with(overrides);
  if (!status.ok()) return status;
  return read<Options>(*document);
}

std::string problem(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  const auto options = parsed(yaml, overrides);
  return options.ok() ? "" : std::string(options.status().message());
}

TEST_CASE("a wrong configuration is refused with file, line, key and the nearest valid key", "[config]") {
  CHECK_THAT(problem("inner:\n  raet: 0.1\n"), Catch::Contains("run.yaml:2: inner.raet: unknown key") && Catch::Contains("did you mean \"rate\""));
  CHECK_THAT(problem("flag: true\nflag: false\n"), Catch::Contains("run.yaml:2: duplicate key \"flag\"") && Catch::Contains("run.yaml:1"));
  CHECK_THAT(problem("inner: {count: 2.5}"), Catch::Contains("inner.count: expected a whole number, got \"2.5\""));
  CHECK_THAT(problem("inner: {rate: 1.5}"), Catch::Contains("inner.rate: expected a number from 0 to 1"));
  CHECK_THAT(problem("flag: \"true\""), Catch::Contains("flag: expected true or false"));
  CHECK_THAT(problem("colour: bleu"), Catch::Contains("one of red, blue") && Catch::Contains("did you mean \"blue\""));
  CHECK_THAT(problem("inner: 3"), Catch::Contains("inner: expected a group of keys"));
  CHECK_THAT(problem("name: [1"), Catch::Contains("not valid YAML"));
  CHECK_THAT(problem("format: 2"), Catch::Contains("this build reads version 1"));
  CHECK_THAT(problem("", {"inner.coutn=3"}), Catch::Contains("argument 'inner.coutn=3': inner.coutn: unknown key (did you mean \"count\"?)"));
  CHECK_THAT(problem("", {"flag"}), Catch::Contains("expected key=value"));
  CHECK_THAT(problem("inner: {rate: .inf}"), Catch::Contains("inner.rate: expected a number from 0 to 1"));
  CHECK_THAT(problem("flag: true\n---\nflag: false\n"), Catch::Contains("run.yaml:3: a second document begins here"));
  // Aliases of aliases: a few lines that stand for a thousand million values.
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 9; ++i) {
    const std::string before = "*a" + std::to_string(i - 1), name = "a" + std::to_string(i);
    bomb += name + ": &" + name + " [" + before + ", " + before + ", " + before + ", " + before + ", " + before + ", " + before + ", " + before + ", " + before + ", " + before + ", " + before + "]\n";
  }
  CHECK_THAT(problem(bomb), Catch::Contains("more than 1000000 values"));
  // All problems at once.
  CHECK_THAT(problem("flag: 7\nnmae: x\n"), Catch::Contains("run.yaml:1: flag") && Catch::Contains("run.yaml:2: nmae"));
}

TEST_CASE("the resolved configuration reads back to the same values", "[config]") {
  const auto options = parsed("flag: true\nname: \"yes: # 'no'\"\nnumbers: [0.1, 1.0e-7, 123456789.125]\nmaybe: null\nentries: {b: {rate: 0.3}, a: {count: 7}}\n", {"inner.rate=0.25"});
  REQUIRE(options.ok());
  CHECK(options->inner.rate == 0.25);
  CHECK(options->entries.front().first == "b");
  const std::string yaml = to_yaml(*options);
  const auto again = parsed(yaml);
  INFO(yaml);
  REQUIRE(again.ok());
  CHECK(to_yaml(*again) == yaml);
  CHECK(again->numbers == options->numbers);
  CHECK(again->name == options->name);
  CHECK_FALSE(again->maybe.has_value());
  // Words that YAML readers take for something else stay the words they are.
  for (const char* word : {"Null", "NULL", "True", "on", "No", "y"}) {
    const auto named = parsed(std::string("name: \"") + word + "\"\n");
    REQUIRE(named.ok());
    CHECK(parsed(to_yaml(*named))->name == word);
  }
}

struct Scheduled {
  Schedule weight = 1.0;
};
void visit_fields(Visitor& visitor, Scheduled& options) { visitor("weight", options.weight, "of something", kNonNegative); }

absl::StatusOr<Schedule> weight_of(const std::string& yaml) {
  auto document = Document::parse("weight: " + yaml, "run.yaml");
  if (!document.ok()) return document.status();
  const absl::StatusOr<Scheduled> read_back = read<Scheduled>(*document);
  if (!read_back.ok()) return read_back.status();
  return read_back->weight;
}

struct Switchable {
  std::optional<Inner> inner{};
  std::optional<double> share{}, given = 0.5;
};
void visit_fields(Visitor& visitor, Switchable& options) {
  visitor("inner", options.inner, "a part");
  visitor("share", options.share, "of it", kFraction);
  visitor("given", options.given, "that is there");
}

TEST_CASE("the reference describes what is absent by default, key by key", "[config]") {
  CHECK(to_markdown([](Visitor& visitor) { Switchable options; visit_fields(visitor, options); }) == R"(| key | type | default | allowed | meaning |
|---|---|---|---|---|
| `inner` | optional group | `null` |  | a part |
| `inner.rate` | number | `0.5` | [0, 1] | a share |
| `inner.count` | integer | `3` | [1, 10] | how many |
| `share` | optional number | `null` | [0, 1] | of it |
| `given` | number | `0.5` |  | that is there |
)");
}

TEST_CASE("values of an enum have the names that they are written with", "[config]") {
  CHECK(name_of(Colour::kBlue) == "blue");
  CHECK(name_of(static_cast<Colour>(7)).empty());
}

TEST_CASE("a schedule is written as a number or as a map, and reads back from what is printed", "[config][schedule]") {
  const std::vector<std::pair<std::string, Schedule>> cases = {
      {"0.5", 0.5},
      {"{type: constant, value: 0.25}", 0.25},
      {"{type: linear, from: 0, to: 0.4, steps: 1000}", Schedule::linear({.from = 0, .to = 0.4, .steps = 1000})},
      {"{type: cosine, from: 1, to: 0, steps: 10, start: 5}", Schedule::cosine({.from = 1, .to = 0, .steps = 10, .start = 5})},
      {"{type: step, steps: [0, 2000], values: [0, 1]}", Schedule::step({{0, 2000}, {0, 1}})},
      {"{type: piecewise, steps: [0, 1000, 5000], values: [0, 1, 0.5]}", Schedule::piecewise({{0, 1000, 5000}, {0, 1, 0.5}})},
  };
  for (const auto& [yaml, expected] : cases) {
    CAPTURE(yaml);
    const absl::StatusOr<Schedule> parsed_weight = weight_of(yaml);
    REQUIRE(parsed_weight.ok());
    CHECK(*parsed_weight == expected);
    const std::string printed = to_yaml(Scheduled{*parsed_weight});
    INFO(printed);
    CHECK(read<Scheduled>(Document::parse(printed).value()).value().weight == expected);
  }
  // What a configuration's base says of a schedule stays where the file on top says nothing; another type, or a number, replaces it.
  const auto over = [](const std::string& assignment) {
    auto document = Document::parse("weight: {type: linear, from: 0, to: 0.4, steps: 1000}").value();
    REQUIRE(document.override_with({assignment}).ok());
    return read<Scheduled>(document).value().weight;
  };
  CHECK(over("weight.to=0.2") == Schedule::linear({.from = 0, .to = 0.2, .steps = 1000}));
  CHECK(over("weight=0.3") == Schedule(0.3));
  CHECK(over("weight={type: step, steps: [0], values: [2]}") == Schedule::step({{0}, {2}}));
  CHECK_THAT(to_markdown([](Visitor& visitor) { Scheduled options; visit_fields(visitor, options); }), Catch::Contains("| `weight` | number or schedule | `1` | >= 0 | of something |"));
}

TEST_CASE("a wrong schedule is refused with file, line, key and what was expected", "[config][schedule]") {
  const auto problem_of = [](const std::string& yaml) { return std::string(weight_of(yaml).status().message()); };
  CHECK_THAT(problem_of("fast"), Catch::Contains("run.yaml:1: weight: expected a number, got \"fast\""));
  CHECK_THAT(problem_of("-1"), Catch::Contains("weight: expected a number of at least 0"));
  CHECK_THAT(problem_of("{type: linera, to: 1, steps: 5}"), Catch::Contains("weight.type: expected one of constant, linear, cosine, step, piecewise") && Catch::Contains("did you mean \"linear\""));
  CHECK_THAT(problem_of("{from: 0, to: 1, steps: 5}"), Catch::Contains("weight: type: required"));
  CHECK_THAT(problem_of("{type: linear, from: 0, to: -1, steps: 5}"), Catch::Contains("weight.to: expected a number of at least 0"));
  CHECK_THAT(problem_of("{type: linear, from: 0, to: 1}"), Catch::Contains("weight: steps: expected how many steps the change takes"));
  CHECK_THAT(problem_of("{type: linear, form: 0, to: 1, steps: 5}"), Catch::Contains("weight.form: unknown key (did you mean \"from\"?)"));
  CHECK_THAT(problem_of("{type: step, steps: [0, 5], values: [1]}"), Catch::Contains("as many steps as values"));
  CHECK_THAT(problem_of("{type: piecewise, steps: [5, 5], values: [1, 2]}"), Catch::Contains("expected rising steps, the first 0 or later, got [5, 5]"));
  // One mistake, one message: which other keys there may be depends on the type.
  CHECK_THAT(problem_of("{type: sine, from: 0, to: 1, steps: 5}"), Catch::Contains("(did you mean \"cosine\"?)") && !Catch::Contains("required") && !Catch::Contains("unknown key"));
  CHECK_THAT(problem_of("{from: 0, to: 1, steps: [5]}"), Catch::Contains("type: required") && !Catch::Contains("unknown key"));
  CHECK_THAT(problem_of("{from: 0, untli: 1}"), Catch::Contains("untli: unknown key"));
  CHECK_THAT(problem_of("{type: piecewise, steps: [0, 1], values: [1, -2]}"), Catch::Contains("weight.values: expected a number of at least 0"));
}

TEST_CASE("a schedule holds its ends, and changes between them as its type says", "[schedule]") {
  CHECK(Schedule(0.5).at(0) == 0.5);
  CHECK(Schedule(0.5).at(1000000) == 0.5);
  const Schedule linear = Schedule::linear({.from = 0.1, .to = 0.7, .steps = 10, .start = 5});
  CHECK(linear.at(0) == 0.1);
  CHECK(linear.at(5) == 0.1);
  CHECK(linear.at(10) == Approx(0.4));
  CHECK(linear.at(15) == 0.7);  // exactly
  CHECK(linear.at(1000) == 0.7);
  const Schedule cosine = Schedule::cosine({.from = 1, .to = 0, .steps = 4});
  CHECK(cosine.at(1) == Approx(0.5 * (1 + std::cos(3.14159265358979 / 4))));
  CHECK(cosine.at(2) == Approx(0.5));
  CHECK(cosine.at(4) == 0.0);
  const Schedule step = Schedule::step({{10, 20}, {0, 2}});
  CHECK(step.at(0) == 0);
  CHECK(step.at(19) == 0);
  CHECK(step.at(20) == 2);
  const Schedule piecewise = Schedule::piecewise({{0, 10, 20}, {0, 1, 0.5}});
  CHECK(piecewise.at(5) == Approx(0.5));
  CHECK(piecewise.at(10) == 1.0);
  CHECK(piecewise.at(15) == Approx(0.75));
  CHECK(piecewise.at(21) == 0.5);
  CHECK(piecewise.min() == 0.0);
  CHECK(piecewise.max() == 1.0);
  // One after the other, as stages have them: every part counts the whole's steps, unless it is delayed.
  const Schedule sequence = Schedule::sequence({0, 100}, {1.0, Schedule::linear({.from = 0, .to = 1, .steps = 10}).delayed(100)});
  CHECK(sequence.at(99) == 1.0);
  CHECK(sequence.at(100) == 0.0);
  CHECK(sequence.at(105) == Approx(0.5));
  CHECK(sequence.at(110) == 1.0);
  CHECK(sequence.min() == 0.0);
  CHECK(Schedule::sequence({0, 5}, {linear.delayed(-5), 0.0}).max() == Approx(0.1 + 0.6 * 0.4));  // cut off in the middle
  CHECK(linear.words() == "linear from 0.1 to 0.7 over steps 5 to 15");
  CHECK(step.words() == "0 from step 10, 2 from step 20");
  CHECK_THROWS_WITH(Schedule::linear({.from = 0, .to = 1}), Catch::Contains("at least 1"));
  CHECK_THROWS_WITH(Schedule::step({{3, 2}, {0, 1}}), Catch::Contains("rising"));
}

TEST_CASE("base: is found among given files too, by its path from the file that names it", "[config]") {
  const std::map<std::string, std::string> files = {{"a/base.yaml", "name: base\ninner: {rate: 0.1, count: 5}\n"}, {"a/b/child.yaml", "base: ../base.yaml\ninner: {rate: 0.9}\n"}, {"lost.yaml", "base: nowhere.yaml\n"}};
  const auto options = read<Options>(Document::parse(files, "a/b/child.yaml").value());
  REQUIRE(options.ok());
  CHECK(options->name == "base");
  CHECK(options->inner.rate == 0.9);
  CHECK(options->inner.count == 5);
  CHECK_THAT(std::string(Document::parse(files, "lost.yaml").status().message()), Catch::Contains("lost.yaml:1") && Catch::Contains("nowhere.yaml: not among the given files"));
  CHECK_FALSE(Document::parse(files, "other.yaml").ok());
}

TEST_CASE("base: inherits from another file, merges maps, replaces the rest, and null removes an entry", "[config]") {
  const auto folder = test::fresh_folder("config");
  std::filesystem::create_directories(folder / "sub");
  std::ofstream(folder / "base.yaml") << "name: base\ninner: {rate: 0.1, count: 5}\nentries: {a: {rate: 0.2}, b: {rate: 0.3}}\n";
  std::ofstream(folder / "sub" / "child.yaml") << "base: ../base.yaml\ninner: {rate: 0.9}\nentries: {a: null}\n";
  const auto document = Document::load((folder / "sub" / "child.yaml").string());
  REQUIRE(document.ok());
  const auto options = read<Options>(*document);
  REQUIRE(options.ok());
  CHECK(options->name == "base");
  CHECK(options->inner.rate == 0.9);
  CHECK(options->inner.count == 5);
  REQUIRE(options->entries.size() == 1);
  CHECK(options->entries[0].first == "b");
  // One that nobody gave is a slip of the pen; one that is removed twice is not.
  const auto with_null = [&](const std::string& name) {
    std::ofstream(folder / "sub" / "grandchild.yaml") << "base: child.yaml\nentries: {" << name << ": null}\n";
    const auto third = Document::load((folder / "sub" / "grandchild.yaml").string());
    REQUIRE(third.ok());
    return read<Options>(*third);
  };
  REQUIRE(with_null("a").ok());
  CHECK(with_null("a")->entries.size() == 1);
  REQUIRE(with_null("b").ok());
  CHECK(with_null("b")->entries.empty());
  CHECK_THAT(std::string(with_null("bb").status().message()), Catch::Contains("grandchild.yaml:2: entries.bb: null removes nothing: there is no entry of this name (did you mean \"b\"?)"));
  const auto removed = [](const std::string& assignment, Options defaults) {
    auto file = Document::parse("entries: {a: {rate: 0.2}}");
    REQUIRE(file.ok());
    REQUIRE(file->override_with({assignment}).ok());
    return read<Options>(*file, std::move(defaults));
  };
  Options defaults;
  defaults.entries.emplace_back("own", Inner{});
  REQUIRE(removed("entries.a=null", defaults).ok());
  CHECK(removed("entries.a=null", defaults)->entries.size() == 1);
  REQUIRE(removed("entries.own=null", defaults).ok());
  CHECK(removed("entries.own=null", defaults)->entries[0].first == "a");
  CHECK_THAT(std::string(removed("entries.zz=null", defaults).status().message()), Catch::Contains("argument 'entries.zz=null': entries.zz: null removes nothing"));
  std::ofstream(folder / "loop.yaml") << "base: loop.yaml\n";
  CHECK_THAT(std::string(Document::load((folder / "loop.yaml").string()).status().message()), Catch::Contains("do they name one another"));
  std::filesystem::remove_all(folder);
}

TEST_CASE("a list of named groups keeps its order, is replaced whole, and is changed entry by entry through its names", "[config]") {
  const std::string base = "parts:\n  - {name: first, rate: 0.1, count: 2}\n  - {name: second, rate: 0.2}\n";
  const auto names = [](const Options& options) {
    std::string all;
    for (const auto& [name, part] : options.parts) all += name + " ";
    return all;
  };
  const auto of = [&](const std::string& child, const std::vector<std::string>& overrides = {}) {
    auto document = Document::parse(std::map<std::string, std::string>{{"base.yaml", base}, {"run.yaml", "base: base.yaml\n" + child}}, "run.yaml");
    REQUIRE(document.ok());
    REQUIRE(document->override_with(overrides).ok());
    return read<Options>(*document);
  };
  const auto wrong = [&](const std::string& child, const std::vector<std::string>& overrides = {}) { return std::string(of(child, overrides).status().message()); };
  REQUIRE(of("").ok());
  CHECK(names(*of("")) == "first second ");
  // The same in another order: nothing of the base's list is left.
  const auto turned = of("parts: [{name: second}, {name: first, rate: 0.4}]\n");
  REQUIRE(turned.ok());
  CHECK(names(*turned) == "second first ");
  CHECK(turned->parts[0].second.rate == 0.5);
  CHECK(turned->parts[1].second.count == 3);
  // One entry, from the command line and from a file.
  for (const auto& changed : {of("", {"parts.first.rate=0.9"}), of("parts: {first: {rate: 0.9}}\n")}) {
    REQUIRE(changed.ok());
    CHECK(names(*changed) == "first second ");
    CHECK(changed->parts[0].second.rate == 0.9);
    CHECK(changed->parts[0].second.count == 2);
  }
  CHECK(names(*of("", {"parts.first=null"})) == "second ");
  CHECK(of("", {"parts=[]"})->parts.empty());
  const std::string yaml = to_yaml(*of("", {"parts.second.count=7"}));
  CHECK_THAT(yaml, Catch::Contains("parts:\n  - name: first\n    rate: 0.1\n    count: 2\n  - name: second\n    rate: 0.2\n    count: 7\n"));
  CHECK(to_yaml(*parsed(yaml)) == yaml);
  CHECK_THAT(to_yaml(*parsed("")), Catch::Contains("parts: []\n"));

  CHECK_THAT(wrong("parts: [{name: a}, {rate: 0.1}]\n"), Catch::Contains("run.yaml:2: parts: expected a list of groups, each with a name"));
  CHECK_THAT(wrong("parts:\n  - {name: a}\n  - {name: a}\n"), Catch::Contains("run.yaml:4: parts: the name \"a\" is taken (first given at run.yaml:3)"));
  CHECK_THAT(wrong("", {"parts.frist.rate=0.9"}), Catch::Contains("argument 'parts.frist.rate=0.9': parts.frist: the list has no entry of this name (did you mean \"first\"?)"));
  CHECK_THAT(wrong("", {"parts.zz=null"}), Catch::Contains("parts.zz: the list has no entry of this name"));
  CHECK_THAT(wrong("", {"parts.first.raet=0.9"}), Catch::Contains("argument 'parts.first.raet=0.9': parts.first.raet: unknown key (did you mean \"rate\"?)"));
  CHECK_THAT(problem("parts: {a: {rate: 0.1}}\n"), Catch::Contains("run.yaml:1: parts: expected a list of groups, each with a name [{name: a, ...}, {name: b, ...}], got a group of keys"));
  CHECK_THAT(problem("parts:\n  - name: a\n    rate: 2\n"), Catch::Contains("run.yaml:3: parts.a.rate: expected a number from 0 to 1"));
}

TEST_CASE("naming another type starts from that type's defaults", "[config]") {
  auto registry = std::make_shared<Shapes>();
  registry->add<Inner>("one", [](const Inner& inner) { return inner.rate; }, Inner{0.1, 1});
  registry->add<Inner>("two", [](const Inner& inner) { return inner.rate * 2; }, Inner{0.2, 1});
  Choice<double> choice(registry, "one");
  auto document = Document::parse("shape: {type: one, options: {rate: 0.7}}");
  REQUIRE(document.ok());
  REQUIRE(document->override_with({"shape={type: two}"}).ok());
  REQUIRE(document->read([&](Visitor& visitor) { visitor("shape", choice, ""); }).ok());
  CHECK(choice.make() == Approx(0.4));
}

}  // namespace
}  // namespace fgvl::config
