#pragma once
#include "fgvl/models/activation.hpp"
#include "fgvl/models/vision_encoder.hpp"

namespace fgvl::models {

/// OpenAI CLIP's Vision Transformer with X-VLM's region attention (models/clip_vit.py): the last `local_attn_depth` blocks run once more for
/// every region, whose patches see only one another and [CLS]. Parameter names are the official checkpoints'.
struct ClipVitOptions {
  std::int64_t image_size = 224;
  std::int64_t patch_size = 16;
  std::int64_t width = 768;
  std::int64_t layers = 12;
  std::int64_t heads = 12;
  std::int64_t mlp_width = 3072;
  std::int64_t local_attn_depth = 4;
  Activation activation = Activation::kQuickGelu;  ///< of the MLP; OpenCLIP's own models have gelu
};
void visit_fields(config::Visitor& visitor, ClipVitOptions& options);
VisionEncoderPtr make_vision_encoder(const ClipVitOptions& options);

}  // namespace fgvl::models
