#pragma once
#include <algorithm>
#include <vector>

#include <torch/torch.h>

#include "fgvl/core/batch.hpp"

namespace fgvl::test {

/// Rows of a batch: images [first, last), and everything about them.
struct BatchPart {
  RegionBatch batch;
  Tensor texts{};  ///< [T'] int64: its rows in the whole batch
};

inline BatchPart part_of(const RegionBatch& whole, std::int64_t first, std::int64_t last) {
  const Tensor inside = whole.text_to_image.ge(first).logical_and(whole.text_to_image < last);
  BatchPart part{whole, inside.nonzero().squeeze(1)};
  RegionBatch& batch = part.batch;
  batch.images = whole.images.slice(0, first, last);
  for (Tensor RegionBatch::*field : {&RegionBatch::text_to_image, &RegionBatch::is_region, &RegionBatch::boxes, &RegionBatch::is_unambiguous, &RegionBatch::text_ids, &RegionBatch::text_mask,
                                     &RegionBatch::masked_ids, &RegionBatch::masked_positions, &RegionBatch::masked_labels, &RegionBatch::text_key, &RegionBatch::text_stream, &RegionBatch::text_weight}) {
    if ((whole.*field).defined()) batch.*field = (whole.*field).index_select(0, part.texts);
  }
  batch.text_to_image = batch.text_to_image - first;
  // As collate makes it: no longer than the longest text of this part.
  const std::int64_t longest = batch.text_count() > 0 ? std::max<std::int64_t>(batch.text_mask.sum(1).max().item<std::int64_t>(), 1) : 1;
  for (Tensor RegionBatch::*field : {&RegionBatch::text_ids, &RegionBatch::text_mask, &RegionBatch::masked_ids}) {
    if ((batch.*field).defined()) batch.*field = (batch.*field).slice(1, 0, longest);
  }
  if (whole.foil_ids.defined()) {
    const Tensor foils = at::isin(whole.foil_to_text, part.texts).nonzero().squeeze(1);
    batch.foil_ids = whole.foil_ids.index_select(0, foils);
    batch.foil_mask = whole.foil_mask.index_select(0, foils);
    batch.foil_to_text = at::searchsorted(part.texts, whole.foil_to_text.index_select(0, foils));
  }
  return part;
}

/// The batch in parts of these numbers of images, one a rank.
inline std::vector<BatchPart> parts_of(const RegionBatch& whole, const std::vector<std::int64_t>& images) {
  std::vector<BatchPart> parts;
  std::int64_t first = 0;
  for (const std::int64_t count : images) {
    parts.push_back(part_of(whole, first, first + count));
    first += count;
  }
  return parts;
}

}  // namespace fgvl::test
