#include "eval/pair_batch.hpp"

#include <algorithm>

#include <torch/torch.h>

namespace fgvl::eval {

RegionBatch whole_image_batch(const Tensor& ids, const Tensor& mask, const Tensor& text_to_image) {
  const std::int64_t texts = text_to_image.size(0);
  RegionBatch batch;
  batch.text_to_image = text_to_image;
  batch.is_region = at::zeros({texts}, text_to_image.options().dtype(at::kBool));
  batch.boxes = torch::tensor({0.5f, 0.5f, 1.f, 1.f}).to(text_to_image.device()).expand({texts, 4});
  batch.is_unambiguous = at::ones({texts}, batch.is_region.options());
  batch.text_ids = ids;
  batch.text_mask = mask;
  batch.text_key = at::arange(texts, text_to_image.options());
  return batch;
}

TextRows text_rows(const EncodedTexts& texts, const Tensor& rows, const Tensor& text_to_image) {
  Tensor mask = texts.features.mask.index_select(0, rows);
  const std::int64_t length = mask.size(0) == 0 ? 1 : std::max<std::int64_t>(1, mask.sum(1).max().item<std::int64_t>());
  mask = mask.slice(1, 0, length);
  const auto cut = [&](const Tensor& of_texts) { return of_texts.slice(1, 0, length).index_select(0, rows); };
  return {whole_image_batch(cut(texts.ids), mask, text_to_image), {cut(texts.features.embeds), texts.features.features.index_select(0, rows), mask}};
}

Tensor match_probability(const Tensor& logits) {
  const Tensor exact = logits.to(at::kDouble);
  return (exact.select(1, 1) - exact.select(1, 0)).sigmoid().to(at::kCPU);
}

}  // namespace fgvl::eval
