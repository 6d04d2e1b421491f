#pragma once
#include <cstdint>
#include <optional>

#include "fgvl/core/tensor.hpp"

namespace fgvl {

/// Bins of a side of the picture that position tokens tell apart (PEVL, arXiv 2205.11169).
inline constexpr std::int64_t kPositionBins = 512;

/// What a model promises about its features; the heads of loss terms are sized from it.
struct FeatureSpec {
  std::int64_t fusion_width = 0;  ///< D: width of fused tokens, and of the word embedding; 0: the model has no fusion.
  std::int64_t embed_dim = 0;     ///< E: width of the L2-normalised features.
  std::int64_t vocab_size = 0;    ///< V: rows of the word embedding.
  std::int64_t first_position_id = -1;  ///< id of [pos_0], the first of kPositionBins position tokens in a row; -1: the vocabulary has none
  bool has_box_head = false;      ///< ForwardPass::predicted_boxes() works
  bool has_decoder = false;       ///< ForwardPass::decoded() works
  bool at_padding = false;        ///< fused tokens are computed at padding too, as the official codes do; false: they are 0 there
  std::optional<double> momentum{};  ///< ForwardPass::momentum() works: the share of itself that a momentum weight keeps in an update; what terms keep momentum copies of follows it too
  double text_layer_norm_eps = 1e-12;  ///< used by heads that belong to the text encoder (MLM), as BERT does.
  double head_layer_norm_eps = 1e-5;   ///< used by MLP heads (ITM, box), as X-VLM does.
  std::optional<double> initializer_range{};  ///< standard deviation of the weights of new heads; absent: uniform by fan-in.
  std::uint64_t seed = 0;              ///< new heads are a pure function of it and of their names.
};

/// Whole images. "embeds" are token-level encoder outputs, "features" one L2-normalised vector a row.
struct ImageFeatures {
  Tensor embeds{};    ///< [B, 1 + P, Dv] visual tokens: [CLS] first, then P patches row by row.
  Tensor features{};  ///< [B, E] unit rows.
};

/// The visual of every text row: its region, or its whole image where `is_region` is false. Visual tokens are kept once per distinct
/// sequence: S = B where regions share their image's tokens (pooled encoders), S = B + regions where the last blocks are masked per region.
/// K is 0 but for shared sequences whose regions have a [CLS] of their own (Swin): those stand behind the patches.
struct RegionFeatures {
  Tensor sequences{};       ///< [S, 1 + P + K, Dv] visual tokens; the first B are the whole images.
  Tensor sequence_index{};  ///< [T] int64: the sequence of each text row.
  Tensor features{};        ///< [T, E] unit rows.
  Tensor mask{};            ///< [T, 1 + P + K] bool: the tokens that fusion may look at: the patches that the row's box touches, and [CLS] unless it is pooled over the whole image.
};

/// Texts before fusion.
struct TextFeatures {
  Tensor embeds{};    ///< [T, L, D] encoder outputs.
  Tensor features{};  ///< [T, E] unit rows; undefined for masked texts and foils (ForwardPass::foil_features() has those).
  Tensor mask{};      ///< [T, L] bool, true on real tokens.
};

}  // namespace fgvl
