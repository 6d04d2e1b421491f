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

RowIdentity known_rows(const RegionBatch& batch, Collective& collective) {
  return row_identity(batch, at::arange(batch.text_count(), batch.text_to_image.options()), collective).gathered(collective);
}

Tensor text_is_true_of(const RowIdentity& visuals, const RowIdentity& texts, const RowIdentity& known) {
  const Tensor same_text = visuals.key.unsqueeze(1) == texts.key.unsqueeze(0);
  const Tensor same_image = visuals.image.unsqueeze(1) == known.image.unsqueeze(0);
  const Tensor outer = visuals.boxes.unsqueeze(1), inner = known.boxes.unsqueeze(0);
  const Tensor inside = at::logical_and((outer.slice(2, 0, 2) <= inner.slice(2, 0, 2) + kContainmentTolerance).all(2),
                                        (outer.slice(2, 2, 4) >= inner.slice(2, 2, 4) - kContainmentTolerance).all(2));
  // Which distinct texts the known rows say of each visual: [N, U], a column a distinct text, so that no [N, K, M] is made.
  const Tensor distinct = std::get<1>(at::_unique(at::cat({known.key, texts.key}), /*sorted=*/true, /*return_inverse=*/true));
  const std::int64_t count = known.key.size(0);
  const Tensor said = same_image.logical_and(inside).to(at::kFloat);
  const Tensor said_of = at::zeros({visuals.key.size(0), count + texts.key.size(0)}, said.options()).index_add(1, distinct.slice(0, 0, count), said);
  return same_text.logical_or(said_of.index_select(1, distinct.slice(0, count)) > 0);
}

}  // namespace fgvl::losses
