#include "run_report.hpp"

#include <algorithm>
#include <ctime>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <ATen/Parallel.h>
#include <torch/version.h>

#include "fgvl/core/version.hpp"
#include "fgvl/eval/drawing.hpp"
#include "fgvl/eval/inference.hpp"

namespace fgvl::app {
namespace {

constexpr std::array<std::uint8_t, 3> kTrue = {60, 200, 110}, kPredicted = {255, 150, 40};

}  // namespace

bool learns_boxes(const train::RunConfig& config) {
  const char* type = config.model.options.box_head ? "box_regression" : "position_tokens";
  return std::any_of(config.losses.begin(), config.losses.end(), [&](const auto& entry) { return entry.second.term.type() == type; });
}

absl::StatusOr<eval::ReportArm> report_arm(const std::string& name, const std::string& description, const std::string& folder, const train::TrainResult& result) {
  eval::ReportArm arm{name, description, {}, result.metrics, result.seconds, result.images_per_second, {}};
  FGVL_ASSIGN_OR_RETURN(arm.history, eval::read_history(folder + "/metrics.jsonl"));
  arm.skipped.assign(result.counts.skipped.begin(), result.counts.skipped.end());
  arm.records_seen = result.counts.records_seen;
  arm.records_skipped = result.counts.records_skipped;
  arm.regions_seen = result.counts.regions_seen;
  return arm;
}

absl::StatusOr<std::vector<eval::ReportPicture>> report_pictures(const train::ProbeInput& model, const data::DataConfig& data, const data::TextPipeline& texts, bool with_predictions,
                                                                 std::int64_t count) {
  FGVL_ASSIGN_OR_RETURN(const data::DatasetPtr dataset, data.dataset.make({data.root, data::Split::kHeldOut}));  // may be empty, unlike open_data's
  FGVL_ASSIGN_OR_RETURN(const eval::Inference inference, eval::Inference::make(model, texts, data.image));
  std::vector<eval::ReportPicture> pictures;
  for (std::int64_t i = 0; i < dataset->size() && static_cast<std::int64_t>(pictures.size()) < count; ++i) {
    const auto record = dataset->get(i);
    if (!record.ok()) continue;
    const auto image = data::record_image(*record);
    if (!image.ok()) continue;
    // The region whose turn it is, so that pictures show different kinds.
    std::vector<const data::Region*> unique;
    for (const data::Region& region : record->regions) {
      if (region.texts.empty() || !data::usable_box(region.box, image->width, image->height).ok()) continue;
      const auto same = std::count_if(record->regions.begin(), record->regions.end(), [&](const data::Region& other) { return !other.texts.empty() && other.texts[0] == region.texts[0]; });
      if (same == 1) unique.push_back(&region);
    }
    if (unique.empty()) continue;
    const data::Region& region = *unique[pictures.size() % unique.size()];
    eval::ReportPicture picture;
    std::vector<eval::DrawnBox> boxes = {{region.box, "", kTrue}};
    picture.lines = {{"text", region.texts[0]}};
    if (with_predictions) {
      if (const absl::StatusOr<eval::EncodedTexts> encoded = inference.encode_texts_to_ground({region.texts[0]}); encoded.ok()) {
        const data::PixelBox predicted = inference.ground({*image}, *encoded, {.region_itc = false}).at(0).at(0).box;
        boxes.push_back({predicted, "", kPredicted});
        picture.lines.emplace_back("overlap (IoU)", absl::StrFormat("%.2f", eval::box_iou(region.box, predicted)));
      } else {
        picture.lines.emplace_back("nothing predicted", std::string(encoded.status().message()));
      }
    }
    picture.image = eval::draw(*image, {.boxes = boxes, .min_side = 256});
    picture.lines.emplace_back("picture", record->key);
    pictures.push_back(std::move(picture));
  }
  return pictures;
}

std::string pictures_caption(bool with_predictions) {
  return with_predictions ? "Green: the true box. Orange: the box predicted from the text on the whole picture." : "Green: the true box. Nothing was predicted: this run trained without a box loss.";
}

std::string environment_text(const std::string& device) {
  const std::time_t now = std::time(nullptr);
  char date[32];
  std::strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", std::gmtime(&now));
  return absl::StrCat("fgvl ", kVersion, " · ", date, " · device ", device, ", ", at::get_num_threads(), " threads · LibTorch ", TORCH_VERSION);
}

}  // namespace fgvl::app
