#pragma once
#include <string>

#include "fgvl/eval/report.hpp"
#include "fgvl/train/trainer.hpp"

namespace fgvl::app {

/// What a report says of one finished run in `folder`.
absl::StatusOr<eval::ReportArm> report_arm(const std::string& name, const std::string& description, const std::string& folder, const train::TrainResult& result);

/// Whether the run trains with a loss that teaches what its boxes come from, the box head or position tokens: without one they are noise, which no report shows.
bool learns_boxes(const train::RunConfig& config);

/// Up to `count` held-out pictures, none where nothing is held out, with the true box (green) and, `with_predictions`, the predicted one (orange) of
/// texts that name one region.
absl::StatusOr<std::vector<eval::ReportPicture>> report_pictures(const train::ProbeInput& model, const data::DataConfig& data, const data::TextPipeline& texts, bool with_predictions,
                                                                 std::int64_t count);
/// What the colours mean.
std::string pictures_caption(bool with_predictions);

/// Date, device, versions.
std::string environment_text(const std::string& device);

}  // namespace fgvl::app
