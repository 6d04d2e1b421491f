#pragma once
#include <string_view>

#include <c10/util/Exception.h>

#include "fgvl/core/batch.hpp"
#include "fgvl/core/collective.hpp"
#include "fgvl/core/features.hpp"
#include "fgvl/core/random.hpp"

namespace fgvl {

/// Which texts enter the fusion encoder: text_ids, masked_ids or foil_ids of the batch, or the text_ids of all ranks one after the other. The first use of kAllRanks in a pass is collective, and its
/// gradient is exact: a rank's texts receive what every rank's pairs with them send back.
enum class TextInput { kText, kMasked, kFoil, kAllRanks };
enum class VisualInput {
  kRegion,  ///< visual_index in [0, T): the region of that text row (its whole image where it is no region), restricted to its patches
  kImage,   ///< visual_index in [0, B): the whole image
};

/// Which pairs to fuse. N pairs; row n reads text `text_index[n]` against visual `visual_index[n]`.
struct FusionQuery {
  TextInput text = TextInput::kText;
  Tensor text_index{};  ///< [N] int64 into the rows of the chosen text input.
  VisualInput visual = VisualInput::kRegion;
  Tensor visual_index{};  ///< [N] int64, see VisualInput.
  Tensor positions{};     ///< [N, M] int64 token positions to return; undefined: all. The last layer computes only these.
};

/// One pass of a model over one batch. Each stage runs when first asked for and is kept, so that terms share work and a stage
/// that no term asks for never runs. Dropout of each stage draws from a random stream keyed by (seed, step, stage), so that
/// asking for one stage never changes the numbers of another. See docs/architecture.md.
class ForwardPass {
 public:
  virtual ~ForwardPass() = default;

  virtual const RegionBatch& batch() const = 0;
  virtual const ImageFeatures& image() = 0;     ///< whole images; the image encoder runs once for image() and regions() together
  virtual const RegionFeatures& regions() = 0;  ///< one row a text
  virtual const TextFeatures& text() = 0;
  virtual const TextFeatures& masked_text() = 0;  ///< of `masked_ids`; features undefined
  virtual const TextFeatures& foil_text() = 0;    ///< of `foil_ids`; features undefined

  /// [F, E] unit rows of foil_text(), made when a term contrasts foils.
  virtual const Tensor& foil_features() { TORCH_CHECK(false, "[ForwardPass::foil_features] this model has none"); }
  /// Of `label_ids`, with features [K, E].
  virtual const TextFeatures& label_text() { TORCH_CHECK(false, "[ForwardPass::label_text] this model has none"); }

  /// The same batch as the momentum encoders see it: slowly following copies of the model's weights (MoCo, arXiv 1911.05722; ALBEF, 2107.07651). Carries no gradient.
  /// Throws c10::Error for a model without them (FeatureSpec::momentum).
  virtual ForwardPass& momentum() { TORCH_CHECK(false, "[ForwardPass::momentum] this model has no momentum encoders (model.momentum)"); }

  /// Fused tokens, [N, L, D], or [N, M, D] with `positions`. Keys and values are projected once per distinct visual sequence and layer.
  virtual Tensor fuse(const FusionQuery& query) = 0;

  /// [T, D] first token of every text fused with its own visual (its region): the true pairs. Kept, because matching and foils share it.
  virtual const Tensor& matched() = 0;

  /// [N, 4] boxes (cx, cy, w, h) in units of the image side, predicted for texts `text_index` [N] from their whole images.
  virtual Tensor predicted_boxes(const Tensor& text_index) = 0;

  /// [N, L, D] (or [N, M, D] with `positions`) tokens of the model's causal decoder (BLIP): token l has seen tokens 0 to l of its text, of which 0 is read as the decoder's own start token, and the
  /// visual, so that it can predict token l + 1. What stands behind a text's last token has no meaning. Throws c10::Error for a model without a decoder (FeatureSpec::has_decoder).
  virtual Tensor decoded(const FusionQuery& /*query*/) {
    TORCH_CHECK(false, "[ForwardPass::decoded] this model has no decoder");
  }

  /// Where texts look: [N, heads, L, V] (or [N, heads, M, V] with `positions`) cross-attention weights of fusion layer `layer`, 0 being the first and -1 the last.
  /// softmax(q k^T / sqrt(d)) over the V tokens of the visual as ImageFeatures or RegionFeatures order them; exactly 0 where the row may not look, so that each row sums
  /// to 1. Fused kernels do not give weights: they are computed here, when asked for, and nothing is kept. Throws c10::Error for a layer that does not exist, and for a model
  /// without cross-attention.
  virtual Tensor cross_attention(const FusionQuery& /*query*/, std::int64_t /*layer*/) {
    TORCH_CHECK(false, "[ForwardPass::cross_attention] this model cannot say where it looks");
  }

  virtual const Tensor& word_embedding() const = 0;  ///< [V, D], tied to the MLM decoder

  virtual bool training() const = 0;
  /// Optimizer steps done before this pass: what schedules are functions of.
  virtual std::int64_t step() const { return 0; }
  /// Host random numbers of this step for `purpose` ("itm.negatives"): a pure function of (seed, step, purpose).
  virtual Generator generator(std::string_view purpose) const = 0;
  virtual Collective& collective() const = 0;
};

}  // namespace fgvl
