#pragma once
#include "fgvl/core/batch.hpp"
#include "fgvl/core/collective.hpp"
#include "fgvl/losses/tiled_contrastive.hpp"

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

/// Texts of `keys` [N] that no row of a batch bears (labels, foils, a queue's): at no place of any image.
RowIdentity text_identity(const Tensor& keys);
RowIdentity joined(const RowIdentity& a, const RowIdentity& b);
/// Entries `index` [N].
RowIdentity selected(const RowIdentity& identity, const Tensor& index);

/// Every row of the batch, over all ranks: what is known to be true of each image.
RowIdentity known_rows(const RegionBatch& batch, Collective& collective);

/// [A, 2] int64 (index of a visual, key of a text), each pair once: every text that is known to be true of each visual. That is its own text, the texts of `known` rows about a part of it (same image, box
/// inside its box: a region's description is true of the whole picture), and what those imply by `implied_keys` (RegionBatch::implied_keys, the same on every rank; undefined: nothing). Such a text is
/// never a negative of the visual, whichever row it stands in.
Tensor true_texts(const RowIdentity& visuals, const RowIdentity& known, const Tensor& implied_keys);

/// [N, M] bool: text m is one of the true texts of visual n.
Tensor text_is_true_of(const RowIdentity& visuals, const RowIdentity& texts, const RowIdentity& known, const Tensor& implied_keys);

/// Visuals as queries against texts as keys: a visual and the text of its own row, with `equal_is_positive` also every equal text, are positives; other true texts are ignored.
/// `known` undefined (RowIdentity{}): every pair but a row's own is a negative, and implied_keys is not read.
PairRules pair_rules(const RowIdentity& visuals, const RowIdentity& texts, const RowIdentity& known, const Tensor& implied_keys, bool equal_is_positive);

}  // namespace fgvl::losses
