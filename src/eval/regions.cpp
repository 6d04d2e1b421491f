// Probes that read the regions of real or generated records: boxes from texts, and labels from regions.
#include <algorithm>
#include <cmath>
#include <map>

#include <absl/strings/str_cat.h>
#include <torch/torch.h>

#include "eval/inference_scope.hpp"
#include "fgvl/core/boxes.hpp"
#include "fgvl/eval/grounding.hpp"
#include "fgvl/eval/probes.hpp"

namespace fgvl::eval {
namespace {

constexpr std::size_t kBatch = 64;

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

std::array<float, 4> relative(const data::PixelBox& box, const data::Image& image) {
  const double w = static_cast<double>(image.width), h = static_cast<double>(image.height);
  return {static_cast<float>((box[0] + box[2]) / 2 / w), static_cast<float>((box[1] + box[3]) / 2 / h), static_cast<float>((box[2] - box[0]) / w), static_cast<float>((box[3] - box[1]) / h)};
}

/// Usable regions of a split; `with_images` false: boxes and labels only, for baselines.
absl::StatusOr<ScoredData> read_split(const data::DataConfig& config, data::Split split, std::int64_t max_images, double window_pixels, bool with_images) {
  FGVL_ASSIGN_OR_RETURN(const data::DatasetPtr dataset, data::open_data(config, split));
  const std::int64_t count = max_images > 0 ? std::min(max_images, dataset->size()) : dataset->size();
  ScoredData scored;
  scored.records = count;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto record = dataset->get(i);
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
      const double x = ((*box)[0] + (*box)[2]) / 2, y = ((*box)[1] + (*box)[3]) / 2, half = window_pixels / 2;
      scored.regions.push_back({scored.images.size(), region.label, region.texts[0], relative(*box, *image), relative({x - half, y - half, x + half, y + half}, *image),
                                std::log(((*box)[2] - (*box)[0]) * ((*box)[3] - (*box)[1])), carriers[region.texts[0]] == 1});
    }
    scored.images.push_back(with_images ? data::model_input(*image, config.image) : Tensor());
  }
  return scored;
}

absl::Status nothing_to_score(const char* probe, const data::DataConfig& config, const char* what) {
  return with_exit_code(absl::NotFoundError(absl::StrCat(probe, ": ", config.root.empty() ? config.dataset.type() : config.root, " has no ", what)), ExitCode::kData);
}

/// Calls `use(first region, past last, batch of their images)` over regions in order; images are those of the regions.
template <class F>
absl::Status each_batch(const ScoredData& scored, F&& use) {
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

double iou(const std::array<float, 4>& a, const std::array<float, 4>& b) {
  const auto tensor = [](const std::array<float, 4>& box) { return cxcywh_to_xyxy(torch::tensor({box[0], box[1], box[2], box[3]}, torch::kFloat64).view({1, 4})); };
  return paired_iou(tensor(a), tensor(b)).item<double>();
}

struct BoxTally {
  double iou = 0, hits = 0, constant_iou = 0;
  std::int64_t n = 0;
};

class BoxesProbe final : public train::Probe {
 public:
  BoxesProbe(const BoxesOptions& options, const train::ProbeContext& context) : options_(options), context_(context) {}

  absl::StatusOr<train::Metrics> run(const train::ProbeInput& input) override {
    const InferenceScope scope(input.model, input.criterion);
    if (!scored_) {
      FGVL_ASSIGN_OR_RETURN(ScoredData scored, read_split(*context_.data, context_.split, options_.max_images, 0, true));
      std::erase_if(scored.regions, [](const ScoredRegion& region) { return !region.is_unambiguous; });
      if (scored.regions.empty()) return nothing_to_score("boxes", *context_.data, "region in this split whose text names it alone");
      scored_ = std::make_unique<ScoredData>(std::move(scored));
      FGVL_RETURN_IF_ERROR(read_constant_boxes());
    }
    BoxTally all;
    std::map<std::string, BoxTally> by_label;
    FGVL_RETURN_IF_ERROR(each_batch(*scored_, [&](std::size_t begin, std::size_t end, const Tensor& images, const std::vector<std::int64_t>& rows) -> absl::Status {
      std::vector<QueryText> texts;
      for (std::size_t i = begin; i < end; ++i) texts.push_back({.image = rows[i - begin], .text = scored_->regions[i].text});
      FGVL_ASSIGN_OR_RETURN(RegionBatch batch, make_query(images, texts, *context_.texts));
      batch = batch.to(input.device);
      const auto pass = input.model.begin(batch);
      const Tensor boxes = pass->predicted_boxes(at::arange(batch.text_count(), batch.text_to_image.options())).cpu().to(at::kFloat).contiguous();
      for (std::size_t i = begin; i < end; ++i) {
        const ScoredRegion& region = scored_->regions[i];
        const float* box = boxes.const_data_ptr<float>() + (i - begin) * 4;
        const double overlap = iou({box[0], box[1], box[2], box[3]}, region.box);
        const auto constant = constant_boxes_.find(region.label);
        for (BoxTally* tally : {&all, &by_label[region.label]}) {
          tally->iou += overlap;
          tally->hits += overlap >= 0.5 ? 1 : 0;
          tally->constant_iou += constant == constant_boxes_.end() ? 0 : iou(constant->second, region.box);
          ++tally->n;
        }
      }
      return absl::OkStatus();
    }));
    train::Metrics metrics;
    const double count = static_cast<double>(all.n);
    metrics.emplace_back("box_mean_iou", all.iou / count);
    metrics.emplace_back("box_hit_at_0.5", all.hits / count);
    metrics.emplace_back("box_n", all.n);
    metrics.emplace_back("box_images", static_cast<std::int64_t>(scored_->images.size()));
    metrics.emplace_back("box_images_of", scored_->records);
    if (static_cast<std::int64_t>(by_label.size()) > options_.max_labels) return metrics;
    for (const auto& [label, tally] : by_label) {
      if (label.empty() || (!options_.labels.empty() && std::find(options_.labels.begin(), options_.labels.end(), label) == options_.labels.end())) continue;
      const double n = static_cast<double>(tally.n);
      const std::string name = absl::StrCat("boxes/", label, "/");
      metrics.emplace_back(name + "mean_iou", tally.iou / n);
      metrics.emplace_back(name + "hit_at_0.5", tally.hits / n);
      metrics.emplace_back(name + "n", tally.n);
      metrics.emplace_back(name + "constant_box_iou", tally.constant_iou / n);
    }
    return metrics;
  }

 private:
  /// The mean box of each label over the training split, of texts that name one region.
  absl::Status read_constant_boxes() {
    FGVL_ASSIGN_OR_RETURN(const ScoredData train, read_split(*context_.data, data::Split::kTrain, options_.max_images, 0, false));
    std::map<std::string, std::pair<std::array<double, 4>, double>> sums;
    for (const ScoredRegion& region : train.regions) {
      if (!region.is_unambiguous) continue;
      auto& [sum, n] = sums[region.label];
      for (std::size_t k = 0; k < 4; ++k) sum[k] += region.box[k];
      n += 1;
    }
    for (const auto& [label, entry] : sums) {
      for (std::size_t k = 0; k < 4; ++k) constant_boxes_[label][k] = static_cast<float>(entry.first[k] / entry.second);
    }
    return absl::OkStatus();
  }

  BoxesOptions options_;
  train::ProbeContext context_;
  std::unique_ptr<ScoredData> scored_;
  std::map<std::string, std::array<float, 4>> constant_boxes_;
};

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

class RegionsProbe final : public train::Probe {
 public:
  RegionsProbe(const RegionsOptions& options, const train::ProbeContext& context) : options_(options), context_(context) {}

  absl::StatusOr<train::Metrics> run(const train::ProbeInput& input) override {
    const InferenceScope scope(input.model, input.criterion);
    if (!scored_) {
      FGVL_ASSIGN_OR_RETURN(ScoredData scored, read_split(*context_.data, context_.split, options_.max_images, options_.window_pixels, true));
      std::erase_if(scored.regions, [](const ScoredRegion& region) { return region.label.empty(); });
      if (scored.regions.empty()) return nothing_to_score("regions", *context_.data, "region with a label in this split");
      scored_ = std::make_unique<ScoredData>(std::move(scored));
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
        metrics.emplace_back(absl::StrCat(name, "per_class/", label, "/accuracy"), static_cast<double>(counts.first) / static_cast<double>(counts.second));
        metrics.emplace_back(absl::StrCat(name, "per_class/", label, "/n"), counts.second);
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

  /// Fitted on the training split: the commonest class, and one normal distribution of the logarithm of the area a class, all classes equally likely.
  absl::Status read_baselines() {
    FGVL_ASSIGN_OR_RETURN(const ScoredData train, read_split(*context_.data, data::Split::kTrain, options_.max_images, options_.window_pixels, false));
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
    if (fits.empty()) return nothing_to_score("regions", *context_.data, "region with a label in the training split, from which the baselines are fitted");
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
  std::unique_ptr<ScoredData> scored_;
  double majority_ = 0, box_area_ = 0;
};

}  // namespace

void visit_fields(config::Visitor& visitor, BoxesOptions& options) {
  visitor("max_images", options.max_images, "scored; 0: all", config::kNonNegative);
  visitor("max_labels", options.max_labels, "with more labels than this only the mean over all is given", config::kNonNegative);
  visitor("labels", options.labels, "only these; empty: all");
}

void visit_fields(config::Visitor& visitor, RegionsOptions& options) {
  visitor("window_pixels", options.window_pixels, "side of the fixed window, in pixels of the original picture", config::kPositive);
  visitor("max_images", options.max_images, "scored; 0: all", config::kNonNegative);
}

absl::StatusOr<train::ProbePtr> make_probe(const BoxesOptions& options, const train::ProbeContext& context) { return std::make_shared<BoxesProbe>(options, context); }
absl::StatusOr<train::ProbePtr> make_probe(const RegionsOptions& options, const train::ProbeContext& context) { return std::make_shared<RegionsProbe>(options, context); }

std::shared_ptr<train::ProbeRegistry> builtin_probes() {
  auto registry = std::make_shared<train::ProbeRegistry>();
  const auto add = [&]<class O>(const char* name, const O& defaults) {
    registry->add(name, [](const O& options, const train::ProbeContext& context) { return make_probe(options, context); }, defaults);
  };
  add("skills", SkillsOptions{});
  add("boxes", BoxesOptions{});
  add("regions", RegionsOptions{});
  return registry;
}

}  // namespace fgvl::eval
