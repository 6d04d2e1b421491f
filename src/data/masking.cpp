#include "fgvl/data/masking.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace fgvl::data {

config::EnumNames<MaskingScheme> enum_names(MaskingScheme) { return {{MaskingScheme::kSpans, "spans"}, {MaskingScheme::kTokens, "tokens"}}; }

void visit_fields(config::Visitor& visitor, MaskingOptions& options) {
  visitor("scheme", options.scheme, "spans: a share of the tokens, in whole words and spans, as X-VLM; tokens: each by itself with `probability`, as BERT, ALBEF and PEVL");
  visitor("probability", options.probability, "share of the tokens that is masked, with spans at least one a text; 0: none", config::kFraction);
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

namespace {

using Ids = std::vector<std::int64_t>;

/// Positions of a text, as X-VLM draws them; `may` says which can be drawn at all.
template <class F>
Ids drawn_spans(const Ids& ids, const Tokenizer& tokenizer, const MaskingOptions& options, F&& may, Generator& generator) {
  const auto count = static_cast<std::int64_t>(ids.size());
  const std::int64_t wanted = mask_count(count - std::count_if(ids.begin(), ids.end(), [&](std::int64_t id) { return tokenizer.is_position(id); }), options);
  const auto continues = [&](std::int64_t position) { return options.whole_word && position > 0 && tokenizer.continues_word(ids[static_cast<std::size_t>(position - 1)], ids[static_cast<std::size_t>(position)]); };

  Ids candidates(static_cast<std::size_t>(count - 1));
  std::iota(candidates.begin(), candidates.end(), std::int64_t{1});
  generator.shuffle(candidates);
  Ids chosen;
  std::vector<bool> is_chosen(static_cast<std::size_t>(count), false);
  for (const std::int64_t candidate : candidates) {
    if (static_cast<std::int64_t>(chosen.size()) >= wanted) break;
    if (is_chosen[static_cast<std::size_t>(candidate)]) continue;
    std::int64_t length = 1;
    if (options.span_probability > 0 && generator.bernoulli(options.span_probability)) length = generator.uniform_int(2, options.max_span);
    std::int64_t begin = candidate, end = candidate + length;
    while (begin > 0 && begin < count && continues(begin)) --begin;
    while (end < count && continues(end)) ++end;
    for (std::int64_t position = begin; position < end && may(position); ++position) {
      if (is_chosen[static_cast<std::size_t>(position)]) continue;
      is_chosen[static_cast<std::size_t>(position)] = true;
      chosen.push_back(position);
    }
  }
  if (static_cast<std::int64_t>(chosen.size()) > wanted) {
    generator.shuffle(chosen);
    chosen.resize(static_cast<std::size_t>(wanted));
  }
  return chosen;
}

/// 1 to 4 of the position tokens behind each @@.
void add_drawn_positions(const Ids& ids, const Tokenizer& tokenizer, Generator& generator, Ids& chosen) {
  for (std::size_t open = 0; tokenizer.has_positions() && open < ids.size(); ++open) {
    if (ids[open] != tokenizer.special().position_open) continue;
    Ids group;
    for (std::size_t place = open + 1; place < ids.size() && place <= open + 4 && tokenizer.is_position(ids[place]); ++place) group.push_back(static_cast<std::int64_t>(place));
    if (group.empty()) continue;
    generator.shuffle(group);
    const std::int64_t count = generator.uniform_int(1, static_cast<std::int64_t>(group.size()));
    chosen.insert(chosen.end(), group.begin(), group.begin() + static_cast<std::ptrdiff_t>(count));
  }
}

}  // namespace

MaskedText mask_text(const Ids& ids, const Tokenizer& tokenizer, const MaskingOptions& options, Generator& generator) {
  MaskedText masked{ids, {}, {}};
  const auto count = static_cast<std::int64_t>(ids.size());
  if (count < 2 || options.probability == 0) return masked;
  const auto may = [&](std::int64_t position) {
    if (position <= 0 || position >= count) return false;
    const std::int64_t id = ids[static_cast<std::size_t>(position)];
    return id != tokenizer.sep_id() && !tokenizer.is_position(id);
  };
  Ids chosen;
  if (options.scheme == MaskingScheme::kTokens) {
    for (std::int64_t position = 1; position < count; ++position) {
      if (may(position) && generator.bernoulli(options.probability)) chosen.push_back(position);
    }
  } else {
    chosen = drawn_spans(ids, tokenizer, options, may, generator);
  }
  add_drawn_positions(ids, tokenizer, generator, chosen);
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
