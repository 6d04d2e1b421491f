// Boxes from texts.
#include <algorithm>
#include <map>

#include <absl/strings/str_cat.h>
#include <torch/torch.h>

#include "eval/asked_places.hpp"
#include "eval/find_term.hpp"
#include "eval/scored_regions.hpp"
#include "fgvl/eval/grounding.hpp"
#include "fgvl/eval/probes.hpp"
#include "fgvl/eval/query.hpp"
#include "train/inference_scope.hpp"

namespace fgvl::eval {
namespace {

struct BoxTally {
  double iou = 0, hits = 0, constant_iou = 0;
  std::int64_t n = 0;
};

constexpr char kNoText[] = "region in the scored split whose text names it alone";

/// Whether no other region of the record shares its first text.
bool has_own_text(const data::Record& record, const data::Region& region) {
  if (region.texts.empty()) return false;
  const auto carriers = std::count_if(record.regions.begin(), record.regions.end(), [&](const data::Region& other) { return std::count(other.texts.begin(), other.texts.end(), region.texts[0]) > 0; });
  return carriers == 1;
}

data::PixelBox corners(const std::array<float, 4>& box) { return {box[0] - box[2] / 2.0, box[1] - box[3] / 2.0, box[0] + box[2] / 2.0, box[1] + box[3] / 2.0}; }

class BoxesProbe final : public train::Probe {
 public:
  BoxesProbe(const BoxesOptions& options, const train::ProbeContext& context, data::DatasetPtr dataset) : options_(options), context_(context), dataset_(std::move(dataset)) {}

  absl::StatusOr<train::Metrics> run(const train::ProbeInput& input) override {
    if (input.model.spec().fusion_width == 0) return absl::InvalidArgumentError("boxes: this model has no fusion encoder (model.fusion.type is none), from which boxes are predicted");
    const FeatureSpec spec = input.model.spec();
    losses::WordPredictor* words = nullptr;
    if (!spec.has_box_head) {
      FGVL_ASSIGN_OR_RETURN(words, find_term<losses::WordPredictor>(input.criterion, options_.masked_language, "masked_language"));
      if (words == nullptr || spec.first_position_id < 0) {
        return absl::InvalidArgumentError("boxes: this model predicts none: it has no box head (model.box_head), and no position tokens (data.tokenizer.options.position_tokens) with a masked_language term that predicts them");
      }
    }
    const train::InferenceScope scope(input.model, input.criterion);
    if (!scored_) {
      ScoredData scored = read_regions(*dataset_, context_.data->image, {.max_images = options_.max_images});
      std::erase_if(scored.regions, [](const ScoredRegion& region) { return !region.is_unambiguous; });
      if (words != nullptr) {
        without_room_ = static_cast<std::int64_t>(std::erase_if(scored.regions, [&](const ScoredRegion& region) { return !ask_places({region.text}, *context_.texts, spec.first_position_id, at::kCPU).ok(); }));
      }
      if (scored.regions.empty()) return nothing_to_score("boxes", *context_.data, kNoText);
      scored_ = std::make_unique<ScoredData>(std::move(scored));
      dataset_.reset();  // read once
      FGVL_RETURN_IF_ERROR(read_constant_boxes());
    }
    BoxTally all;
    std::map<std::string, BoxTally> by_label;
    FGVL_RETURN_IF_ERROR(each_batch(*scored_, [&](std::size_t begin, std::size_t end, const Tensor& images, const std::vector<std::int64_t>& rows) -> absl::Status {
      FGVL_ASSIGN_OR_RETURN(const Tensor boxes, predicted_boxes(input, words, begin, end, images, rows));
      for (std::size_t i = begin; i < end; ++i) {
        const ScoredRegion& region = scored_->regions[i];
        const float* box = boxes.const_data_ptr<float>() + (i - begin) * 4;
        const double iou = box_iou(corners({box[0], box[1], box[2], box[3]}), corners(region.box));
        const auto constant = constant_boxes_.find(region.label);
        for (BoxTally* tally : {&all, &by_label[region.label]}) {
          tally->iou += iou;
          tally->hits += iou >= 0.5 ? 1 : 0;
          tally->constant_iou += constant == constant_boxes_.end() ? 0 : box_iou(corners(constant->second), corners(region.box));
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
    if (words != nullptr) metrics.emplace_back("box_without_room", without_room_);
    metrics.emplace_back("box_images", static_cast<std::int64_t>(scored_->images.size()));
    metrics.emplace_back("box_images_of", scored_->records);
    if (static_cast<std::int64_t>(by_label.size()) > options_.max_labels) return metrics;
    for (const auto& [label, tally] : by_label) {
      if (label.empty() || (!options_.labels.empty() && std::find(options_.labels.begin(), options_.labels.end(), label) == options_.labels.end())) continue;
      const double n = static_cast<double>(tally.n);
      const std::string name = absl::StrCat("boxes/", train::metric_part(label), "/");
      metrics.emplace_back(name + "mean_iou", tally.iou / n);
      metrics.emplace_back(name + "hit_at_0.5", tally.hits / n);
      metrics.emplace_back(name + "n", tally.n);
      metrics.emplace_back(name + "constant_box_iou", has_baseline_ ? train::MetricValue(tally.constant_iou / n) : train::MetricValue());
    }
    return metrics;
  }

 private:
  /// [T, 4] float32 cxcywh on the CPU, of the regions [begin, end) on `images`; `words` where position tokens say where they are.
  absl::StatusOr<Tensor> predicted_boxes(const train::ProbeInput& input, losses::WordPredictor* words, std::size_t begin, std::size_t end, const Tensor& images, const std::vector<std::int64_t>& rows) const {
    std::vector<std::string> texts;
    std::vector<QueryText> queries;
    for (std::size_t i = begin; i < end; ++i) {
      texts.push_back(scored_->regions[i].text);
      queries.push_back({.image = rows[i - begin], .text = texts.back()});
    }
    FGVL_ASSIGN_OR_RETURN(RegionBatch batch, make_query(images, queries, *context_.texts));
    batch = batch.to(input.device);
    const auto pass = input.model.begin(batch);
    const Tensor all = at::arange(batch.text_count(), batch.text_to_image.options());
    if (words == nullptr) return pass->predicted_boxes(all).to(at::kCPU, at::kFloat).contiguous();
    FGVL_ASSIGN_OR_RETURN(const AskedPlaces places, ask_places(texts, *context_.texts, input.model.spec().first_position_id, input.device));
    return boxes_of_places(input.model, *words, pass->image(), places, all, batch.text_to_image).to(at::kCPU, at::kFloat).contiguous();
  }

  /// The mean box of each label over the training split, of texts that name one region.
  absl::Status read_constant_boxes() {
    FGVL_ASSIGN_OR_RETURN(const data::DatasetPtr dataset, baseline_data(context_));
    has_baseline_ = dataset != nullptr;
    if (!has_baseline_) return absl::OkStatus();
    const ScoredData train = read_regions(*dataset, context_.data->image, {.max_images = options_.max_images, .with_images = false});
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
  data::DatasetPtr dataset_;
  std::unique_ptr<ScoredData> scored_;
  bool has_baseline_ = false;
  std::int64_t without_room_ = 0;  ///< regions that are not scored, because their texts leave no room for position tokens
  std::map<std::string, std::array<float, 4>> constant_boxes_;
};

}  // namespace

void visit_fields(config::Visitor& visitor, BoxesOptions& options) {
  visitor("max_images", options.max_images, "scored; 0: all", config::kNonNegative);
  visitor("max_labels", options.max_labels, "with more labels than this only the mean over all is given", config::kNonNegative);
  visitor("labels", options.labels, "only these; empty: all");
  visitor("masked_language", options.masked_language, "the masked_language term that predicts position tokens, for models that say so where a text points; empty: the first");
}

absl::StatusOr<train::ProbePtr> make_probe(const BoxesOptions& options, const train::ProbeContext& context) {
  FGVL_ASSIGN_OR_RETURN(data::DatasetPtr dataset, scored_data("boxes", context, kNoText, has_own_text));
  return std::make_shared<BoxesProbe>(options, context, std::move(dataset));
}

}  // namespace fgvl::eval
