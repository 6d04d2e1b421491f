#pragma once
#include "fgvl/models/vision_encoder.hpp"

namespace fgvl::models {

enum class Stem {
  kLinear,  ///< one convolution of the patch size
  kConv,    ///< 3 x 3 convolutions of stride 2 with BatchNorm and GELU between them (Xiao et al., arXiv 2106.14881); patch_size = 2^layers
};
enum class PositionEmbedding {
  kSincos,   ///< fixed 2-D sine-cosine of `position_amplitude`
  kLearned,  ///< normal with standard deviation 0.02 at the start
};
config::EnumNames<Stem> enum_names(Stem);
config::EnumNames<PositionEmbedding> enum_names(PositionEmbedding);

/// A pre-norm Vision Transformer (arXiv 2010.11929) without class token: [CLS] is the mean of the patches, and a region's the mean of the patches
/// that its box touches, as X-VLM does with Swin (models/swin_transformer.py). Regions therefore share their image's tokens and cost no attention.
struct VitOptions {
  std::int64_t image_size = 224;
  std::int64_t patch_size = 16;
  std::int64_t width = 768;
  std::int64_t layers = 12;
  std::int64_t heads = 12;
  std::int64_t mlp_ratio = 4;
  Stem stem = Stem::kLinear;
  std::vector<std::int64_t> stem_channels{};  ///< of the convolutions but the last; empty: width / 8, width / 4, ...
  PositionEmbedding position = PositionEmbedding::kSincos;
  double position_amplitude = 0.5;
};
void visit_fields(config::Visitor& visitor, VitOptions& options);
VisionEncoderPtr make_vision_encoder(const VitOptions& options);

}  // namespace fgvl::models
