#pragma once
#include "fgvl/models/vision_encoder.hpp"

namespace fgvl::models {

/// DeiT's Vision Transformer (arXiv 2012.12877) with X-VLM's region attention (models/vit.py): class token, learned positions, LayerNorm eps 1e-6,
/// exact GELU; the last `local_attn_depth` blocks run once more for every region, whose patches see only one another and [CLS]. Parameter names are
/// the official checkpoints'.
struct DeitOptions {
  std::int64_t image_size = 224;
  std::int64_t patch_size = 16;
  std::int64_t width = 768;
  std::int64_t layers = 12;
  std::int64_t heads = 12;
  std::int64_t mlp_ratio = 4;
  std::int64_t local_attn_depth = 4;
  double drop_path = 0;  ///< stochastic depth of the last block; rises linearly from 0 at the first
};
void visit_fields(config::Visitor& visitor, DeitOptions& options);
/// Throws c10::Error where image_size is no multiple of patch_size, width none of heads, or local_attn_depth exceeds layers.
VisionEncoderPtr make_vision_encoder(const DeitOptions& options);

}  // namespace fgvl::models
