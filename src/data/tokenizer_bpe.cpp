#include "data/tokenizer_bpe.hpp"

#include <algorithm>
#include <filesystem>
#include <queue>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <simdjson.h>

#include "data/tokenizer_unicode.hpp"
#include "fgvl/core/files.hpp"

namespace fgvl::data {
namespace {

bool is_printable(int byte) { return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174; }

absl::StatusOr<std::vector<std::string>> read_vocabulary_json(const std::string& path) {
  FGVL_ASSIGN_OR_RETURN(const std::string text, read_file(path));
  const auto bad = [&](const std::string& what) { return absl::InvalidArgumentError(absl::StrCat(path, ": ", what)); };
  simdjson::dom::parser parser;
  simdjson::dom::object object;
  const simdjson::padded_string padded(text);
  if (const auto error = parser.parse(padded).get(object); error) return bad(absl::StrCat("expected one JSON object, token -> id: ", std::string(simdjson::error_message(error))));
  std::vector<std::string> tokens(object.size());
  std::vector<bool> taken(tokens.size(), false);
  std::size_t count = 0;
  for (const auto& [token, value] : object) {
    std::int64_t id = -1;
    if (value.get(id) || id < 0) return bad(absl::StrCat("\"", std::string(token), "\": expected an id of 0 or more"));
    if (static_cast<std::size_t>(id) >= tokens.size()) return bad(absl::StrCat("\"", std::string(token), "\": id ", id, " of ", tokens.size(), " tokens: ids must have no gap"));
    if (taken[static_cast<std::size_t>(id)]) return bad(absl::StrCat("id ", id, " is there twice: \"", tokens[static_cast<std::size_t>(id)], "\" and \"", std::string(token), "\""));
    taken[static_cast<std::size_t>(id)] = true;
    tokens[static_cast<std::size_t>(id)] = std::string(token);
    ++count;
  }
  if (count != tokens.size()) return bad("too many tokens");  // simdjson's size() saturates at 2^24
  return tokens;
}

std::string json_text(std::string_view token) {
  std::string quoted = "\"";
  for (const char c : token) {
    if (c == '"' || c == '\\') quoted += '\\';
    if (static_cast<std::uint8_t>(c) < 0x20) {
      absl::StrAppend(&quoted, "\\u00", absl::Hex(static_cast<std::uint8_t>(c), absl::kZeroPad2));
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

}  // namespace

std::vector<std::pair<std::uint8_t, std::string>> byte_alphabet() {
  std::vector<std::pair<std::uint8_t, std::string>> alphabet;
  for (const bool printable : {true, false}) {
    UChar32 next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      if (is_printable(byte) != printable) continue;
      std::string character;
      unicode::append(character, printable ? byte : next++);
      alphabet.emplace_back(static_cast<std::uint8_t>(byte), character);
    }
  }
  return alphabet;
}

std::string alphabet_to_bytes(std::string_view token) {
  static const TextMap<char> kByteOf = [] {
    TextMap<char> byte_of;
    for (const auto& [byte, character] : byte_alphabet()) byte_of[character] = static_cast<char>(byte);
    return byte_of;
  }();
  std::string bytes;
  for (std::size_t i = 0; i < token.size();) {
    const std::size_t begin = i;
    unicode::next(token, i);
    const std::string_view character = token.substr(begin, i - begin);
    const auto found = kByteOf.find(character);
    if (found == kByteOf.end()) {
      bytes += character;
    } else {
      bytes += found->second;
    }
  }
  return bytes;
}

absl::StatusOr<BpeFiles> read_bpe_files(const TokenizerFiles& files) {
  BpeFiles bpe;
  FGVL_ASSIGN_OR_RETURN(bpe.tokens, read_vocabulary_json(files.vocabulary));
  const std::string path = files.merges.empty() ? (std::filesystem::path(files.vocabulary).parent_path() / "merges.txt").string() : files.merges;
  FGVL_ASSIGN_OR_RETURN(const std::string text, read_file(path));
  std::size_t number = 0;
  for (std::string line : std::vector<std::string>(absl::StrSplit(text, '\n'))) {
    ++number;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty() || (number == 1 && line.substr(0, 9) == "#version:")) continue;
    const std::pair<std::string, std::string> pair = absl::StrSplit(line, absl::MaxSplits(' ', 1));
    if (pair.first.empty() || pair.second.empty() || pair.second.find(' ') != std::string::npos) {
      return absl::InvalidArgumentError(absl::StrCat(path, ":", number, ": expected two symbols with a space between, got \"", line, "\""));
    }
    bpe.merges.push_back(pair);
  }
  return bpe;
}

std::vector<std::pair<std::string, std::string>> written_bpe_files(const BpeFiles& bpe) {
  std::string vocabulary = "{";
  for (std::size_t id = 0; id < bpe.tokens.size(); ++id) absl::StrAppend(&vocabulary, id == 0 ? "" : ", ", json_text(bpe.tokens[id]), ": ", id);
  vocabulary += "}\n";
  std::string merges = "#version: 0.2\n";
  for (const auto& [left, right] : bpe.merges) absl::StrAppend(&merges, left, " ", right, "\n");
  return {{"vocab.json", std::move(vocabulary)}, {"merges.txt", std::move(merges)}};
}

absl::StatusOr<BpeMerger> BpeMerger::make(const BpeFiles& files, std::string_view word_end) {
  BpeMerger merger;
  TextMap<std::int32_t> id_of;
  for (std::size_t id = 0; id < files.tokens.size(); ++id) id_of[files.tokens[id]] = static_cast<std::int32_t>(id);
  for (const auto& [byte, character] : byte_alphabet()) {
    const std::string ending = character + std::string(word_end);
    for (const std::string& symbol : {character, ending}) {
      if (!id_of.contains(symbol)) return absl::InvalidArgumentError(absl::StrCat("vocabulary: \"", symbol, "\", the token of byte ", static_cast<int>(byte), ", is missing"));
    }
    merger.first_[byte] = id_of[character];
    merger.last_[byte] = id_of[ending];
  }
  for (std::size_t i = 0; i < files.merges.size(); ++i) {
    const auto& [left, right] = files.merges[i];
    for (const std::string& symbol : {left, right, left + right}) {
      if (!id_of.contains(symbol)) return absl::InvalidArgumentError(absl::StrCat("merges: \"", left, " ", right, "\" (number ", i + 1, "): \"", symbol, "\" is not in the vocabulary"));
    }
    merger.merges_.emplace(pair(id_of[left], id_of[right]), Merge{static_cast<std::int32_t>(i), id_of[left + right]});
  }
  std::vector<std::int64_t> merged;
  for (const std::string& token : files.tokens) {
    if (token.size() < word_end.size() || token.substr(token.size() - word_end.size()) != word_end) continue;
    const std::string word = alphabet_to_bytes(std::string_view(token).substr(0, token.size() - word_end.size()));
    if (word.empty()) continue;
    merged.clear();
    merger.merge(word, merged);
    if (merged.size() == 1) merger.whole_[word] = static_cast<std::int32_t>(merged[0]);
  }
  return merger;
}

void BpeMerger::append(std::string_view word, std::vector<std::int64_t>& ids) const {
  if (const auto whole = whole_.find(word); whole != whole_.end()) {
    ids.push_back(whole->second);
  } else {
    merge(word, ids);
  }
}

void BpeMerger::merge(std::string_view word, std::vector<std::int64_t>& ids) const {
  struct Symbol {
    std::int32_t id, previous, next;  // neighbours; -1: none. An id of -1 is a symbol that its left neighbour took up.
  };
  struct Candidate {
    std::int32_t rank, at, left, right;  // the pair as it was when it was found
    bool operator>(const Candidate& other) const { return rank != other.rank ? rank > other.rank : at > other.at; }
  };
  const auto count = static_cast<std::int32_t>(word.size());
  std::vector<Symbol> symbols(word.size());
  std::vector<Candidate> heap;
  const auto consider = [&](std::int32_t at) {
    const Symbol& symbol = symbols[static_cast<std::size_t>(at)];
    if (symbol.next < 0) return;
    const std::int32_t right = symbols[static_cast<std::size_t>(symbol.next)].id;
    const auto found = merges_.find(pair(symbol.id, right));
    if (found == merges_.end()) return;
    heap.push_back({found->second.rank, at, symbol.id, right});
    std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  for (std::int32_t i = 0; i < count; ++i) {
    const auto byte = static_cast<std::uint8_t>(word[static_cast<std::size_t>(i)]);
    symbols[static_cast<std::size_t>(i)] = {i + 1 == count ? last_[byte] : first_[byte], i - 1, i + 1 == count ? -1 : i + 1};
  }
  for (std::int32_t i = 0; i + 1 < count; ++i) consider(i);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const Candidate best = heap.back();
    heap.pop_back();
    Symbol& left = symbols[static_cast<std::size_t>(best.at)];
    if (left.id != best.left || left.next < 0) continue;
    Symbol& right = symbols[static_cast<std::size_t>(left.next)];
    if (right.id != best.right) continue;
    left.id = merges_.at(pair(best.left, best.right)).id;
    right.id = -1;
    left.next = right.next;
    if (left.next >= 0) symbols[static_cast<std::size_t>(left.next)].previous = best.at;
    if (left.previous >= 0) consider(left.previous);
    consider(best.at);
  }
  for (std::int32_t i = 0; i >= 0 && i < count; i = symbols[static_cast<std::size_t>(i)].next) ids.push_back(symbols[static_cast<std::size_t>(i)].id);
}

}  // namespace fgvl::data
