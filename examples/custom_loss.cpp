// A loss of your own, used from YAML beside the built-in ones: example_custom_loss [custom_loss.yaml]
#include <iostream>

#include <torch/torch.h>

#include <fgvl/core/config.hpp>
#include <fgvl/losses/criterion.hpp>
#include <fgvl/models/bert.hpp>
#include <fgvl/models/region_vlm.hpp>
#include <fgvl/models/vit.hpp>

namespace mine {

/// Pulls the features of regions of one picture apart, up to a margin: they show different things.
struct SpreadOptions {
  double margin = 0.5;
};
void visit_fields(fgvl::config::Visitor& visitor, SpreadOptions& options) { visitor("margin", options.margin, "largest cosine that costs nothing", {-1.0, 1.0}); }

class Spread final : public fgvl::losses::LossTerm {
 public:
  explicit Spread(const SpreadOptions& options) : options_(options) {}
  fgvl::losses::Loss forward(fgvl::ForwardPass& pass) override {
    const torch::Tensor rows = rows_where(pass.batch(), pass.batch().is_region);
    const torch::Tensor features = pass.regions().features.index_select(0, rows), image = pass.batch().text_to_image.index_select(0, rows);
    const torch::Tensor pairs = (image.unsqueeze(1) == image.unsqueeze(0)).triu(1);
    const torch::Tensor cosine = torch::matmul(features, features.t()).masked_select(pairs);
    return fgvl::losses::Loss().part("", 1.0, (cosine - options_.margin).clamp_min(0).sum(), static_cast<double>(cosine.size(0)));
  }

 private:
  SpreadOptions options_;
};

}  // namespace mine

int main(int argc, char** argv) {
  auto terms = fgvl::losses::builtin_terms();
  terms->add<mine::SpreadOptions>("spread", [](const mine::SpreadOptions& options, const fgvl::FeatureSpec&) -> fgvl::losses::LossTermPtr { return std::make_shared<mine::Spread>(options); });

  const auto document = fgvl::config::Document::load(argc > 1 ? argv[1] : "custom_loss.yaml");
  if (!document.ok()) return std::cerr << document.status().message() << std::endl, 2;
  fgvl::losses::CriterionConfig losses;
  const absl::Status read = document->read([&](fgvl::config::Visitor& visitor) {
    visitor.entries("losses", losses, fgvl::losses::TermConfig{fgvl::Choice<fgvl::losses::LossTermPtr, fgvl::FeatureSpec>(terms, ""), 1.0, {}}, "");
  });
  if (!read.ok()) return std::cerr << read.message() << std::endl, 2;

  auto vision = make_vision_encoder(fgvl::models::VitOptions{.image_size = 32, .patch_size = 8, .width = 32, .layers = 1, .heads = 2});
  auto text = make_text_encoder(fgvl::models::BertOptions{.width = 32, .layers = 1, .heads = 2, .mlp_width = 64, .max_tokens = 8}, {.vocab_size = 50});
  auto fusion = make_fusion_encoder(fgvl::models::BertFusionOptions{.layers = 1, .heads = 2, .mlp_width = 64}, {.text_width = 32, .vision_width = 32});
  auto model = fgvl::models::make_region_vlm({vision, text, fusion}, {.embed_dim = 16});
  auto criterion = fgvl::losses::make_criterion(losses, model->spec());

  fgvl::RegionBatch batch;
  batch.images = torch::randn({1, 3, 32, 32});
  batch.text_to_image = torch::zeros({2}, torch::kLong);
  batch.is_region = torch::ones({2}, torch::kBool);
  batch.boxes = torch::tensor({{0.25f, 0.25f, 0.5f, 0.5f}, {0.75f, 0.75f, 0.5f, 0.5f}});
  batch.text_ids = torch::tensor({{2, 7, 8}, {2, 9, 10}}, torch::kLong);
  batch.text_mask = torch::ones({2, 3}, torch::kBool);
  batch.text_key = torch::tensor({1, 2}, torch::kLong);
  auto pass = model->begin(batch);
  for (const auto& value : criterion->forward(*pass).values) std::cout << value.name << " " << value.mean.item<double>() << " over " << value.count << std::endl;
  return 0;
}
