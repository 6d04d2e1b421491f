#pragma once
#include <string>
#include <utility>
#include <vector>

#include "fgvl/models/vision_encoder.hpp"

namespace fgvl::models {

/// Swin Transformer (arXiv 2103.14030) as X-VLM uses it (models/swin_transformer.py): attention inside windows, every other block's shifted by half a
/// window, with a learned bias by relative position; four neighbours become one token between stages. [CLS] is the mean of the last stage's tokens, a
/// region's the mean of those that its box touches; regions share their image's tokens. Parameter names are the official checkpoints'. The defaults
/// are Swin-B at 224 pixels; at 384 pixels X-VLM uses window 12.
///
/// A stage whose map is no larger than a window has one window and no shift. A map that is no multiple of the window is filled up with tokens that
/// nobody sees; the official code refuses such sizes.
struct SwinOptions {
  std::int64_t image_size = 224;
  std::int64_t patch_size = 4;
  std::int64_t width = 128;                         ///< of the first stage; doubles with every stage
  std::vector<std::int64_t> depths{2, 2, 18, 2};    ///< blocks a stage
  std::vector<std::int64_t> heads{4, 8, 16, 32};    ///< of attention, a stage
  std::int64_t window = 7;                          ///< tokens a side
  std::int64_t mlp_ratio = 4;
  double drop_path = 0.1;                           ///< stochastic depth of the last block; rises linearly from 0 at the first
};
void visit_fields(config::Visitor& visitor, SwinOptions& options);
/// Throws c10::Error where image_size is no multiple of patch_size * 2^(stages - 1), a stage's width none of its heads, or heads and depths differ in number.
VisionEncoderPtr make_vision_encoder(const SwinOptions& options);

/// What official checkpoints hold beside the weights although it follows from the sizes, by its name below the encoder: `attn_mask` of every shifted
/// block and `relative_position_index` of every block. Our encoder computes them, so that they never have to be loaded.
std::vector<std::pair<std::string, Tensor>> derived_tensors(const SwinOptions& options);

}  // namespace fgvl::models
