#pragma once
#include "fgvl/core/forward_pass.hpp"

namespace fgvl::losses {

/// Masked places of the texts of a batch, and the query for what the model has there: masked texts with their own regions.
struct MaskedSlots {
  Tensor valid{};   ///< [N, M] bool: the slots in use
  Tensor labels{};  ///< [N, M] int64: true ids
  FusionQuery query{};
};

inline constexpr std::int64_t kIgnoredLabel = -100;

/// [T] bool: texts with a masked place. `term` names who asks.
inline Tensor has_masks(const RegionBatch& batch, const char* term) {
  TORCH_CHECK(batch.masked_ids.defined(), "[", term, "] batch.masked_ids: required, but undefined; switch masking on in the data, or remove this term");
  return (batch.masked_labels != kIgnoredLabel).any(1);
}

/// Of the texts `rows` [N].
inline MaskedSlots masked_slots(const RegionBatch& batch, const Tensor& rows) {
  const Tensor labels = batch.masked_labels.index_select(0, rows);
  return {labels != kIgnoredLabel, labels,
          {.text = TextInput::kMasked, .text_index = rows, .visual = VisualInput::kRegion, .visual_index = rows, .positions = batch.masked_positions.index_select(0, rows)}};
}

}  // namespace fgvl::losses
