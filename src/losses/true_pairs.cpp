#include "losses/true_pairs.hpp"

#include <torch/torch.h>

#include "fgvl/core/boxes.hpp"

namespace fgvl::losses {
namespace {

constexpr std::int64_t kRankStride = std::int64_t{1} << 40;  // more rows than any rank holds
constexpr double kContainmentTolerance = 1e-4;               // of the image side: float32 corners of one box written twice

}  // namespace

RowIdentity RowIdentity::gathered(Collective& collective) const {
  if (collective.size() == 1) return *this;
  return {collective.all_gather_rows(row), collective.all_gather_rows(key), collective.all_gather_rows(image), collective.all_gather_rows(boxes)};
}

RowIdentity row_identity(const RegionBatch& batch, const Tensor& rows, const Collective& collective) {
  const std::int64_t offset = collective.rank() * kRankStride;
  return {rows + offset, batch.text_key.index_select(0, rows), batch.text_to_image.index_select(0, rows) + offset,
          cxcywh_to_xyxy(batch.boxes.index_select(0, rows))};
}

Tensor text_is_true_of(const RowIdentity& visuals, const RowIdentity& texts) {
  const Tensor same_text = visuals.key.unsqueeze(1) == texts.key.unsqueeze(0);
  const Tensor same_image = visuals.image.unsqueeze(1) == texts.image.unsqueeze(0);
  const Tensor outer = visuals.boxes.unsqueeze(1), inner = texts.boxes.unsqueeze(0);
  const Tensor inside = at::logical_and((outer.slice(2, 0, 2) <= inner.slice(2, 0, 2) + kContainmentTolerance).all(2),
                                        (outer.slice(2, 2, 4) >= inner.slice(2, 2, 4) - kContainmentTolerance).all(2));
  return same_text.logical_or(same_image.logical_and(inside));
}

}  // namespace fgvl::losses
