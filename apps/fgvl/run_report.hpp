#pragma once
#include <string>

#include "fgvl/eval/report.hpp"
#include "fgvl/train/trainer.hpp"

namespace fgvl::app {

/// What a report says of one finished run in `folder`.
absl::StatusOr<eval::ReportArm> report_arm(const std::string& name, const std::string& description, const std::string& folder, const train::TrainResult& result);

/// Up to `count` pictures of the scored split with the true box (green) and the predicted one (orange) of texts that name one region.
absl::StatusOr<std::vector<eval::ReportPicture>> report_pictures(const train::ProbeInput& model, const data::DataConfig& data, const data::TextPipeline& texts, data::Split split, std::int64_t count);

/// Date, device, versions.
std::string environment_text(const std::string& device);

inline constexpr char kPicturesCaption[] = "Green: the true box. Orange: the box predicted from the text on the whole picture.";

}  // namespace fgvl::app
