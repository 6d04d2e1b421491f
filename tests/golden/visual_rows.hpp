#pragma once
#include <torch/torch.h>

#include "support/catch.hpp"

namespace fgvl::test {

/// What each text's visual consists of, as the official code lays it out: its own [CLS], then all patches; [T, 1 + P, Dv]. Regions that share a sequence have theirs behind it.
/// `visual`: VisualTokens or RegionFeatures.
template <class Visual>
at::Tensor visual_rows(const Visual& visual, std::int64_t patches) {
  const at::Tensor tokens = visual.sequences.index_select(0, visual.sequence_index);
  const auto apart = [&](const at::Tensor& of_tokens) { return at::cat({of_tokens.slice(1, 0, 1), of_tokens.slice(1, 1 + patches)}, 1); };
  const at::Tensor shown = apart(visual.mask).to(tokens.scalar_type());
  REQUIRE(at::equal(shown.sum(1), at::ones_like(shown.select(1, 0))));
  return at::cat({at::bmm(shown.unsqueeze(1), apart(tokens)), tokens.slice(1, 1, 1 + patches)}, 1);
}

}  // namespace fgvl::test
