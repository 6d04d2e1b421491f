#include "losses/foil_rows.hpp"

#include <torch/torch.h>

namespace fgvl::losses {
namespace {

/// [N] int64 hash of each row's tokens, however far it is padded: a polynomial in an odd number, modulo 2^64.
Tensor token_keys(const Tensor& ids, const Tensor& mask) {
  constexpr std::int64_t kBase = 6364136223846793005;
  Tensor keys = at::zeros({ids.size(0)}, ids.options());
  for (std::int64_t position = 0; position < ids.size(1); ++position) keys = at::where(mask.select(1, position), keys * kBase + ids.select(1, position) + 1, keys);
  return keys;
}

}  // namespace

Tensor foils_of(const RegionBatch& batch, const Tensor& rows) {
  if (!batch.foil_ids.defined()) return at::empty({0}, rows.options());
  return at::isin(batch.foil_to_text, rows).nonzero().squeeze(1);
}

Tensor fused_foils(ForwardPass& pass, const Tensor& foils) {
  const Tensor texts = pass.batch().foil_to_text.index_select(0, foils);
  const Tensor positions = at::zeros({foils.size(0), 1}, foils.options());
  return pass.fuse({.text = TextInput::kFoil, .text_index = foils, .visual = VisualInput::kRegion, .visual_index = texts, .positions = positions}).select(1, 0);
}

Tensor foil_columns(ForwardPass& pass, const Tensor& rows, ForwardPass& features_from) {
  const RegionBatch& batch = pass.batch();
  Collective& collective = pass.collective();
  const Tensor texts = collective.all_gather_rows(token_keys(batch.text_ids, batch.text_mask));
  Tensor foils = foils_of(batch, rows);
  if (foils.size(0) > 0) {
    const Tensor keys = token_keys(batch.foil_ids.index_select(0, foils), batch.foil_mask.index_select(0, foils));
    foils = foils.index_select(0, at::isin(keys, texts).logical_not().nonzero().squeeze(1));
  }
  // A rank without foils takes part in the exchange all the same.
  const Tensor own = foils.size(0) > 0 ? features_from.foil_features().index_select(0, foils) : features_from.text().features.slice(0, 0, 0);
  return collective.all_gather_rows(own);
}

}  // namespace fgvl::losses
