#include <filesystem>
#include <fstream>
#include <map>

#include "fgvl/core/config.hpp"
#include "fgvl/core/registry.hpp"
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
};
void visit_fields(Visitor& visitor, Options& options) {
  visitor("flag", options.flag, "");
  visitor("name", options.name, "");
  visitor("colour", options.colour, "");
  visitor("numbers", options.numbers, "");
  visitor("maybe", options.maybe, "");
  visitor("inner", options.inner, "");
  visitor.entries("entries", options.entries, Inner{}, "");
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
  std::ofstream(folder / "loop.yaml") << "base: loop.yaml\n";
  CHECK_THAT(std::string(Document::load((folder / "loop.yaml").string()).status().message()), Catch::Contains("do they name one another"));
  std::filesystem::remove_all(folder);
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
