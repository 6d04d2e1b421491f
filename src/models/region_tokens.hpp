#pragma once
#include <torch/torch.h>

#include "fgvl/models/vision_encoder.hpp"
#include "models/vit_blocks.hpp"

namespace fgvl::models {

/// The mean over each row's patches: `patches` [B, P, Dv] -> [T, Dv].
Tensor region_means(const Tensor& patches, const RegionRows& rows);

/// Regions that share their image's tokens, each with the mean of its patches as its own [CLS]: X-VLM's Swin. `patches` [B, P, Dv].
VisualTokens pooled_regions(const Tensor& patches, const RegionRows& rows);

/// Runs `blocks` over whole images, and the last `local_attn_depth` of them once more for every region, whose patches then see only one another and
/// [CLS]; then `norm`. `tokens` [B, 1 + P, Dv], [CLS] first. With depth 0 regions share their image's sequence. `checkpointed`: see run_block.
VisualTokens masked_regions(Tensor tokens, const RegionRows& rows, const TransformerBlocks& blocks, std::int64_t local_attn_depth, torch::nn::LayerNorm& norm, bool checkpointed, Dropout& dropout);

}  // namespace fgvl::models
