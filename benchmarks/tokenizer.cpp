// Tokenizers on the lines of a file, one thread, beside the Python packages where an interpreter that has them is given.
//   benchmark_tokenizer TEXTS [wordpiece=VOCABULARY] [byte_bpe=VOCAB_JSON] [clip_bpe=VOCABULARY] [--python PYTHON] [--rounds 5] [--json FILE]
// Each round times ours, then the package (benchmarks/tokenizer_reference.py); the least time of all rounds counts, because other work on a machine only adds.
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <limits>

#include <CLI/CLI.hpp>
#include <unicode/regex.h>

#include "cases.hpp"
#include "data/tokenizer_gpt2_words.hpp"
#include "fgvl/data/tokenizers.hpp"

using namespace fgvl;
using benchmark::Case;
using benchmark::Measurement;

namespace {

template <class Work>
double seconds_of(Work&& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

std::size_t words_by_regex(const std::vector<std::string>& texts, const icu::RegexPattern& pattern) {
  std::size_t words = 0;
  UErrorCode error = U_ZERO_ERROR;
  for (const std::string& text : texts) {
    const icu::UnicodeString wide = icu::UnicodeString::fromUTF8(text);
    const std::unique_ptr<icu::RegexMatcher> matcher(pattern.matcher(wide, error));
    while (matcher->find()) ++words;
  }
  return words;
}

std::size_t words_by_hand(const std::vector<std::string>& texts) {
  std::size_t words = 0;
  for (const std::string& text : texts) data::each_gpt2_word(text, [&](std::string_view) { ++words; });
  return words;
}

int run(int argc, char** argv) {
  std::vector<std::string> kinds;
  std::string text_file, python, json;
  int rounds = 5;
  CLI::App app("Tokenizers on the lines of a file, one thread, beside the Python packages");
  app.add_option("texts", text_file, "One text a line")->required();
  app.add_option("kinds", kinds, "KIND=VOCABULARY, several: wordpiece, byte_bpe, clip_bpe");
  app.add_option("--python", python, "Interpreter that has the packages; without it ours is measured alone");
  app.add_option("--rounds", rounds, "Turns of ours and the package; the least time counts")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--json", json, "File for the table's rows");
  CLI11_PARSE(app, argc, argv);
  std::ifstream stream(text_file);
  std::vector<std::string> texts;
  std::size_t bytes = 0;
  for (std::string line; std::getline(stream, line); texts.push_back(line)) bytes += line.size();
  if (texts.empty()) return std::cerr << text_file << ": no texts" << std::endl, 3;

  const std::string script = (std::filesystem::path(FGVL_SOURCE_DIR) / "benchmarks" / "tokenizer_reference.py").string();
  std::vector<Case> cases;
  for (const std::string& given : kinds) {
    const std::size_t equals = given.find('=');
    if (equals == std::string::npos) return std::cerr << given << ": expected KIND=VOCABULARY" << std::endl, 2;
    const std::string kind = given.substr(0, equals), vocabulary = given.substr(equals + 1);
    const auto registry = data::builtin_tokenizers();
    const auto options = registry->options(kind);
    if (!options) return std::cerr << kind << ": no such tokenizer" << std::endl, 2;
    const auto tokenizer = options->make({.vocabulary = vocabulary});
    if (!tokenizer.ok()) return std::cerr << tokenizer.status().message() << std::endl, 3;
    const std::string merges = (std::filesystem::path(vocabulary).parent_path() / "merges.txt").string();
    double ours = std::numeric_limits<double>::infinity(), theirs = ours;
    std::size_t tokens = 0;
    std::optional<Measurement> reference;
    for (int round = 0; round < rounds; ++round) {
      for (int pass = 0; pass < 4; ++pass) {
        tokens = 0;
        ours = std::min(ours, seconds_of([&] {
          for (const std::string& text : texts) tokens += (*tokenizer)->ids(text).size();
        }));
      }
      if (python.empty()) continue;
      const nlohmann::json measured = benchmark::last_json_of(python + " " + script + " " + kind + " " + text_file + " " + vocabulary + " " + merges);
      if (measured["tokens"] != tokens) return std::cerr << kind << ": " << tokens << " tokens here, " << measured["tokens"] << " there" << std::endl, 3;
      theirs = std::min(theirs, measured["seconds"].get<double>());
      reference = Measurement{.seconds = theirs, .peak_bytes = measured["peak_bytes"].get<std::int64_t>()};
    }
    cases.push_back({"tokenizer." + kind,
                     {{"texts", texts.size()}, {"bytes", bytes}, {"tokens", tokens}, {"threads", 1}},
                     {.seconds = ours, .peak_bytes = benchmark::peak_bytes()},
                     reference});
  }
  UErrorCode error = U_ZERO_ERROR;
  UParseError where;
  const std::unique_ptr<icu::RegexPattern> pattern(
      icu::RegexPattern::compile(icu::UnicodeString::fromUTF8("'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"), where, error));
  double by_hand = std::numeric_limits<double>::infinity(), by_regex = by_hand;
  std::size_t words = 0;
  for (int round = 0; round < rounds; ++round) {
    by_hand = std::min(by_hand, seconds_of([&] { words = words_by_hand(texts); }));
    by_regex = std::min(by_regex, seconds_of([&] {
      if (words_by_regex(texts, *pattern) != words) std::exit(3);
    }));
  }
  const std::int64_t peak = benchmark::peak_bytes();
  cases.push_back({"tokenizer.gpt2_words by hand, beside ICU's regular expression",
                   {{"texts", texts.size()}, {"bytes", bytes}, {"words", words}, {"threads", 1}},
                   {.seconds = by_hand, .peak_bytes = peak},
                   Measurement{.seconds = by_regex, .peak_bytes = peak}});
  std::cout << texts.size() << " texts, " << bytes << " bytes, one thread, least time of " << rounds << " rounds\n";
  benchmark::print_table(std::cout, cases);
  benchmark::write_json(json, cases);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    return std::cerr << error.what() << std::endl, 1;
  }
}
