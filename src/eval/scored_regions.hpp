#pragma once
#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <vector>

#include <ATen/ATen.h>

#include "fgvl/train/probe.hpp"

namespace fgvl::eval {

/// A region that a probe scores.
struct ScoredRegion {
  std::size_t image = 0;
  std::string label, text;
  std::array<float, 4> box{};         ///< cxcywh in units of the image side
  std::array<float, 4> window{};      ///< the fixed window, likewise
  double log_area = 0;                ///< of the box in pixels
  bool is_unambiguous = true;         ///< no other region of the picture has this text
};

struct ScoredData {
  std::vector<Tensor> images;
  std::vector<ScoredRegion> regions;
  std::int64_t records = 0;  ///< looked at; images.size() of them could be read
};

struct ReadOptions {
  std::int64_t max_images = 0;  ///< 0: all
  double window_pixels = 0;     ///< side of the fixed window
  bool with_images = true;      ///< false: boxes and labels only, for baselines
};
/// Usable regions of a dataset.
ScoredData read_regions(const data::Dataset& dataset, const data::ImageOptions& image, const ReadOptions& options);

/// What the baselines are fitted on: the training split, and only where something else is scored and there is one. Null: no baselines.
absl::StatusOr<data::DatasetPtr> baseline_data(const train::ProbeContext& context);

/// The scored split, when it exists and some region in it satisfies `usable`; NotFound (exit code 3) with `what` otherwise. Asked before training, so
/// that a run does not end with nothing to score.
absl::StatusOr<data::DatasetPtr> scored_data(const char* probe, const train::ProbeContext& context, const char* what, bool (*usable)(const data::Record& record, const data::Region& region));
absl::Status nothing_to_score(const char* probe, const data::DataConfig& config, const char* what);

/// Calls `use(first region, past last, batch of their images, image of each region in it)` over regions in order.
template <class F>
absl::Status each_batch(const ScoredData& scored, F&& use) {
  constexpr std::size_t kBatch = 64;
  for (std::size_t begin = 0; begin < scored.regions.size();) {
    std::size_t end = begin;
    std::vector<Tensor> images;
    std::vector<std::int64_t> rows;
    std::size_t last_image = static_cast<std::size_t>(-1);
    while (end < scored.regions.size() && (images.size() < kBatch || scored.regions[end].image == last_image)) {
      if (scored.regions[end].image != last_image) {
        last_image = scored.regions[end].image;
        images.push_back(scored.images[last_image]);
      }
      rows.push_back(static_cast<std::int64_t>(images.size()) - 1);
      ++end;
    }
    FGVL_RETURN_IF_ERROR(use(begin, end, at::stack(images), rows));
    begin = end;
  }
  return absl::OkStatus();
}

}  // namespace fgvl::eval
