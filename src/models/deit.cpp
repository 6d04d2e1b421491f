#include "fgvl/models/deit.hpp"

#include <torch/torch.h>

#include "fgvl/core/initialize.hpp"
#include "models/region_tokens.hpp"
#include "models/vit_blocks.hpp"

namespace fgvl::models {
namespace {

constexpr double kDeitNormEps = 1e-6, kEmbeddingStd = 0.02;

class Deit final : public VisionEncoder {
 public:
  explicit Deit(const DeitOptions& options) : options_(options), grid_(options.image_size / options.patch_size) {
    check_sizes("DeitOptions", size_problem(options));
    class_token_ = register_parameter("cls_token", torch::zeros({1, 1, options.width}));
    position_ = register_parameter("pos_embed", torch::zeros({1, 1 + grid_ * grid_, options.width}));
    patch_embed_ = register_module("patch_embed", std::make_shared<torch::nn::Module>())
                       ->register_module("proj", torch::nn::Conv2d(torch::nn::Conv2dOptions(3, options.width, options.patch_size).stride(options.patch_size)));
    const auto blocks = register_module("blocks", torch::nn::ModuleList());
    for (std::int64_t i = 0; i < options.layers; ++i) {
      blocks_.push_back(std::make_shared<QkvBlock>(
          QkvBlockOptions{options.width, options.heads, options.mlp_ratio * options.width, kDeitNormEps, path_probability(options.drop_path, i, options.layers)}));
      blocks->push_back(blocks_.back());
    }
    norm_ = register_module("norm", layer_norm(options.width, kDeitNormEps));
  }

  std::int64_t width() const override { return options_.width; }
  std::int64_t image_size() const override { return options_.image_size; }
  std::int64_t grid() const override { return grid_; }

  VisualTokens encode(const Tensor& images, const RegionRows& rows, Dropout& dropout) override {
    const Tensor patches = patch_embed_(images).flatten(2).transpose(1, 2);
    const Tensor tokens = at::cat({class_token_.expand({images.size(0), -1, -1}), patches}, 1) + position_;
    return masked_regions(tokens, rows, blocks_, options_.local_attn_depth, norm_, gradient_checkpointing(), dropout);
  }

  void initialize_embeddings(std::uint64_t seed) override {
    draw_normal(class_token_, seed, "deit.cls_token", kEmbeddingStd);
    draw_normal(position_, seed, "deit.pos_embed", kEmbeddingStd);
  }

  double flops_per_image() const override { return class_token_vit_flops(options_, options_.mlp_ratio * options_.width); }

 private:
  DeitOptions options_;
  std::int64_t grid_;
  Tensor class_token_, position_;
  torch::nn::Conv2d patch_embed_{nullptr};
  TransformerBlocks blocks_;
  torch::nn::LayerNorm norm_{nullptr};
};

}  // namespace

void visit_fields(config::Visitor& visitor, DeitOptions& options) {
  visit_sizes(visitor, options);
  visitor("mlp_ratio", options.mlp_ratio, "width of the MLP in units of width", {1, 64});
  visitor("local_attn_depth", options.local_attn_depth, "last blocks that run once for every region, masked to its patches", {0, 256});
  visitor("drop_path", options.drop_path, "probability that an image or region skips the last block in training; rises linearly from 0 at the first", {0.0, 0.9});
  check_sizes(visitor, size_problem(options));
}

VisionEncoderPtr make_vision_encoder(const DeitOptions& options) { return std::make_shared<Deit>(options); }

}  // namespace fgvl::models
