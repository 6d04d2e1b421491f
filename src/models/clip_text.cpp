#include "fgvl/models/clip_text.hpp"

#include <limits>

#include <torch/torch.h>

#include "fgvl/core/initialize.hpp"
#include "models/vit_blocks.hpp"

namespace fgvl::models {
namespace {

constexpr double kWordStd = 0.02, kPositionStd = 0.01;  // openai/CLIP a9b1bf5, clip/model.py, initialize_parameters

class ClipText final : public TextEncoder {
 public:
  ClipText(const ClipTextOptions& options, const TextContext& context) : options_(options), vocab_size_(context.vocab_size) {
    TORCH_CHECK(options.width % options.heads == 0, "[ClipTextOptions] width: expected a multiple of heads ", options.heads, ", got ", options.width);
    TORCH_CHECK(context.vocab_size > 0, "[ClipTextOptions] vocab_size: expected a positive number, got ", context.vocab_size);
    const auto model = register_module("text_model", std::make_shared<torch::nn::Module>());
    const auto embeddings = model->register_module("embeddings", std::make_shared<torch::nn::Module>());
    words_ = embeddings->register_module("token_embedding", torch::nn::Embedding(context.vocab_size, options.width));
    positions_ = embeddings->register_module("position_embedding", torch::nn::Embedding(options.max_tokens, options.width));
    const auto layers = model->register_module("encoder", std::make_shared<torch::nn::Module>())->register_module("layers", torch::nn::ModuleList());
    for (std::int64_t i = 0; i < options.layers; ++i) {
      blocks_.push_back(std::make_shared<VitBlock>(options.width, options.heads, options.mlp_width, options.activation));
      layers->push_back(blocks_.back());
    }
    final_norm_ = model->register_module("final_layer_norm", layer_norm(options.width, kVitNormEps));
  }

  std::int64_t width() const override { return options_.width; }
  std::int64_t vocab_size() const override { return vocab_size_; }
  std::int64_t max_tokens() const override { return options_.max_tokens; }
  double layer_norm_eps() const override { return kVitNormEps; }
  const Tensor& word_embedding() const override { return words_->weight; }

  /// Real tokens stand before padding, which the causal mask therefore hides from them.
  Tensor encode(const Tensor& ids, const Tensor&, Dropout& dropout) override {
    const std::int64_t length = ids.size(1);
    TORCH_CHECK(length <= options_.max_tokens, "[ClipText] ids: a text has ", length, " tokens, the position table ", options_.max_tokens,
                " rows; shorten the texts (tokenizer.max_tokens) or raise max_tokens");
    Tensor tokens = words_(ids) + positions_->weight.slice(0, 0, length);
    const Tensor causal = at::full({length, length}, -std::numeric_limits<double>::infinity(), tokens.options()).triu(1);
    for (const auto& block : blocks_) tokens = block->forward(tokens, causal, dropout);
    return final_norm_(tokens);
  }

  Tensor feature_token(const Tensor& embeds, const Tensor& mask) const override {
    const Tensor last = (mask.sum(1) - 1).clamp_min(0);
    return embeds.index({at::arange(embeds.size(0), last.options()), last});
  }

  void initialize_embeddings(std::uint64_t seed) override {
    draw_normal(words_->weight, seed, "clip_text.token_embedding", kWordStd);
    draw_normal(positions_->weight, seed, "clip_text.position_embedding", kPositionStd);
  }

  double flops_per_text(std::int64_t tokens) const override { return static_cast<double>(options_.layers) * vit_block_flops(tokens, options_.width, options_.mlp_width); }

 private:
  ClipTextOptions options_;
  std::int64_t vocab_size_;
  torch::nn::Embedding words_{nullptr}, positions_{nullptr};
  TransformerBlocks blocks_;
  torch::nn::LayerNorm final_norm_{nullptr};
};

}  // namespace

void visit_fields(config::Visitor& visitor, ClipTextOptions& options) {
  visitor("width", options.width, "of the tokens", {1, 8192});
  visitor("layers", options.layers, "transformer blocks", {1, 256});
  visitor("heads", options.heads, "of attention", {1, 256});
  visitor("mlp_width", options.mlp_width, "of the MLP", {1, 65536});
  visitor("max_tokens", options.max_tokens, "rows of the position table", {2, 8192});
  visitor("activation", options.activation, "of the MLP: quick_gelu, as OpenAI's CLIP, or gelu, as most of OpenCLIP's models");
  visitor.check(options.width % options.heads == 0, "width: must be a multiple of heads");
}

TextEncoderPtr make_text_encoder(const ClipTextOptions& options, const TextContext& context) { return std::make_shared<ClipText>(options, context); }

}  // namespace fgvl::models
