#pragma once
#include <string>
#include <vector>

#include "fgvl/data/sample.hpp"
#include "fgvl/train/probe.hpp"

namespace fgvl::eval {

/// Where a text points in a picture.
struct Grounding {
  std::string text;
  data::PixelBox box{};       ///< (x1, y1, x2, y2) in pixels of the picture
  double match_score = 0;     ///< probability that the text is true of the picture, by the matching term; NaN without one
  double region_score = 0;    ///< cosine of the text and the predicted region
  bool has_unknown_words = false;  ///< the vocabulary lacks some of its words
};

/// Intersection over union of two boxes in one unit; 0 for boxes without area.
double box_iou(const data::PixelBox& a, const data::PixelBox& b);

/// One box a text. InvalidArgument for a text of which nothing is left.
absl::StatusOr<std::vector<Grounding>> ground(const train::ProbeInput& model, const data::TextPipeline& pipeline, const data::ImageOptions& image_options, const data::Image& image,
                                              const std::vector<std::string>& texts, const std::string& matching = "itm");

/// A batch of B given images and texts over them, for scoring: no masks, no foils.
struct QueryText {
  std::int64_t image = 0;
  std::string text;
  std::array<float, 4> box{0.5f, 0.5f, 1.f, 1.f};
  bool is_region = false;
};
absl::StatusOr<RegionBatch> make_query(const Tensor& images, const std::vector<QueryText>& texts, const data::TextPipeline& pipeline);

struct DrawnBox {
  data::PixelBox box{};
  std::string caption{};
  std::array<std::uint8_t, 3> colour{255, 255, 255};
};
/// The picture with outlines and captions, enlarged by a whole factor to at least `min_side` pixels.
data::Image draw_boxes(const data::Image& image, const std::vector<DrawnBox>& boxes, std::int64_t min_side = 0);

}  // namespace fgvl::eval
