#include <absl/strings/str_cat.h>

#include <algorithm>

#include "data/tokenizer_bpe.hpp"
#include "data/tokenizer_gpt2_words.hpp"
#include "fgvl/data/tokenizers.hpp"

namespace fgvl::data {
namespace {

constexpr std::array<std::string_view, 6> kSpecial = {"<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>"};

class ByteBpe final : public Tokenizer {
 public:
  ByteBpe(BpeFiles files, const SpecialIds& special, BpeMerger merger, bool prefix_space)
      : Tokenizer(files.tokens, special), files_(std::move(files)), merger_(std::move(merger)), prefix_space_(prefix_space) {
    for (std::size_t id = 0; id < vocabulary().size(); ++id) {
      if (std::find(kSpecial.begin(), kSpecial.end(), vocabulary()[id]) != kSpecial.end()) specials_.emplace_back(vocabulary()[id], static_cast<std::int64_t>(id));
    }
  }

  std::vector<std::int64_t> ids(std::string_view text) const override {
    std::vector<std::int64_t> ids;
    ids.reserve(text.size() / 4 + 2);
    std::size_t begin = 0;
    for (std::size_t i = text.find('<'); i != std::string_view::npos; i = text.find('<', i)) {
      const std::string_view rest = text.substr(i);
      const auto special = std::find_if(specials_.begin(), specials_.end(), [&](const auto& entry) { return rest.substr(0, entry.first.size()) == entry.first; });
      if (special == specials_.end()) {
        ++i;
        continue;
      }
      append(text.substr(begin, i - begin), ids);
      ids.push_back(special->second);
      begin = i += special->first.size();
    }
    append(text.substr(begin), ids);
    return ids;
  }

  std::string decode(const std::vector<std::int64_t>& ids) const override {
    std::string bytes;
    for (const std::int64_t id : ids) {
      if (!is_special(id)) bytes += alphabet_to_bytes(vocabulary()[static_cast<std::size_t>(id)]);
    }
    return unicode::utf8(icu::UnicodeString::fromUTF8(bytes));  // half a character becomes U+FFFD
  }

  /// As X-VLM's use_roberta: a token with a space before it starts a word, and so does whatever follows a special token.
  bool continues_word(std::int64_t previous, std::int64_t id) const override {
    return !is_special(id) && !is_special(previous) && vocabulary()[static_cast<std::size_t>(id)].substr(0, 2) != "\u0120";
  }

  std::vector<std::pair<std::string, std::string>> files() const override { return written_bpe_files(files_); }

 private:
  bool is_special(std::int64_t id) const {
    return std::any_of(specials_.begin(), specials_.end(), [&](const auto& entry) { return entry.second == id; });
  }
  /// A stretch without special tokens. The space before it is added as Hugging Face's tokenizers do, to each stretch.
  void append(std::string_view text, std::vector<std::int64_t>& ids) const {
    if (text.empty()) return;
    std::string spaced;
    if (prefix_space_ && text[0] != ' ') text = spaced = " " + std::string(text);
    each_gpt2_word(text, [&](std::string_view word) { merger_.append(word, ids); });
  }

  BpeFiles files_;
  BpeMerger merger_;
  std::vector<std::pair<std::string, std::int64_t>> specials_;
  bool prefix_space_ = false;
};

}  // namespace

absl::StatusOr<TokenizerPtr> open_tokenizer(const ByteBpeOptions& options, const TokenizerFiles& files) {
  if (files.vocabulary.empty()) return absl::InvalidArgumentError("vocabulary: a vocab.json is needed for byte_bpe");
  FGVL_ASSIGN_OR_RETURN(BpeFiles bpe, read_bpe_files(files));
  const auto id = [&](std::string_view token) {
    const auto found = std::find(bpe.tokens.begin(), bpe.tokens.end(), token);
    return found == bpe.tokens.end() ? std::int64_t{-1} : static_cast<std::int64_t>(found - bpe.tokens.begin());
  };
  const std::int64_t end_of_text = id("<|endoftext|>");
  SpecialIds special{.pad = id("<pad>"), .unknown = id("<unk>"), .cls = id("<s>"), .sep = id("</s>"), .mask = id("<mask>")};
  // GPT-2 has one token for everything.
  for (std::int64_t* each : {&special.pad, &special.cls, &special.sep}) *each = *each < 0 ? end_of_text : *each;
  if (special.cls < 0 || special.sep < 0 || special.pad < 0) {
    return absl::InvalidArgumentError(absl::StrCat(files.vocabulary, ": neither <s>, </s> and <pad> (RoBERTa) nor <|endoftext|> (GPT-2) are in it"));
  }
  absl::StatusOr<BpeMerger> merger = BpeMerger::make(bpe, "");
  if (!merger.ok()) return annotate(merger.status(), files.vocabulary);
  return std::make_shared<ByteBpe>(std::move(bpe), special, *std::move(merger), options.prefix_space);
}

}  // namespace fgvl::data
