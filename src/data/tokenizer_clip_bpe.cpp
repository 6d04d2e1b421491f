#include <algorithm>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <zlib.h>

#include "data/tokenizer_bpe.hpp"
#include "data/tokenizer_gpt2_words.hpp"
#include "fgvl/core/files.hpp"
#include "fgvl/data/tokenizers.hpp"

namespace fgvl::data {
namespace {

constexpr std::string_view kWordEnd = "</w>";
/// The combining iota below: no letter itself, but one to a pattern that ignores case, which therefore finds it in none of its parts. The only character that is lost so.
constexpr std::string_view kLost = "\u0345";
constexpr std::size_t kMerges = 49152 - 256 - 2;                 // of the 262,144 in the official file
constexpr std::size_t kMaxUnpackedBytes = std::size_t{64} << 20; // the official file unpacks to 3 MB

/// A character as IGNORECASE compares it with an ASCII one: the long s is an s.
std::string folded(std::string_view text, std::size_t characters) {
  std::string result;
  for (std::size_t i = 0; i < text.size() && characters > 0; --characters) {
    const UChar32 c = unicode::next(text, i);
    unicode::append(result, c == 0x17F ? 's' : c);
  }
  return result;
}

/// Bytes of the first `characters` characters.
std::size_t bytes_of(std::string_view text, std::size_t characters) {
  std::size_t i = 0;
  for (; i < text.size() && characters > 0; --characters) unicode::next(text, i);
  return i;
}

class ClipBpe final : public Tokenizer {
 public:
  ClipBpe(BpeFiles files, const SpecialIds& special, BpeMerger merger) : Tokenizer(files.tokens, special), files_(std::move(files)), merger_(std::move(merger)) {}

  std::vector<std::int64_t> ids(std::string_view text) const override {
    const std::string clean = clean_clip_text(text);
    std::vector<std::int64_t> ids;
    ids.reserve(clean.size() / 4 + 2);
    std::string_view rest = clean;
    while (!rest.empty()) {
      if (rest[0] == ' ' || rest.starts_with(kLost)) {
        rest.remove_prefix(rest[0] == ' ' ? 1 : kLost.size());
        continue;
      }
      std::size_t length = 0;
      if (rest[0] == '<') {
        for (const std::int64_t id : {cls_id(), sep_id()}) {
          const std::string& token = vocabulary()[static_cast<std::size_t>(id)];
          if (folded(rest, token.size()) != token) continue;
          length = bytes_of(rest, token.size());
          if (rest.substr(0, length) == token) {
            ids.push_back(id);
          } else {
            merger_.append(rest.substr(0, length), ids);  // found ignoring case, but not written so: a word, in the reference too
          }
          break;
        }
        if (length > 0) {
          rest.remove_prefix(length);
          continue;
        }
      }
      length = word_length(rest);
      merger_.append(rest.substr(0, length), ids);
      rest.remove_prefix(length);
    }
    return ids;
  }

  std::string decode(const std::vector<std::int64_t>& ids) const override {
    std::string text;
    for (const std::int64_t id : ids) {
      if (id == cls_id() || id == sep_id()) continue;
      const std::string& token = vocabulary()[static_cast<std::size_t>(id)];
      const bool ends = token.ends_with(kWordEnd);
      text += alphabet_to_bytes(std::string_view(token).substr(0, token.size() - (ends ? kWordEnd.size() : 0)));
      if (ends) text += ' ';
    }
    if (!text.empty() && text.back() == ' ') text.pop_back();
    return unicode::utf8(icu::UnicodeString::fromUTF8(text));  // half a character becomes U+FFFD
  }

  bool continues_word(std::int64_t previous, std::int64_t id) const override {
    const auto is_special = [&](std::int64_t one) { return one == cls_id() || one == sep_id(); };
    return !is_special(previous) && !is_special(id) && !vocabulary()[static_cast<std::size_t>(previous)].ends_with(kWordEnd);
  }

  std::vector<std::pair<std::string, std::string>> files() const override { return written_bpe_files(files_); }

 private:
  /// Of what the pattern 's|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+ matches here.
  static std::size_t word_length(std::string_view text) {
    using unicode::Kind;
    if (text[0] == '\'') {
      if (const std::size_t plain = contraction(text); plain > 0) return plain;
      if (text.starts_with("'\u017F")) return 3;  // 's with a long s: the pattern ignores case
    }
    std::size_t end = 0;
    const Kind kind = unicode::kind_of(unicode::next(text, end));
    if (kind == Kind::kNumber || kind == Kind::kSpace) return end;  // a single digit; the only white space left by cleaning is ' '
    for (std::size_t behind = end; end < text.size() && !text.substr(end).starts_with(kLost); end = behind) {
      if (unicode::kind_of(unicode::next(text, behind)) != kind) break;
    }
    return end;
  }

  BpeFiles files_;
  BpeMerger merger_;
};

absl::StatusOr<std::string> unzipped(const std::string& path, const std::string& packed) {
  const auto bad = [&](const char* what) { return absl::DataLossError(absl::StrCat(path, ": ", what)); };
  z_stream stream{};
  if (inflateInit2(&stream, 16 + MAX_WBITS) != Z_OK) return absl::InternalError("zlib cannot start");
  std::string text;
  std::string part(std::size_t{1} << 16, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  int state = Z_OK;
  while (state == Z_OK && text.size() <= kMaxUnpackedBytes) {
    stream.next_out = reinterpret_cast<Bytef*>(part.data());
    stream.avail_out = static_cast<uInt>(part.size());
    state = inflate(&stream, Z_NO_FLUSH);
    text.append(part, 0, part.size() - stream.avail_out);
  }
  inflateEnd(&stream);
  if (text.size() > kMaxUnpackedBytes) return bad("unpacks to more than 64 MB, which is no CLIP vocabulary");
  if (state != Z_STREAM_END) return bad("damaged or cut gzip file");
  return text;
}

/// bpe_simple_vocab_16e6.txt: a line that names it, then merges, of which CLIP uses the first 48,894.
absl::StatusOr<BpeFiles> read_simple_vocabulary(const std::string& path) {
  FGVL_ASSIGN_OR_RETURN(std::string text, read_file(path));
  if (text.starts_with("\x1F\x8B")) {
    FGVL_ASSIGN_OR_RETURN(text, unzipped(path, text));
  }
  BpeFiles bpe;
  for (const std::string_view ending : {std::string_view(), kWordEnd}) {
    for (const auto& [byte, character] : byte_alphabet()) bpe.tokens.push_back(character + std::string(ending));
  }
  std::size_t number = 0;
  for (std::string line : std::vector<std::string>(absl::StrSplit(text, '\n'))) {
    if (++number == 1) continue;
    if (bpe.merges.size() == kMerges || line.empty()) break;
    if (line.back() == '\r') line.pop_back();
    const std::pair<std::string, std::string> pair = absl::StrSplit(line, absl::MaxSplits(' ', 1));
    if (pair.first.empty() || pair.second.empty()) return absl::InvalidArgumentError(absl::StrCat(path, ":", number, ": expected two symbols with a space between, got \"", line, "\""));
    bpe.merges.push_back(pair);
    bpe.tokens.push_back(pair.first + pair.second);
  }
  bpe.tokens.emplace_back("<start_of_text>");
  bpe.tokens.emplace_back("<end_of_text>");
  return bpe;
}

}  // namespace

absl::StatusOr<TokenizerPtr> open_tokenizer(const ClipBpeOptions&, const TokenizerFiles& files) {
  if (files.vocabulary.empty()) return absl::InvalidArgumentError("vocabulary: bpe_simple_vocab_16e6.txt.gz or a vocab.json is needed for clip_bpe");
  BpeFiles bpe;
  if (files.vocabulary.ends_with(".json")) {
    FGVL_ASSIGN_OR_RETURN(bpe, read_bpe_files(files));
  } else if (!files.merges.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(files.vocabulary, ": merges go with a vocab.json; this file holds its own"));
  } else {
    FGVL_ASSIGN_OR_RETURN(bpe, read_simple_vocabulary(files.vocabulary));
  }
  const auto id = [&](std::string_view one, std::string_view other) {
    const auto found = std::find_if(bpe.tokens.begin(), bpe.tokens.end(), [&](const std::string& token) { return token == one || token == other; });
    return found == bpe.tokens.end() ? std::int64_t{-1} : static_cast<std::int64_t>(found - bpe.tokens.begin());
  };
  // open_clip's names, and Hugging Face's.
  const SpecialIds special{.pad = 0, .unknown = -1, .cls = id("<start_of_text>", "<|startoftext|>"), .sep = id("<end_of_text>", "<|endoftext|>"), .mask = -1};
  if (special.cls < 0 || special.sep < 0) return absl::InvalidArgumentError(absl::StrCat(files.vocabulary, ": the tokens that start and end a text (<start_of_text>, <end_of_text>) are missing"));
  absl::StatusOr<BpeMerger> merger = BpeMerger::make(bpe, kWordEnd);
  if (!merger.ok()) return annotate(merger.status(), files.vocabulary);
  return std::make_shared<ClipBpe>(std::move(bpe), special, *std::move(merger));
}

}  // namespace fgvl::data
