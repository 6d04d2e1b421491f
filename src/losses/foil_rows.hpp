#pragma once
#include "fgvl/core/forward_pass.hpp"

namespace fgvl::losses {

/// [F'] int64: which foils of the batch are made from one of `rows`; none where the batch carries none.
Tensor foils_of(const RegionBatch& batch, const Tensor& rows);

/// [F', D] fused first tokens of `foils`, each with the visual of the text that it was made from.
Tensor fused_foils(ForwardPass& pass, const Tensor& foils);

/// [F', E] features, as `features_from` makes them, of the foils of `rows` of all ranks: further columns of a softmax over texts, which every visual is to be told from. A foil whose tokens are those of a
/// text of the batch, of any rank, is left out: it is true of somebody. Every rank must call it.
Tensor foil_columns(ForwardPass& pass, const Tensor& rows, ForwardPass& features_from);

}  // namespace fgvl::losses
