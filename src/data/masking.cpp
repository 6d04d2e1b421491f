#include "fgvl/data/masking.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace fgvl::data {

void visit_fields(config::Visitor& visitor, MaskingOptions& options) {
  visitor("probability", options.probability, "share of the tokens that is masked, at least one a text; 0: none", config::kFraction);
  visitor("max_masks", options.max_masks, "a text", {1, 512});
  visitor("span_probability", options.span_probability, "of masking a span instead of one token", config::kFraction);
  visitor("max_span", options.max_span, "longest span in tokens", {2, 64});
  visitor("whole_word", options.whole_word, "mask whole words");
}

std::int64_t mask_count(std::int64_t tokens, const MaskingOptions& options) {
  if (options.probability == 0) return 0;
  const auto rounded = static_cast<std::int64_t>(std::nearbyint(static_cast<double>(tokens) * options.probability));  // half to even
  return std::min(options.max_masks, std::max<std::int64_t>(1, rounded));
}

MaskedText mask_text(const std::vector<std::int64_t>& ids, const Tokenizer& tokenizer, const MaskingOptions& options, Generator& generator) {
  MaskedText masked{ids, {}, {}};
  const auto count = static_cast<std::int64_t>(ids.size());
  if (count < 2) return masked;
  const std::int64_t wanted = mask_count(count, options);
  if (wanted == 0) return masked;
  const auto continues = [&](std::int64_t position) { return options.whole_word && position > 0 && tokenizer.continues_word(ids[static_cast<std::size_t>(position - 1)], ids[static_cast<std::size_t>(position)]); };
  const auto maskable = [&](std::int64_t position) { return position > 0 && position < count && ids[static_cast<std::size_t>(position)] != tokenizer.sep_id(); };

  std::vector<std::int64_t> candidates(static_cast<std::size_t>(count - 1));
  std::iota(candidates.begin(), candidates.end(), std::int64_t{1});
  generator.shuffle(candidates);
  std::vector<std::int64_t> chosen;
  std::vector<bool> is_chosen(static_cast<std::size_t>(count), false);
  for (const std::int64_t candidate : candidates) {
    if (static_cast<std::int64_t>(chosen.size()) >= wanted) break;
    if (is_chosen[static_cast<std::size_t>(candidate)]) continue;
    std::int64_t length = 1;
    if (options.span_probability > 0 && generator.bernoulli(options.span_probability)) length = generator.uniform_int(2, options.max_span);
    std::int64_t begin = candidate, end = candidate + length;
    while (begin > 0 && begin < count && continues(begin)) --begin;
    while (end < count && continues(end)) ++end;
    for (std::int64_t position = begin; position < end && maskable(position); ++position) {
      if (is_chosen[static_cast<std::size_t>(position)]) continue;
      is_chosen[static_cast<std::size_t>(position)] = true;
      chosen.push_back(position);
    }
  }
  if (static_cast<std::int64_t>(chosen.size()) > wanted) {
    generator.shuffle(chosen);
    chosen.resize(static_cast<std::size_t>(wanted));
  }
  std::sort(chosen.begin(), chosen.end());
  for (const std::int64_t position : chosen) {
    std::int64_t& id = masked.ids[static_cast<std::size_t>(position)];
    masked.positions.push_back(position);
    masked.labels.push_back(id);
    if (generator.bernoulli(0.8)) {
      id = tokenizer.mask_id();
    } else if (generator.bernoulli(0.5)) {
      id = generator.uniform_int(0, tokenizer.size() - 1);
    }
  }
  return masked;
}

}  // namespace fgvl::data
