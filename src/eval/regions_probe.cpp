// Labels from regions.
#include <algorithm>
#include <cmath>
#include <map>

#include <absl/strings/str_cat.h>
#include <torch/torch.h>

#include "eval/scored_regions.hpp"
#include "fgvl/eval/probes.hpp"
#include "fgvl/eval/query.hpp"
#include "train/inference_scope.hpp"

namespace fgvl::eval {
namespace {

/// Mean over classes of the share of each class that was recognised.
struct Recall {
  std::map<std::string, std::pair<std::int64_t, std::int64_t>> by_class;  ///< right, seen
  void add(const std::string& truth, bool right) {
    auto& [hits, seen] = by_class[truth];
    hits += right ? 1 : 0;
    ++seen;
  }
  double balanced() const {
    double sum = 0;
    for (const auto& [label, counts] : by_class) sum += static_cast<double>(counts.first) / static_cast<double>(counts.second);
    return by_class.empty() ? 0 : sum / static_cast<double>(by_class.size());
  }
  std::int64_t n() const {
    std::int64_t total = 0;
    for (const auto& [label, counts] : by_class) total += counts.second;
    return total;
  }
};

constexpr char kNoLabel[] = "region with a label in the scored split";

class RegionsProbe final : public train::Probe {
 public:
  RegionsProbe(const RegionsOptions& options, const train::ProbeContext& context, data::DatasetPtr dataset) : options_(options), context_(context), dataset_(std::move(dataset)) {}

  absl::StatusOr<train::Metrics> run(const train::ProbeInput& input) override {
    const train::InferenceScope scope(input.model, input.criterion);
    if (!scored_) {
      ScoredData scored = read_regions(*dataset_, context_.data->image, {.max_images = options_.max_images, .window_pixels = options_.window_pixels});
      std::erase_if(scored.regions, [](const ScoredRegion& region) { return region.label.empty(); });
      if (scored.regions.empty()) return nothing_to_score("regions", *context_.data, kNoLabel);
      scored_ = std::make_unique<ScoredData>(std::move(scored));
      dataset_.reset();  // read once
      FGVL_RETURN_IF_ERROR(read_baselines());
    }
    std::map<std::string, std::string> text_of;  // label -> text
    for (const ScoredRegion& region : scored_->regions) text_of.emplace(region.label, region.text);
    train::Metrics metrics;
    for (const bool fixed : {false, true}) {
      FGVL_ASSIGN_OR_RETURN(const Recall recall, classify(input, text_of, fixed));
      const std::string name = fixed ? "regions/fixed_window/" : "regions/true_box/";
      metrics.emplace_back(name + "balanced_accuracy", recall.balanced());
      metrics.emplace_back(name + "n", recall.n());
      for (const auto& [label, counts] : recall.by_class) {
        metrics.emplace_back(absl::StrCat(name, "per_class/", train::metric_part(label), "/accuracy"), static_cast<double>(counts.first) / static_cast<double>(counts.second));
        metrics.emplace_back(absl::StrCat(name, "per_class/", train::metric_part(label), "/n"), counts.second);
      }
    }
    metrics.emplace_back("regions/baselines/majority", majority_);
    metrics.emplace_back("regions/baselines/box_area", box_area_);
    metrics.emplace_back("region_images", static_cast<std::int64_t>(scored_->images.size()));
    metrics.emplace_back("region_images_of", scored_->records);
    return metrics;
  }

 private:
  absl::StatusOr<Recall> classify(const train::ProbeInput& input, const std::map<std::string, std::string>& text_of, bool fixed) const {
    std::vector<std::string> labels;
    for (const auto& [label, text] : text_of) labels.push_back(label);
    Recall recall;
    FGVL_RETURN_IF_ERROR(each_batch(*scored_, [&](std::size_t begin, std::size_t end, const Tensor& images, const std::vector<std::int64_t>& rows) -> absl::Status {
      std::vector<QueryText> texts;
      for (std::size_t i = begin; i < end; ++i) {
        const ScoredRegion& region = scored_->regions[i];
        texts.push_back({.image = rows[i - begin], .text = region.text, .box = fixed ? region.window : region.box, .is_region = true});
      }
      for (const auto& [label, text] : text_of) texts.push_back({.image = 0, .text = text});
      FGVL_ASSIGN_OR_RETURN(RegionBatch batch, make_query(images, texts, *context_.texts));
      const auto pass = input.model.begin(batch.to(input.device));
      const auto count = static_cast<std::int64_t>(end - begin);
      const Tensor scores = at::matmul(pass->regions().features.slice(0, 0, count), pass->text().features.slice(0, count).t());
      const Tensor best = scores.argmax(1).cpu().contiguous();
      for (std::size_t i = begin; i < end; ++i) {
        recall.add(scored_->regions[i].label, labels[static_cast<std::size_t>(best.const_data_ptr<std::int64_t>()[i - begin])] == scored_->regions[i].label);
      }
      return absl::OkStatus();
    }));
    return recall;
  }

  /// Fitted on the training split, where baseline_data gives one: the commonest class, and one normal distribution of the logarithm of the area a class, all classes equally likely.
  absl::Status read_baselines() {
    FGVL_ASSIGN_OR_RETURN(const data::DatasetPtr dataset, baseline_data(context_));
    if (!dataset) return absl::OkStatus();
    const ScoredData train = read_regions(*dataset, context_.data->image, {.max_images = options_.max_images, .window_pixels = options_.window_pixels, .with_images = false});
    struct Fit {
      double n = 0, sum = 0, squares = 0;
    };
    std::map<std::string, Fit> fits;
    for (const ScoredRegion& region : train.regions) {
      if (region.label.empty()) continue;
      Fit& fit = fits[region.label];
      fit.n += 1;
      fit.sum += region.log_area;
      fit.squares += region.log_area * region.log_area;
    }
    if (fits.empty()) return absl::OkStatus();
    const auto commonest = std::max_element(fits.begin(), fits.end(), [](const auto& a, const auto& b) { return a.second.n < b.second.n; })->first;
    Recall by_count, by_area;
    for (const ScoredRegion& region : scored_->regions) {
      std::string best;
      double best_score = -INFINITY;
      for (const auto& [label, fit] : fits) {
        const double mean = fit.sum / fit.n, variance = std::max(1e-6, fit.squares / fit.n - mean * mean);
        const double score = -0.5 * std::log(variance) - (region.log_area - mean) * (region.log_area - mean) / (2 * variance);
        if (score > best_score) std::tie(best_score, best) = std::pair(score, label);
      }
      by_count.add(region.label, region.label == commonest);
      by_area.add(region.label, region.label == best);
    }
    majority_ = by_count.balanced();
    box_area_ = by_area.balanced();
    return absl::OkStatus();
  }

  RegionsOptions options_;
  train::ProbeContext context_;
  data::DatasetPtr dataset_;
  std::unique_ptr<ScoredData> scored_;
  train::MetricValue majority_{}, box_area_{};
};

}  // namespace

void visit_fields(config::Visitor& visitor, RegionsOptions& options) {
  visitor("window_pixels", options.window_pixels, "side of the fixed window, in pixels of the original picture", config::kPositive);
  visitor("max_images", options.max_images, "scored; 0: all", config::kNonNegative);
}

absl::StatusOr<train::ProbePtr> make_probe(const RegionsOptions& options, const train::ProbeContext& context) {
  const auto has_label = [](const data::Record&, const data::Region& region) { return !region.label.empty() && !region.texts.empty(); };
  FGVL_ASSIGN_OR_RETURN(data::DatasetPtr dataset, scored_data("regions", context, kNoLabel, has_label));
  return std::make_shared<RegionsProbe>(options, context, std::move(dataset));
}

}  // namespace fgvl::eval
