#include "run_report.hpp"

#include <ctime>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <ATen/Parallel.h>
#include <torch/version.h>

#include "fgvl/core/boxes.hpp"
#include "fgvl/core/version.hpp"
#include "fgvl/eval/grounding.hpp"

namespace fgvl::app {
namespace {

constexpr std::array<std::uint8_t, 3> kTrue = {60, 200, 110}, kPredicted = {255, 150, 40};

double iou(const data::PixelBox& a, const data::PixelBox& b) {
  const auto tensor = [](const data::PixelBox& box) { return at::tensor(at::ArrayRef<double>(box.data(), 4), at::kDouble).view({1, 4}); };
  return paired_iou(tensor(a), tensor(b)).item<double>();
}

}  // namespace

absl::StatusOr<eval::ReportArm> report_arm(const std::string& name, const std::string& description, const std::string& folder, const train::TrainResult& result) {
  eval::ReportArm arm{name, description, {}, result.metrics, result.seconds, result.images_per_second, {}};
  FGVL_ASSIGN_OR_RETURN(arm.history, eval::read_history(folder + "/metrics.jsonl"));
  arm.skipped.assign(result.counts.skipped.begin(), result.counts.skipped.end());
  return arm;
}

absl::StatusOr<std::vector<eval::ReportPicture>> report_pictures(const train::ProbeInput& model, const data::DataConfig& data, const data::TextPipeline& texts, data::Split split, std::int64_t count) {
  FGVL_ASSIGN_OR_RETURN(const data::DatasetPtr dataset, data::open_data(data, split));
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
    const auto grounded = eval::ground(model, texts, data.image, *image, {region.texts[0]});
    if (!grounded.ok()) return grounded.status();
    const eval::Grounding& found = grounded->front();
    eval::ReportPicture picture;
    picture.image = eval::draw_boxes(*image, {{region.box, "", kTrue}, {found.box, "", kPredicted}}, 256);
    picture.lines = {{"text", region.texts[0]}, {"overlap (IoU)", absl::StrFormat("%.2f", iou(region.box, found.box))}, {"picture", record->key}};
    pictures.push_back(std::move(picture));
  }
  return pictures;
}

std::string environment_text(const std::string& device) {
  const std::time_t now = std::time(nullptr);
  char date[32];
  std::strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", std::gmtime(&now));
  return absl::StrCat("fgvl ", kVersion, " · ", date, " · device ", device, ", ", at::get_num_threads(), " threads · LibTorch ", TORCH_VERSION);
}

}  // namespace fgvl::app
