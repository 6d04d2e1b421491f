#pragma once
#include <array>
#include <string>
#include <vector>

#include "fgvl/core/batch.hpp"
#include "fgvl/core/status.hpp"
#include "fgvl/data/text_pipeline.hpp"

namespace fgvl::eval {

/// A text about one of B given images.
struct QueryText {
  std::int64_t image = 0;
  std::string text;
  std::array<float, 4> box{0.5f, 0.5f, 1.f, 1.f};  ///< (cx, cy, w, h) in units of the image side
  bool is_region = false;
  std::vector<data::PlacedPhrase> phrases{};  ///< with position tokens behind them; the vocabulary must have these
};

/// A batch of B given images and texts over them, for scoring: no masks, no foils. InvalidArgument for a text of which nothing is left.
absl::StatusOr<RegionBatch> make_query(const Tensor& images, const std::vector<QueryText>& texts, const data::TextPipeline& pipeline);

}  // namespace fgvl::eval
