#pragma once
#include <algorithm>

#include <torch/torch.h>

#include "fgvl/core/forward_pass.hpp"

namespace fgvl::test {

/// What a term may assume of a FakePass over embeddings of width 8.
constexpr FeatureSpec kFakeSpec{.fusion_width = 8, .embed_dim = 8, .vocab_size = 7};

/// A pass whose features are given; fused tokens are the sum of the text's and the visual's feature, and every stage counts its calls.
class FakePass : public ForwardPass {
 public:
  FakePass(RegionBatch batch, const Tensor& visual, const Tensor& text) : batch_(std::move(batch)) {
    regions_.features = visual;
    text_.features = text;
    word_embedding_ = torch::arange(7 * text.size(1), text.options()).sin().view({7, -1});
  }
  const RegionBatch& batch() const override { return batch_; }
  const ImageFeatures& image() override { return image_; }
  const RegionFeatures& regions() override { return ++region_calls, regions_; }
  const TextFeatures& text() override { return text_; }
  const TextFeatures& masked_text() override { return text_; }
  const TextFeatures& foil_text() override { return text_; }
  const Tensor& foil_features() override { return foils; }
  Tensor fuse(const FusionQuery& query) override {
    ++fuse_calls;
    last_query = query;
    const Tensor text = query.text == TextInput::kFoil ? foils : query.text == TextInput::kAllRanks ? collective().all_gather_rows(text_.features) : text_.features;
    const Tensor pair = text.index_select(0, query.text_index) + regions_.features.index_select(0, query.visual_index);
    return pair.unsqueeze(1).expand({-1, query.positions.size(1), -1});
  }
  Tensor decoded(const FusionQuery& query) override {
    const Tensor pair = text_.features.index_select(0, query.text_index) + regions_.features.index_select(0, query.visual_index);
    return pair.unsqueeze(1).expand({-1, batch_.text_ids.size(1), -1});
  }
  const Tensor& matched() override {
    if (!matched_.defined()) matched_ = text_.features + regions_.features;
    return matched_;
  }
  Tensor predicted_boxes(const Tensor& text_index) override {
    box_rows = text_index;
    return predicted.index_select(0, text_index);
  }
  const Tensor& word_embedding() const override { return word_embedding_; }
  void set_word_embedding(const Tensor& table) { word_embedding_ = table; }
  bool training() const override { return true; }
  Generator generator(std::string_view purpose) const override { return Generator({.seed = seed, .purpose = purpose}); }
  Collective& collective() const override { return *ranks; }
  const TextFeatures& label_text() override { return label_text_; }
  ForwardPass& momentum() override { return *momentum_pass; }

  CollectivePtr ranks = make_single_process();
  std::shared_ptr<FakePass> momentum_pass{};
  TextFeatures label_text_{};
  int fuse_calls = 0, region_calls = 0;
  std::uint64_t seed = 1;
  FusionQuery last_query{};
  Tensor foils{}, predicted{}, box_rows{};

 private:
  RegionBatch batch_;
  ImageFeatures image_{};
  RegionFeatures regions_{};
  TextFeatures text_{};
  Tensor word_embedding_{}, matched_{};
};

/// T texts, row t about image image[t]; boxes cover the whole image unless is_region.
inline RegionBatch batch_of(const std::vector<std::int64_t>& image, const std::vector<std::int64_t>& key) {
  RegionBatch batch;
  const auto texts = static_cast<std::int64_t>(image.size());
  batch.images = torch::zeros({*std::max_element(image.begin(), image.end()) + 1, 3, 4, 4});
  batch.text_to_image = torch::tensor(image, torch::kLong);
  batch.text_key = torch::tensor(key, torch::kLong);
  batch.is_region = torch::zeros({texts}, torch::kBool);
  batch.is_unambiguous = torch::ones({texts}, torch::kBool);
  batch.boxes = torch::tensor({0.5f, 0.5f, 1.f, 1.f}).expand({texts, 4}).contiguous();
  batch.text_ids = torch::ones({texts, 2}, torch::kLong);
  batch.text_mask = torch::ones({texts, 2}, torch::kBool);
  return batch;
}

inline Tensor unit_rows(std::int64_t rows, std::int64_t width, std::uint64_t seed) {
  at::Generator generator = Generator({.seed = seed}).torch_generator(at::kCPU);
  return torch::nn::functional::normalize(torch::empty({rows, width}, torch::kFloat64).normal_(0, 1, generator));
}

}  // namespace fgvl::test
