#pragma once
#include "fgvl/eval/inference.hpp"

namespace fgvl::eval {

/// Texts about whole pictures, of which no pixels are in the batch. `ids` [T, L], `mask` [T, L], `text_to_image` [T], all on one device.
RegionBatch whole_image_batch(const Tensor& ids, const Tensor& mask, const Tensor& text_to_image);

/// A batch over encoded texts, and the encodings that a pass needs beside it.
struct TextRows {
  RegionBatch batch{};
  TextFeatures given{};
};
/// Rows `rows` [T] int64 of `texts`, cut to the longest of them; row t is about picture `text_to_image[t]`.
TextRows text_rows(const EncodedTexts& texts, const Tensor& rows, const Tensor& text_to_image);

/// [N] float64 on the CPU: probabilities of matching logits [N, 2]. From their difference in float64, so that scores near 1 stay apart.
Tensor match_probability(const Tensor& logits);

}  // namespace fgvl::eval
