#include "fgvl/data/tokenizer.hpp"

namespace fgvl::data {

std::vector<std::string> Tokenizer::tokens(std::string_view text) const {
  std::vector<std::string> tokens;
  for (const std::int64_t id : ids(text)) tokens.push_back(vocabulary_[static_cast<std::size_t>(id)]);
  return tokens;
}

}  // namespace fgvl::data
