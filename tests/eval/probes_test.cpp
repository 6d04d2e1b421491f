#include <torch/torch.h>

#include "fgvl/eval/grounding.hpp"
#include "fgvl/eval/probes.hpp"
#include "fgvl/losses/contrastive.hpp"
#include "fgvl/losses/matching.hpp"
#include "support/catch.hpp"

namespace fgvl::eval {
namespace {

/// A model of which only the whole-picture score and the predicted boxes are asked. `score` sees token ids and picture.
class Oracle final : public models::Model {
 public:
  using Score = std::function<double(const Tensor& ids, const Tensor& image)>;
  explicit Oracle(Score score) : score_(std::move(score)) {}
  FeatureSpec spec() const override { return {.fusion_width = 2, .embed_dim = 2, .vocab_size = 100}; }
  std::unique_ptr<ForwardPass> begin(const RegionBatch& batch, const models::PassOptions&) override { return std::make_unique<Pass>(batch, score_); }

 private:
  class Pass final : public ForwardPass {
   public:
    Pass(const RegionBatch& batch, const Score& score) : batch_(batch), collective_(make_single_process()) {
      matched_ = torch::zeros({batch.text_count(), 2});
      for (std::int64_t row = 0; row < batch.text_count(); ++row) {
        CHECK_FALSE(batch.is_region[row].item<bool>());  // no box is given
        matched_[row][1] = score(batch.text_ids[row], batch.images[batch.text_to_image[row].item<std::int64_t>()]);
      }
      boxes_ = torch::tensor({0.5f, 0.5f, 0.5f, 0.5f}).repeat({batch.text_count(), 1});
    }
    const RegionBatch& batch() const override { return batch_; }
    const ImageFeatures& image() override { return image_; }
    const RegionFeatures& regions() override { return regions_; }
    const TextFeatures& text() override { return text_; }
    const TextFeatures& masked_text() override { return text_; }
    const TextFeatures& foil_text() override { return text_; }
    Tensor fuse(const FusionQuery&) override { return matched_.unsqueeze(1); }
    const Tensor& matched() override { return matched_; }
    Tensor predicted_boxes(const Tensor& rows) override { return boxes_.index_select(0, rows); }
    const Tensor& word_embedding() const override { return matched_; }
    bool training() const override { return false; }
    Generator generator(std::string_view purpose) const override { return Generator({.purpose = purpose}); }
    Collective& collective() const override { return *collective_; }

   private:
    RegionBatch batch_;
    CollectivePtr collective_;
    ImageFeatures image_{};
    RegionFeatures regions_{};
    TextFeatures text_{};
    Tensor matched_, boxes_;
  };
  Score score_;
};

/// Passes fused tokens through as logits.
class Identity final : public losses::LossTerm, public losses::PairScorer {
 public:
  losses::Loss forward(ForwardPass&) override { return {}; }
  Tensor pair_logits(const Tensor& tokens) override { return tokens; }
};

struct Setting {
  std::shared_ptr<data::DataConfig> config = std::make_shared<data::DataConfig>();
  data::TextPipelinePtr texts;
  Setting() {
    config->image.size = 32;
    texts = data::make_text_pipeline(*config, data::open_streams(*config, data::Split::kTrain).value()).value();
  }
};

train::Metrics skills(const Oracle::Score& score) {
  const Setting setting;
  const auto probe = make_probe(SkillsOptions{.pairs = 40, .unseen_pairs = 10}, {setting.config, data::Split::kHeldOut, setting.texts}).value();
  Oracle model(score);
  losses::Criterion criterion(model.spec());
  criterion.add("itm", std::make_shared<Identity>());
  return probe->run({model, criterion, at::kCPU}).value();
}

TEST_CASE("skills: ties are wrong, and a scorer that sees texts only gets what chance gives on shuffled pictures", "[probes]") {
  const train::Metrics tied = skills([](const Tensor&, const Tensor&) { return 1.0; });
  for (const std::string& skill : data::synthetic_skills()) CHECK(train::metric(tied, "skills/" + skill + "/accuracy", -1) == 0.0);
  // A text-blind score is a tie within a pair; a picture-blind one cannot tell shuffled from true.
  const train::Metrics blind = skills([](const Tensor& ids, const Tensor&) { return ids.to(torch::kDouble).mean().item<double>(); });
  for (const std::string& skill : data::synthetic_skills()) {
    CHECK(train::metric(blind, "skills/" + skill + "/accuracy", -1) == train::metric(blind, "skills/" + skill + "/shuffled_accuracy", -2));
    CHECK(train::metric(blind, "skills/" + skill + "/n", 0) == 40);
  }
}

TEST_CASE("boxes: mean IoU of a constant prediction equals the overlap by hand, over texts that name one region", "[probes]") {
  const Setting setting;
  const auto probe = make_probe(BoxesOptions{.max_images = 20}, {setting.config, data::Split::kHeldOut, setting.texts}).value();
  Oracle model([](const Tensor&, const Tensor&) { return 0.0; });
  losses::Criterion criterion(model.spec());
  const train::Metrics metrics = probe->run({model, criterion, at::kCPU}).value();
  const auto dataset = data::open_data(*setting.config, data::Split::kHeldOut).value();
  double sum = 0;
  int count = 0;
  for (std::int64_t i = 0; i < 20; ++i) {
    const data::Record record = *dataset->get(i);
    for (const data::Region& region : record.regions) {
      if (std::count_if(record.regions.begin(), record.regions.end(), [&](const data::Region& other) { return other.texts == region.texts; }) != 1) continue;
      // Against the middle half of the picture, (16, 16)-(48, 48).
      const double w = std::max(0.0, std::min(48.0, region.box[2]) - std::max(16.0, region.box[0])), h = std::max(0.0, std::min(48.0, region.box[3]) - std::max(16.0, region.box[1]));
      const double area = (region.box[2] - region.box[0]) * (region.box[3] - region.box[1]);
      sum += w * h / (area + 1024 - w * h);
      ++count;
    }
  }
  CHECK(train::metric(metrics, "box_n", 0) == count);
  CHECK(train::metric(metrics, "box_mean_iou", 0) == Approx(sum / count).epsilon(1e-5));
}

TEST_CASE("make_query keeps the caller's order of texts", "[probes]") {
  const Setting setting;
  const RegionBatch batch = make_query(torch::zeros({2, 3, 32, 32}), {{.image = 1, .text = "a red circle"}, {.image = 0, .text = "two crosses"}, {.image = 1, .text = "a blue square"}}, *setting.texts).value();
  batch.validate();
  CHECK(at::equal(batch.text_to_image, torch::tensor({1, 0, 1}, torch::kLong)));
  CHECK(batch.text_mask[1].sum().item<std::int64_t>() == 3);
}

}  // namespace
}  // namespace fgvl::eval
