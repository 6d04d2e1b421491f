// 125,000 random strings a kind, over 100,000 of them of characters that all sides know alike, written by the Python tokenizers themselves; skipped with a message where those packages are absent.
// FGVL_REFERENCE_PYTHON: an interpreter that has them (tests/reference/tokenizer_strings.py says which). FGVL_REFERENCE_STRINGS: another number of strings.
#include <cstdlib>

#include "data/files.hpp"
#include "data/tokenizer_strings.hpp"
#include "support/shared.hpp"

namespace fgvl::data {
namespace {

std::string environment(const char* name, const std::string& otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : value;
}

/// Runs the script; false where its packages are absent.
bool written(const std::string& kind, const std::filesystem::path& out, const std::string& more = "") {
  const std::string program = environment("FGVL_REFERENCE_PYTHON", "python3") + " " + FGVL_SOURCE_DIR + "/tests/reference/tokenizer_strings.py ";
  if (std::system((program + "check x >/dev/null 2>&1").c_str()) != 0) {
    std::cout << "SKIPPED: random strings of " << kind << ": the Python packages are absent (set FGVL_REFERENCE_PYTHON)" << std::endl;
    return false;
  }
  const std::string command = program + kind + " " + out.string() + " --count " + environment("FGVL_REFERENCE_STRINGS", "125000") + " " + more;
  INFO(command);
  REQUIRE(std::system(command.c_str()) == 0);
  return true;
}

TEST_CASE("wordpiece: random strings over all of Unicode get the ids of the tokenizers package", "[reference]") {
  const std::filesystem::path bert = test::shared_dir() / "text" / "bert-base-uncased-vocab.txt";
  const bool official = !test::shared_dir().empty() && std::filesystem::exists(bert);
  const std::filesystem::path out = test::fresh_folder("random_wordpiece");
  if (!written("wordpiece", out, official ? "--vocabulary " + bert.string() : "")) return;
  const TokenizerPtr tokenizer = open_tokenizer(WordPieceOptions{}, {.vocabulary = (official ? bert : out / "vocab.txt").string()}).value();
  const Comparison result = compare_strings(out / "strings.jsonl", *tokenizer, /*wordpiece=*/true);
  CHECK(result.equal > result.strings / 2);
}

TEST_CASE("byte_bpe: random strings over all of Unicode get the ids of the tokenizers package", "[reference]") {
  const std::filesystem::path out = test::fresh_folder("random_byte_bpe");
  if (!written("byte_bpe", out)) return;
  const TokenizerFiles files{.vocabulary = (out / "vocab.json").string()};
  CHECK(compare_strings(out / "strings.jsonl", *open_tokenizer(ByteBpeOptions{}, files).value(), /*wordpiece=*/false).equal > 0);
  compare_strings(out / "strings.jsonl", *open_tokenizer(ByteBpeOptions{.prefix_space = true}, files).value(), /*wordpiece=*/false, "ids_with_prefix_space");
}

TEST_CASE("clip_bpe: random strings over all of Unicode get the ids of open_clip's SimpleTokenizer", "[reference]") {
  const std::filesystem::path out = test::fresh_folder("random_clip_bpe");
  if (!written("clip_bpe", out)) return;
  const TokenizerPtr tokenizer = open_tokenizer(ClipBpeOptions{}, {.vocabulary = (out / "bpe_simple_vocab_16e6.txt.gz").string()}).value();
  CHECK(tokenizer->size() == 49408);
  compare_strings(out / "strings.jsonl", *tokenizer, /*wordpiece=*/false);
}

}  // namespace
}  // namespace fgvl::data
