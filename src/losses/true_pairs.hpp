#pragma once
#include "fgvl/core/batch.hpp"
#include "fgvl/core/collective.hpp"

namespace fgvl::losses {

/// What decides whether a text is true of a visual. One row a text; its visual is the region that it is about.
struct RowIdentity {
  Tensor row{};    ///< [N] int64, unique over all ranks
  Tensor key{};    ///< [N] int64 hash of the text
  Tensor image{};  ///< [N] int64, unique over all ranks
  Tensor boxes{};  ///< [N, 4] xyxy in units of the image side

  RowIdentity gathered(Collective& collective) const;
};

/// Rows `rows` [N] of a batch.
RowIdentity row_identity(const RegionBatch& batch, const Tensor& rows, const Collective& collective);

/// Every row of the batch, over all ranks: what is known to be true of each image.
RowIdentity known_rows(const RegionBatch& batch, Collective& collective);

/// [N, M] bool: text m is known to be true of visual n: it is its own, an equal text, or the text of a `known` row about a part of the visual (same image,
/// box inside its box: a region's description is true of the whole picture), wherever else in the batch the same words stand. Such a pair is never a negative.
Tensor text_is_true_of(const RowIdentity& visuals, const RowIdentity& texts, const RowIdentity& known);

}  // namespace fgvl::losses
