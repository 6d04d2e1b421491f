#include "models/region_tokens.hpp"

#include "models/attention.hpp"

namespace fgvl::models {

Tensor region_means(const Tensor& patches, const RegionRows& rows) {
  // One small matrix product a row.
  const Tensor weights = rows.patch_mask.to(patches.scalar_type());
  return at::bmm((weights / weights.sum(1, true)).unsqueeze(1), patches.index_select(0, rows.text_to_image)).squeeze(1);
}

// Note [A region's own CLS in a shared sequence]
// X-VLM's fusion sees, for a region of a Swin, the patches of its box and the mean of those patches as [CLS]. The patches are the image's, so that their
// keys and values are shared by all regions; only [CLS] differs. The [CLS] of the k-th region of an image therefore stands at 1 + P + k of the image's
// sequence, and each row's mask shows its own. Softmax over the shown tokens does not depend on where they stand.
VisualTokens pooled_regions(const Tensor& patches, const RegionRows& rows) {
  const std::int64_t images = patches.size(0);
  const Tensor whole = at::cat({patches.mean(1, /*keepdim=*/true), patches}, 1);
  const Tensor first = region_means(patches, rows);
  const Tensor of_image = rows.is_region.logical_not().unsqueeze(1);
  const Tensor region_rows = rows.is_region.nonzero().squeeze(1);
  if (region_rows.size(0) == 0) return {whole, rows.text_to_image, first, at::cat({of_image, rows.patch_mask}, 1)};

  const Tensor image = rows.text_to_image.index_select(0, region_rows);
  const Tensor before = at::one_hot(image, images).cumsum(0).gather(1, image.unsqueeze(1)).squeeze(1) - 1;  // regions of the same image in earlier rows
  const std::int64_t slots = before.max().item<std::int64_t>() + 1;
  const Tensor own = at::zeros({images, slots, patches.size(2)}, first.options()).index_put({image, before}, first.index_select(0, region_rows));
  const Tensor shows_own = at::zeros({rows.is_region.size(0), slots}, rows.is_region.options()).index_put({region_rows, before}, at::ones({}, rows.is_region.options()));
  return {at::cat({whole, own}, 1), rows.text_to_image, first, at::cat({of_image, rows.patch_mask, shows_own}, 1)};
}

VisualTokens masked_regions(Tensor tokens, const RegionRows& rows, const TransformerBlocks& blocks, std::int64_t local_attn_depth, torch::nn::LayerNorm& norm, bool checkpointed, Dropout& dropout) {
  const std::int64_t count = tokens.size(0), patches = tokens.size(1) - 1;
  const std::size_t shared = blocks.size() - static_cast<std::size_t>(local_attn_depth);
  for (std::size_t i = 0; i < shared; ++i) tokens = run_block(checkpointed, blocks[i], tokens, {}, dropout);

  // A text about the whole image would repeat the image's own row, so that only real regions are added; without a masked block, so would they.
  Tensor mask, sequence_index = rows.text_to_image;
  const Tensor region_rows = local_attn_depth > 0 ? rows.is_region.nonzero().squeeze(1) : Tensor();
  if (region_rows.defined() && region_rows.size(0) > 0) {
    const std::int64_t regions = region_rows.size(0);
    tokens = at::cat({tokens, tokens.index_select(0, rows.text_to_image.index_select(0, region_rows))});
    const Tensor open = at::ones({count, patches}, rows.patch_mask.options());
    const Tensor visible = at::cat({open, rows.patch_mask.index_select(0, region_rows)});
    mask = additive_mask(at::cat({at::ones({count + regions, 1}, visible.options()), visible}, 1), tokens.scalar_type());
    sequence_index = sequence_index.index_put({region_rows}, at::arange(count, count + regions, region_rows.options()));
  }
  for (std::size_t i = shared; i < blocks.size(); ++i) tokens = run_block(checkpointed, blocks[i], tokens, mask, dropout);
  tokens = norm(tokens);
  const Tensor all = at::ones_like(rows.is_region).unsqueeze(1);
  return {tokens, sequence_index, tokens.select(1, 0).index_select(0, sequence_index), at::cat({all, rows.patch_mask}, 1)};
}

}  // namespace fgvl::models
