// Tokenizers on the lines of a file, one thread, beside the Python packages where an interpreter that has them is given.
//   benchmark_tokenizer TEXTS [wordpiece=VOCABULARY] [byte_bpe=VOCAB_JSON] [clip_bpe=VOCABULARY] [--python PYTHON] [--rounds 5] [--json FILE]
// Each round times ours, then the package (benchmarks/tokenizer_reference.py); the least time of all rounds counts, because other work on a machine only adds.
#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <limits>

#include <nlohmann/json.hpp>
#include <unicode/regex.h>

#include "data/tokenizer_gpt2_words.hpp"
#include "fgvl/data/tokenizers.hpp"

using namespace fgvl;
using Json = nlohmann::ordered_json;

namespace {

template <class Work>
double seconds_of(Work&& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

std::int64_t peak_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
}

Json output_of(const std::string& command) {
  std::string text;
  FILE* pipe = popen(command.c_str(), "r");
  char buffer[4096];
  while (pipe != nullptr && std::fgets(buffer, sizeof buffer, pipe) != nullptr) text += buffer;
  if (pipe == nullptr || pclose(pipe) != 0) {
    std::cerr << "failed: " << command << std::endl;
    std::exit(2);
  }
  return Json::parse(text);
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

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::pair<std::string, std::string>> kinds;
  std::string python, json_file;
  int rounds = 5;
  for (int i = 2; i < argc; ++i) {
    const std::string argument = argv[i];
    const bool has_next = i + 1 < argc;
    if (argument == "--python" && has_next) {
      python = argv[++i];
    } else if (argument == "--json" && has_next) {
      json_file = argv[++i];
    } else if (argument == "--rounds" && has_next) {
      rounds = std::atoi(argv[++i]);
    } else if (const std::size_t equals = argument.find('='); equals != std::string::npos) {
      kinds.emplace_back(argument.substr(0, equals), argument.substr(equals + 1));
    } else {
      argc = 1;
    }
  }
  if (argc < 2 || rounds < 1) return std::cerr << "usage: benchmark_tokenizer TEXTS [KIND=VOCABULARY]... [--python PYTHON] [--rounds N] [--json FILE]" << std::endl, 2;
  std::ifstream stream(argv[1]);
  std::vector<std::string> texts;
  std::size_t bytes = 0;
  for (std::string line; std::getline(stream, line); texts.push_back(line)) bytes += line.size();
  if (texts.empty()) return std::cerr << argv[1] << ": no texts" << std::endl, 3;

  const std::string script = (std::filesystem::path(FGVL_SOURCE_DIR) / "benchmarks" / "tokenizer_reference.py").string();
  Json rows = Json::array();
  for (const auto& [kind, vocabulary] : kinds) {
    const auto registry = data::builtin_tokenizers();
    const auto options = registry->options(kind);
    if (!options) return std::cerr << kind << ": no such tokenizer" << std::endl, 2;
    const auto tokenizer = options->make({.vocabulary = vocabulary});
    if (!tokenizer.ok()) return std::cerr << tokenizer.status().message() << std::endl, 3;
    const std::string merges = (std::filesystem::path(vocabulary).parent_path() / "merges.txt").string();
    double ours = std::numeric_limits<double>::infinity(), theirs = ours;
    std::size_t tokens = 0;
    Json reference;
    for (int round = 0; round < rounds; ++round) {
      for (int pass = 0; pass < 4; ++pass) {
        tokens = 0;
        ours = std::min(ours, seconds_of([&] {
          for (const std::string& text : texts) tokens += (*tokenizer)->ids(text).size();
        }));
      }
      if (python.empty()) continue;
      const Json measured = output_of(python + " " + script + " " + kind + " " + argv[1] + " " + vocabulary + " " + merges);
      if (measured["tokens"] != tokens) return std::cerr << kind << ": " << tokens << " tokens here, " << measured["tokens"] << " there" << std::endl, 3;
      theirs = std::min(theirs, measured["seconds"].get<double>());
      reference = {{"seconds", theirs}, {"peak_bytes", measured["peak_bytes"]}};
    }
    rows.push_back({{"case", "tokenizer." + kind},
                    {"parameters", {{"texts", texts.size()}, {"bytes", bytes}, {"tokens", tokens}, {"threads", 1}}},
                    {"ours", {{"seconds", ours}, {"peak_bytes", peak_bytes()}}},
                    {"reference", reference},
                    {"ratio", reference.is_null() ? Json() : Json(theirs / ours)}});
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
  rows.push_back({{"case", "tokenizer.gpt2_words by hand, beside ICU's regular expression"},
                  {"parameters", {{"texts", texts.size()}, {"bytes", bytes}, {"words", words}, {"threads", 1}}},
                  {"ours", {{"seconds", by_hand}, {"peak_bytes", peak_bytes()}}},
                  {"reference", {{"seconds", by_regex}, {"peak_bytes", peak_bytes()}}},
                  {"ratio", by_regex / by_hand}});
  std::cout << texts.size() << " texts, " << bytes << " bytes, one thread, least time of " << rounds << " rounds\n" << std::fixed;
  for (const Json& row : rows) {
    const double seconds = row["ours"]["seconds"];
    std::cout << std::left << std::setw(58) << row["case"].get<std::string>() << std::right << std::setprecision(0) << std::setw(10) << static_cast<double>(texts.size()) / seconds << " texts/s";
    if (!row["reference"].is_null()) {
      std::cout << std::setw(10) << static_cast<double>(texts.size()) / row["reference"]["seconds"].get<double>() << " texts/s" << std::setprecision(2) << std::setw(8) << row["ratio"].get<double>() << " x";
    }
    std::cout << "\n";
  }
  if (!json_file.empty()) std::ofstream(json_file) << rows.dump(2) << "\n";
  return 0;
}
