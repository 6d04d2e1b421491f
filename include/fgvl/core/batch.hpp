#pragma once
#include "fgvl/core/tensor.hpp"

namespace fgvl {

/// One batch: B images and T texts over them. Every text is about one box of one image; an image-caption pair is a text whose
/// region is the whole image (box (0.5, 0.5, 1, 1), `is_region` false), so that there is one code path for both.
/// B and T differ from batch to batch and from rank to rank: rows that only pad a batch do not exist.
///
/// Shape letters: B images, T texts, F foils, K labels, L tokens of the longest text, M masked positions.
struct RegionBatch {
  Tensor images{};         ///< [B, 3, H, W] float32, channel-normalised.
  Tensor text_to_image{};  ///< [T] int64 in [0, B): the image that a text is about.
  Tensor is_region{};      ///< [T] bool; false: the text is about the whole image.
  Tensor boxes{};          ///< [T, 4] float32, (cx, cy, w, h) in units of the image side, as the model sees the image.
  Tensor is_unambiguous{}; ///< [T] bool; true: no other region that the picture shows carries the same text, so that its box can be predicted from the text.
  Tensor text_ids{};       ///< [T, L] int64 token ids, right-padded with the tokenizer's pad id.
  Tensor text_mask{};      ///< [T, L] bool, true on real tokens.
  Tensor masked_ids{};        ///< [T, L] int64, `text_ids` after masking for MLM.
  Tensor masked_positions{};  ///< [T, M] int64; unused slots are 0.
  Tensor masked_labels{};     ///< [T, M] int64 true token ids; unused slots are -100.
  Tensor text_key{};       ///< [T] int64 hash of the text; rows with equal keys are never each other's negatives.
  Tensor text_stream{};    ///< [T] int64, index into the run's streams.
  Tensor foil_ids{};       ///< [F, L'] int64: texts changed by rule so that they are false of their picture; F may be 0.
  Tensor foil_mask{};      ///< [F, L'] bool.
  Tensor foil_to_text{};   ///< [F] int64 in [0, T): the true text that a foil was made from.
  Tensor label_ids{};      ///< [K, L''] int64: labels that regions are told from, whether or not a region of this batch bears them; the same in every batch of a run.
  Tensor label_mask{};     ///< [K, L''] bool.
  Tensor label_key{};      ///< [K] int64, as text_key.
  Tensor implied_keys{};   ///< [A, 2] int64: of what a text with key [a, 0] is true, a text with key [a, 1] is true as well ("truck", "vehicle"); closed under chains.
  Tensor text_weight{};    ///< [T] float32: how much a text counts where a term weighs classes; undefined: 1.

  std::int64_t image_count() const { return images.size(0); }        ///< B
  std::int64_t text_count() const { return text_to_image.size(0); }  ///< T

  /// The same batch with every defined tensor on `device`.
  RegionBatch to(at::Device device) const;

  /// Throws c10::Error, naming the field, unless all defined fields have the shapes and dtypes above and agree on B, T, L, M and F.
  /// The optional fields (masked_*, foil_*, label_*, implied_keys, text_weight, is_unambiguous, text_stream) may be undefined.
  void validate() const;
};

}  // namespace fgvl
