#include "fgvl/models/clip_vit.hpp"

#include <torch/torch.h>

#include "fgvl/core/initialize.hpp"
#include "models/region_tokens.hpp"
#include "models/vit_blocks.hpp"

namespace fgvl::models {
namespace {

class ClipVit final : public VisionEncoder {
 public:
  explicit ClipVit(const ClipVitOptions& options) : options_(options), grid_(options.image_size / options.patch_size) {
    check_sizes("ClipVitOptions", size_problem(options));
    class_embedding_ = register_parameter("class_embedding", torch::zeros({options.width}));
    patch_embed_ = register_module("patch_embed", torch::nn::Conv2d(torch::nn::Conv2dOptions(3, options.width, options.patch_size).stride(options.patch_size).bias(false)));
    pos_embed_ = register_module("pos_embed", torch::nn::Embedding(grid_ * grid_ + 1, options.width));
    pre_norm_ = register_module("pre_layrnorm", layer_norm(options.width, kVitNormEps));  // the checkpoints' spelling
    const auto layers = register_module("encoder", std::make_shared<torch::nn::Module>())->register_module("layers", torch::nn::ModuleList());
    for (std::int64_t i = 0; i < options.layers; ++i) {
      blocks_.push_back(std::make_shared<VitBlock>(options.width, options.heads, options.mlp_width, options.activation));
      layers->push_back(blocks_.back());
    }
    post_norm_ = register_module("post_layernorm", layer_norm(options.width, kVitNormEps));
  }

  std::int64_t width() const override { return options_.width; }
  std::int64_t image_size() const override { return options_.image_size; }
  std::int64_t grid() const override { return grid_; }

  VisualTokens encode(const Tensor& images, const RegionRows& rows, Dropout& dropout) override {
    const Tensor patches = patch_embed_(images).flatten(2).transpose(1, 2);
    const Tensor tokens = at::cat({class_embedding_.expand({images.size(0), 1, -1}), patches}, 1) + pos_embed_->weight;
    return masked_regions(pre_norm_(tokens), rows, blocks_, options_.local_attn_depth, post_norm_, gradient_checkpointing(), dropout);
  }

  void initialize_embeddings(std::uint64_t seed) override {
    draw_normal(class_embedding_, seed, "clip_vit.class_embedding", 0.02);
  }

  double flops_per_image() const override { return class_token_vit_flops(options_, options_.mlp_width); }

 private:
  ClipVitOptions options_;
  std::int64_t grid_;
  Tensor class_embedding_;
  torch::nn::Conv2d patch_embed_{nullptr};
  torch::nn::Embedding pos_embed_{nullptr};
  torch::nn::LayerNorm pre_norm_{nullptr}, post_norm_{nullptr};
  TransformerBlocks blocks_;
};

}  // namespace

void visit_fields(config::Visitor& visitor, ClipVitOptions& options) {
  visit_sizes(visitor, options);
  visitor("mlp_width", options.mlp_width, "of the MLP", {1, 65536});
  visitor("local_attn_depth", options.local_attn_depth, "last blocks that run once for every region, masked to its patches", {0, 256});
  visitor("activation", options.activation, "of the MLP: quick_gelu, as OpenAI's CLIP, or gelu, as most of OpenCLIP's models");
  check_sizes(visitor, size_problem(options));
}

VisionEncoderPtr make_vision_encoder(const ClipVitOptions& options) { return std::make_shared<ClipVit>(options); }

}  // namespace fgvl::models
