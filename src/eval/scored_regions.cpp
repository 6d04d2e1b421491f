#include "eval/scored_regions.hpp"

#include <cmath>

#include <absl/strings/str_cat.h>

namespace fgvl::eval {
namespace {

std::array<float, 4> relative(const data::PixelBox& box, const data::Image& image) {
  const double w = static_cast<double>(image.width), h = static_cast<double>(image.height);
  return {static_cast<float>((box[0] + box[2]) / 2 / w), static_cast<float>((box[1] + box[3]) / 2 / h), static_cast<float>((box[2] - box[0]) / w), static_cast<float>((box[3] - box[1]) / h)};
}

}  // namespace

ScoredData read_regions(const data::Dataset& dataset, const data::ImageOptions& image_options, const ReadOptions& options) {
  const std::int64_t count = options.max_images > 0 ? std::min(options.max_images, dataset.size()) : dataset.size();
  ScoredData scored;
  scored.records = count;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto record = dataset.get(i);
    if (!record.ok()) continue;
    const auto image = data::record_image(*record);
    if (!image.ok()) continue;
    std::map<std::string, int> carriers;
    for (const data::Region& region : record->regions) {
      for (const std::string& text : region.texts) ++carriers[text];
    }
    for (const data::Region& region : record->regions) {
      const auto box = data::usable_box(region.box, image->width, image->height);
      if (!box.ok() || region.texts.empty()) continue;
      const double x = ((*box)[0] + (*box)[2]) / 2, y = ((*box)[1] + (*box)[3]) / 2, half = options.window_pixels / 2;
      scored.regions.push_back({scored.images.size(), region.label, region.texts[0], relative(*box, *image), relative({x - half, y - half, x + half, y + half}, *image),
                                std::log(((*box)[2] - (*box)[0]) * ((*box)[3] - (*box)[1])), carriers[region.texts[0]] == 1});
    }
    scored.images.push_back(options.with_images ? data::model_input(*image, image_options) : Tensor());
  }
  return scored;
}

absl::StatusOr<data::DatasetPtr> baseline_data(const train::ProbeContext& context) {
  if (context.split != data::Split::kHeldOut) return data::DatasetPtr();
  FGVL_ASSIGN_OR_RETURN(data::DatasetPtr train, context.data->dataset.make({context.data->root, data::Split::kTrain}));  // may be empty, unlike open_data's
  return train->size() > 0 ? train : data::DatasetPtr();
}

absl::Status nothing_to_score(const char* probe, const data::DataConfig& config, const char* what) {
  return with_exit_code(absl::NotFoundError(absl::StrCat(probe, ": ", config.root.empty() ? config.dataset.type() : config.root, " has no ", what)), ExitCode::kData);
}

absl::StatusOr<data::DatasetPtr> scored_data(const char* probe, const train::ProbeContext& context, const char* what, bool (*usable)(const data::Record&, const data::Region&)) {
  FGVL_ASSIGN_OR_RETURN(data::DatasetPtr dataset, context.data->dataset.make({context.data->root, context.split}));
  if (dataset->size() == 0) return nothing_to_score(probe, *context.data, "record in the split that is scored; hold some out (held_out_every), or remove the probe with null");
  for (std::int64_t i = 0; i < dataset->size(); ++i) {
    const auto record = dataset->get(i);
    if (!record.ok()) continue;
    for (const data::Region& region : record->regions) {
      if (usable(*record, region)) return dataset;
    }
  }
  return nothing_to_score(probe, *context.data, what);
}

}  // namespace fgvl::eval
