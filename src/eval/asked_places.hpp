#pragma once
#include <string>
#include <vector>

#include "fgvl/eval/inference.hpp"
#include "fgvl/losses/masked_language.hpp"

namespace fgvl::eval {

/// Texts with places behind them, on `device`. InvalidArgument names a text that leaves no room for them, or that has position tokens of its own. `first_position_id`: FeatureSpec::first_position_id.
absl::StatusOr<AskedPlaces> ask_places(const std::vector<std::string>& texts, const data::TextPipeline& pipeline, std::int64_t first_position_id, at::Device device);

/// [T, 4] float64 cxcywh of texts `rows` [T] int64 of `places` on whole pictures `text_to_image` [T], as Inference::ground says; `words` predicts the tokens.
Tensor boxes_of_places(models::Model& model, losses::WordPredictor& words, const ImageFeatures& images, const AskedPlaces& places, const Tensor& rows, const Tensor& text_to_image);

}  // namespace fgvl::eval
