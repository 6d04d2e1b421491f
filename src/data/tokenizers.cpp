#include "fgvl/data/tokenizers.hpp"

#include <filesystem>

namespace fgvl::data {

void visit_fields(config::Visitor& visitor, WordPieceOptions& options) {
  visitor("position_tokens", options.position_tokens, "PEVL's `@@`, `[pos_0]` to `[pos_511]` and `##` are tokens, in the places of [unused200] to [unused713] or at the end");
}

void visit_fields(config::Visitor& visitor, ByteBpeOptions& options) { visitor("prefix_space", options.prefix_space, "a text starts as if a space stood before it"); }

void visit_fields(config::Visitor&, ClipBpeOptions&) {}

std::shared_ptr<TokenizerRegistry> builtin_tokenizers() {
  auto registry = std::make_shared<TokenizerRegistry>();
  const auto open = [](const auto& options, const TokenizerFiles& files) { return open_tokenizer(options, files); };
  registry->add<WordPieceOptions>("wordpiece", open).add<ByteBpeOptions>("byte_bpe", open).add<ClipBpeOptions>("clip_bpe", open);
  return registry;
}

absl::StatusOr<TokenizerPtr> reopen_tokenizer(const TokenizerChoice& kind, const std::string& folder) {
  const std::filesystem::path root(folder);
  const bool pairs = std::filesystem::exists(root / "vocab.json");  // byte-pair encodings save vocab.json and merges.txt, wordpiece vocab.txt
  return kind.make({.vocabulary = (root / (pairs ? "vocab.json" : "vocab.txt")).string(), .merges = {}, .words = {}});
}

}  // namespace fgvl::data
