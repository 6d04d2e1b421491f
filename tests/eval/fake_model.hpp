#pragma once
#include <functional>
#include <utility>

#include <torch/torch.h>

#include "fgvl/losses/matching.hpp"
#include "fgvl/models/model.hpp"
#include "fgvl/train/probe.hpp"

namespace fgvl::test {

/// What a made-up model says; a test fills in what it needs.
struct Answers {
  /// Matching score of each text row on the image of that row: (batch, images [N]) -> [N].
  std::function<Tensor(const RegionBatch&, const Tensor&)> match{};
  std::function<Tensor(const RegionBatch&)> region_features{};  ///< [T, E]
  std::function<Tensor(const RegionBatch&)> text_features{};    ///< [T, E]
  std::function<Tensor(const RegionBatch&)> boxes{};            ///< [T, 4]
};

class FakePass final : public ForwardPass {
 public:
  FakePass(RegionBatch batch, const Answers& answers, const models::Encoded& given, bool training)
      : batch_(std::move(batch)), answers_(answers), training_(training), image_(given.image), text_(given.text) {}
  const RegionBatch& batch() const override { return batch_; }
  const ImageFeatures& image() override {
    if (!image_.embeds.defined()) image_ = {torch::zeros({batch_.image_count(), 2, 1}), torch::zeros({batch_.image_count(), 1})};
    return image_;
  }
  const RegionFeatures& regions() override {
    if (answers_.region_features) regions_.features = answers_.region_features(batch_);
    return regions_;
  }
  const TextFeatures& text() override {
    if (answers_.text_features && !text_.embeds.defined()) text_.features = answers_.text_features(batch_);
    if (!text_.embeds.defined()) text_.embeds = torch::zeros({batch_.text_count(), batch_.text_ids.size(1), 1});
    if (!text_.features.defined()) text_.features = torch::zeros({batch_.text_count(), 1});
    return text_;
  }
  const TextFeatures& masked_text() override { return text_; }
  const TextFeatures& foil_text() override { return text_; }
  Tensor fuse(const FusionQuery& query) override {
    TORCH_CHECK(query.visual == VisualInput::kImage && query.text_index.equal(torch::arange(batch_.text_count())),
                "only whole images, for all texts in order");
    return answers_.match(batch_, query.visual_index).view({-1, 1, 1});
  }
  const Tensor& matched() override { return matched_ = answers_.match(batch_, batch_.text_to_image).view({-1, 1}); }
  Tensor predicted_boxes(const Tensor& text_index) override { return answers_.boxes(batch_).index_select(0, text_index); }
  const Tensor& word_embedding() const override { return matched_; }
  bool training() const override { return training_; }
  Generator generator(std::string_view purpose) const override { return Generator({.purpose = purpose}); }
  Collective& collective() const override { return *collective_; }

 private:
  RegionBatch batch_;
  const Answers& answers_;
  bool training_;
  CollectivePtr collective_ = make_single_process();
  ImageFeatures image_;
  RegionFeatures regions_;
  TextFeatures text_;
  Tensor matched_;
};

class FakeModel final : public models::Model {
 public:
  FakeModel() : trained(register_module("trained", torch::nn::BatchNorm1d(2))), frozen(register_module("frozen", torch::nn::BatchNorm1d(2))) {
    frozen->eval();
  }
  FeatureSpec spec() const override { return {.fusion_width = 1, .embed_dim = 1, .vocab_size = 1, .has_box_head = true}; }
  std::unique_ptr<ForwardPass> begin(const RegionBatch& batch, const models::PassOptions& options) override {
    if (batch.images.defined()) batch.validate();  // a pass over texts alone, or over encodings, has none
    ever_in_training = ever_in_training || is_training() || trained->is_training() || torch::GradMode::is_enabled();
    ++passes;
    return std::make_unique<FakePass>(batch, answers, options.given, is_training());
  }

  Answers answers;
  torch::nn::BatchNorm1d trained, frozen;
  bool ever_in_training = false;
  std::int64_t passes = 0;
};

/// Reads the score that FakePass put into the fused token.
class FakeMatching final : public losses::LossTerm, public losses::PairScorer {
 public:
  losses::Loss forward(ForwardPass&) override { return {}; }
  Tensor pair_logits(const Tensor& first_token) override { return torch::cat({torch::zeros_like(first_token), first_token}, 1); }
};

/// A model and a criterion with a matching term, to be probed.
struct Subject {
  Subject() { criterion.add("itm", std::make_shared<FakeMatching>()); }
  train::ProbeInput input() { return {model, criterion, torch::kCPU}; }
  FakeModel model;
  losses::Criterion criterion{FeatureSpec{.fusion_width = 1, .embed_dim = 1, .vocab_size = 1}};
};

inline data::TextPipelinePtr pipeline_of(const std::vector<std::string>& texts) {
  return std::make_shared<data::TextPipeline>(data::make_tokenizer(data::WordPieceOptions{}, data::build_vocabulary(texts)).value(), data::TextOptions{});
}

}  // namespace fgvl::test
