#include <algorithm>
#include <memory>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>

#include "data/text_map.hpp"
#include "data/tokenizer_basic_words.hpp"
#include "data/tokenizer_trie.hpp"
#include "fgvl/core/files.hpp"
#include "fgvl/data/tokenizers.hpp"

namespace fgvl::data {
namespace {

constexpr std::size_t kMaxWordCharacters = 100;
constexpr std::size_t kMaxVocabularyBytes = std::size_t{1} << 24;  // PieceTrie's node numbers
constexpr std::size_t kFirstPositionLine = 200;                    // [unused200]

using IdOf = TextMap<std::int32_t>;

class WordPiece final : public Tokenizer {
 public:
  WordPiece(std::vector<std::string> words, const SpecialIds& special, IdOf never_split)
      : Tokenizer(std::move(words), special), never_split_(std::move(never_split)), trie_(absl::StrJoin(vocabulary(), "").size()), start_(trie_.add_root()), middle_(trie_.add_root()) {
    for (std::size_t id = 0; id < vocabulary().size(); ++id) {
      const std::string_view token = vocabulary()[id];
      trie_.add(start_, token, static_cast<std::int32_t>(id));
      if (token.size() > 2 && token.starts_with("##")) trie_.add(middle_, token.substr(2), static_cast<std::int32_t>(id));
    }
    special_of_ = {pad_id(), unknown_id(), cls_id(), sep_id(), mask_id()};
  }

  std::vector<std::int64_t> ids(std::string_view text) const override {
    std::vector<std::int64_t> ids;
    ids.reserve(text.size() / 4 + 2);
    BasicWords words;
    words.each(
        text,
        [&](std::string_view whole, const std::vector<std::size_t>& ends) {
          if (!never_split_.empty()) {
            if (const auto found = never_split_.find(whole); found != never_split_.end()) {
              ids.push_back(found->second);
              return;
            }
          }
          std::size_t begin = 0;
          for (const std::size_t end : ends) {
            append_pieces(whole.substr(begin, end - begin), ids);
            begin = end;
          }
        },
        [&](int special) { ids.push_back(special_of_[static_cast<std::size_t>(special)]); });
    return ids;
  }

  std::string decode(const std::vector<std::int64_t>& ids) const override {
    std::string text;
    for (const std::int64_t id : ids) {
      if (std::find(special_of_.begin(), special_of_.end(), id) != special_of_.end()) continue;
      const std::string& token = vocabulary()[static_cast<std::size_t>(id)];
      if (is_continuation(token)) {
        text += token.substr(2);
      } else {
        absl::StrAppend(&text, text.empty() ? "" : " ", token);
      }
    }
    return text;
  }

  bool continues_word(std::int64_t, std::int64_t id) const override { return is_continuation(vocabulary()[static_cast<std::size_t>(id)]); }
  std::vector<std::pair<std::string, std::string>> files() const override { return {{"vocab.txt", absl::StrJoin(vocabulary(), "\n") + "\n"}}; }

 private:
  /// "##" alone is PEVL's closing token.
  static bool is_continuation(std::string_view token) { return token.size() > 2 && token.starts_with("##"); }

  void append_pieces(std::string_view word, std::vector<std::int64_t>& ids) const {
    const std::size_t before = ids.size();
    if (word.size() > kMaxWordCharacters && static_cast<std::size_t>(std::count_if(word.begin(), word.end(), [](char c) { return (c & 0xC0) != 0x80; })) > kMaxWordCharacters) {
      ids.push_back(unknown_id());
      return;
    }
    PieceTrie::Node root = start_;
    while (!word.empty()) {
      const PieceTrie::Match piece = trie_.longest(root, word);
      if (piece.value < 0) {
        ids.resize(before);
        ids.push_back(unknown_id());
        return;
      }
      ids.push_back(piece.value);
      word.remove_prefix(piece.length);
      root = middle_;
    }
  }

  IdOf never_split_;
  PieceTrie trie_;
  PieceTrie::Node start_, middle_;
  std::array<std::int64_t, kBertSpecial.size()> special_of_{};
};

std::vector<std::string> position_token_names() {
  std::vector<std::string> names = {"@@"};
  for (std::int64_t i = 0; i < kPositionBins; ++i) names.push_back(absl::StrCat("[pos_", i, "]"));
  names.emplace_back("##");
  return names;
}

absl::StatusOr<IdOf> numbered(const std::vector<std::string>& vocabulary) {
  IdOf id_of;
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < vocabulary.size(); ++i) {
    bytes += vocabulary[i].size() + 1;
    if (!id_of.emplace(vocabulary[i], static_cast<std::int32_t>(i)).second) {
      return absl::InvalidArgumentError(absl::StrCat("vocabulary: line ", i + 1, ": \"", vocabulary[i], "\" is there twice"));
    }
  }
  if (bytes >= kMaxVocabularyBytes) return absl::InvalidArgumentError(absl::StrCat("vocabulary: ", bytes, " bytes; the limit is ", kMaxVocabularyBytes));
  return id_of;
}

/// Names the position tokens in `vocabulary`; the ids of all of them.
absl::StatusOr<IdOf> place_position_tokens(std::vector<std::string>& vocabulary, const IdOf& id_of) {
  const std::vector<std::string> names = position_token_names();
  const auto there = static_cast<std::size_t>(std::count_if(names.begin(), names.end(), [&](const std::string& name) { return id_of.contains(name); }));
  if (there != 0 && there != names.size()) {
    return absl::InvalidArgumentError(absl::StrCat("vocabulary: it has ", there, " of the ", names.size(), " position tokens (@@, [pos_0] to [pos_511], ##); all or none are expected"));
  }
  IdOf placed;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (there != 0) {
      placed[names[i]] = id_of.at(names[i]);
      continue;
    }
    const auto unused = id_of.find(absl::StrCat("[unused", kFirstPositionLine + i, "]"));
    if (unused == id_of.end()) {
      placed[names[i]] = static_cast<std::int32_t>(vocabulary.size());
      vocabulary.push_back(names[i]);
    } else {
      placed[names[i]] = unused->second;
      vocabulary[static_cast<std::size_t>(unused->second)] = names[i];
    }
  }
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (placed.at(names[i]) != placed.at(names[0]) + static_cast<std::int32_t>(i)) {
      return absl::InvalidArgumentError(absl::StrCat("vocabulary: the position tokens, or [unused200] to [unused713], must stand in a row; ", names[i], " does not follow ", names[i - 1]));
    }
  }
  return placed;
}

}  // namespace

absl::StatusOr<TokenizerPtr> make_tokenizer(const WordPieceOptions& options, std::vector<std::string> vocabulary) {
  FGVL_ASSIGN_OR_RETURN(const IdOf id_of, numbered(vocabulary));
  for (const std::string_view token : kBertSpecial) {
    if (!id_of.contains(token)) return absl::InvalidArgumentError(absl::StrCat("vocabulary: the token ", std::string(token), " is missing"));
  }
  if (vocabulary[0] != "[PAD]") return absl::InvalidArgumentError("vocabulary: the first token must be [PAD]");
  SpecialIds special{.pad = 0, .unknown = id_of.at("[UNK]"), .cls = id_of.at("[CLS]"), .sep = id_of.at("[SEP]"), .mask = id_of.at("[MASK]")};
  IdOf never_split;
  if (options.position_tokens) {
    FGVL_ASSIGN_OR_RETURN(never_split, place_position_tokens(vocabulary, id_of));
    special.position_open = never_split.at("@@");
  }
  return std::make_shared<WordPiece>(std::move(vocabulary), special, std::move(never_split));
}

absl::StatusOr<TokenizerPtr> open_tokenizer(const WordPieceOptions& options, const TokenizerFiles& files) {
  if (!files.merges.empty()) return absl::InvalidArgumentError("merges: a wordpiece vocabulary has none; leave it out, or choose type byte_bpe or clip_bpe");
  if (!files.words.empty()) return make_tokenizer(options, files.words);
  if (files.vocabulary.empty()) return absl::InvalidArgumentError("vocabulary: a file with one token a line is needed");
  FGVL_ASSIGN_OR_RETURN(const std::string text, read_file(files.vocabulary));
  std::vector<std::string> lines = absl::StrSplit(text, '\n');
  if (!lines.empty() && lines.back().empty()) lines.pop_back();
  for (std::string& line : lines) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
  }
  absl::StatusOr<TokenizerPtr> tokenizer = make_tokenizer(options, std::move(lines));
  if (!tokenizer.ok()) return annotate(tokenizer.status(), files.vocabulary);
  return tokenizer;
}

std::vector<std::string> basic_words(std::string_view text) {
  std::vector<std::string> parts;
  BasicWords words;
  words.each(
      text,
      [&](std::string_view whole, const std::vector<std::size_t>& ends) {
        std::size_t begin = 0;
        for (const std::size_t end : ends) {
          parts.emplace_back(whole.substr(begin, end - begin));
          begin = end;
        }
      },
      [&](int special) { parts.emplace_back(kBertSpecial[static_cast<std::size_t>(special)]); });
  return parts;
}

}  // namespace fgvl::data
