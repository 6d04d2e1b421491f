#pragma once
#include <string>
#include <utility>
#include <vector>

#include "fgvl/models/vision_encoder.hpp"

namespace fgvl::models {

enum class RelativePositions {
  kBlock,   ///< a table of its own in every block
  kShared,  ///< one table for all blocks
};
config::EnumNames<RelativePositions> enum_names(RelativePositions);

/// BEiT v2 (arXiv 2208.06366) as X2-VLM uses it (zengyan-97/X2-VLM 21ed5a5, models/beit2.py): a pre-norm Vision Transformer with a learned bias by relative position in place of position embeddings, layer
/// scale, queries and values with a bias and keys without, LayerNorm eps 1e-6, exact GELU. Its class token is dropped behind the last block: [CLS] is the mean of the patches, a region's the mean of those
/// that its box touches; regions share their image's tokens. Parameter names are the official checkpoints'. The defaults are X2-VLM's base model; its large one has width 1024, 24 layers and 16 heads.
struct BeitOptions {
  std::int64_t image_size = 224;
  std::int64_t patch_size = 16;
  std::int64_t width = 768;
  std::int64_t layers = 12;
  std::int64_t heads = 12;
  std::int64_t mlp_ratio = 4;
  double init_values = 0.1;  ///< layer scale (arXiv 2103.17239) at the start: what attention and MLP are multiplied with, a channel at a time; 0: none
  RelativePositions relative_positions = RelativePositions::kBlock;
  double drop_path = 0.1;    ///< stochastic depth of the last block; rises linearly from 0 at the first
};
void visit_fields(config::Visitor& visitor, BeitOptions& options);
/// Throws c10::Error where image_size is no multiple of patch_size or width none of heads.
VisionEncoderPtr make_vision_encoder(const BeitOptions& options);

/// What official checkpoints hold beside the weights although it follows from the sizes, by its name below the encoder: `relative_position_index` beside every table.
std::vector<std::pair<std::string, Tensor>> derived_tensors(const BeitOptions& options);

}  // namespace fgvl::models
