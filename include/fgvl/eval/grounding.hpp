#pragma once
#include <optional>
#include <string>

#include "fgvl/core/tensor.hpp"
#include "fgvl/data/record.hpp"

namespace fgvl::eval {

/// Where a text looks in a picture: cross-attention weights, mean over heads. Patches and [CLS] sum to 1.
struct AttentionMap {
  Tensor patches{};       ///< [grid, grid] float32 on the CPU, the picture's patches row by row
  double cls_weight = 0;  ///< what the visual [CLS] token got, which stands for no place
};

/// Where a text points in a picture.
struct Grounding {
  std::string text{};
  data::PixelBox box{};                 ///< (x1, y1, x2, y2) in pixels of the picture, cut at its borders
  std::optional<double> itm{};          ///< probability that the text is true of the picture, by the matching term; absent without one
  std::optional<double> region_itc{};   ///< cosine of the text and the region that the box cuts out; absent without a contrastive term, or when not asked for
  std::optional<AttentionMap> map{};    ///< absent when not asked for
  bool has_unknown_words = false;       ///< the vocabulary lacks some of its words
};

/// Intersection over union of two boxes in one unit; 0 for boxes without area.
double box_iou(const data::PixelBox& a, const data::PixelBox& b);

}  // namespace fgvl::eval
