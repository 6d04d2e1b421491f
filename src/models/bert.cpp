#include "fgvl/models/bert.hpp"

#include <torch/torch.h>

#include "fgvl/core/initialize.hpp"
#include "models/attention.hpp"
#include "models/bert_layer.hpp"
#include "models/bert_text.hpp"

namespace fgvl::models {
namespace {

/// A list of layers below `parent` under BERT's name `layer`.
std::vector<std::shared_ptr<BertLayer>> make_layers(torch::nn::Module& parent, std::int64_t count, const BertLayerOptions& options) {
  const auto list = parent.register_module("layer", torch::nn::ModuleList());
  std::vector<std::shared_ptr<BertLayer>> layers;
  for (std::int64_t i = 0; i < count; ++i) {
    layers.push_back(std::make_shared<BertLayer>(options));
    list->push_back(layers.back());
  }
  return layers;
}

double layer_flops(double tokens, double width, double mlp_width) { return 2 * tokens * (4 * width * width + 2 * width * mlp_width) + 4 * tokens * tokens * width; }

class BertText final : public TextEncoder {
 public:
  BertText(const BertOptions& options, std::int64_t vocab_size, const BertTextRules& rules) : options_(options), vocab_size_(vocab_size), rules_(rules) {
    TORCH_CHECK(options.width % options.heads == 0, "[BertOptions] width: expected a multiple of heads ", options.heads, ", got ", options.width);
    TORCH_CHECK(vocab_size > 0, "[BertOptions] vocab_size: expected a positive number, got ", vocab_size);
    TORCH_CHECK(rules.pad_id < vocab_size, "[BertOptions] pad_id: expected one below vocab_size ", vocab_size, ", got ", rules.pad_id);
    // Padding's rows get no gradient from the look-up, as in BERT and RoBERTa.
    const auto table = [&](std::int64_t rows, bool padded) {
      torch::nn::EmbeddingOptions made(rows, options.width);
      if (padded) made.padding_idx(rules.pad_id);
      return torch::nn::Embedding(made);
    };
    const bool after_padding = rules.positions == Positions::kAfterPadding;
    const auto embeddings = register_module("embeddings", std::make_shared<torch::nn::Module>());
    words_ = embeddings->register_module("word_embeddings", table(vocab_size, rules.pad_id >= 0));
    positions_ = embeddings->register_module("position_embeddings", table(options.max_tokens + (after_padding ? rules.pad_id + 1 : 0), after_padding));
    if (options.token_types > 0) types_ = embeddings->register_module("token_type_embeddings", torch::nn::Embedding(options.token_types, options.width));
    if (options.embedding_norm) embedding_norm_ = embeddings->register_module("LayerNorm", layer_norm(options.width, options.layer_norm_eps));
    layers_ = make_layers(*this, options.layers, {options.width, options.heads, options.mlp_width, 0, options.layer_norm_eps, options.dropout, options.attention_dropout, options.norm});
    if (options.norm == Norm::kPre) final_norm_ = register_module("norm", layer_norm(options.width, options.layer_norm_eps));
  }

  std::int64_t width() const override { return options_.width; }
  std::int64_t vocab_size() const override { return vocab_size_; }
  std::int64_t max_tokens() const override { return options_.max_tokens; }
  double layer_norm_eps() const override { return options_.layer_norm_eps; }
  const Tensor& word_embedding() const override { return words_->weight; }

  Tensor encode(const Tensor& ids, const Tensor& mask, Dropout& dropout) override {
    TORCH_CHECK(ids.size(1) <= options_.max_tokens, "[BertText] ids: a text has ", ids.size(1), " tokens, the position table ", options_.max_tokens,
                " rows; shorten the texts (tokenizer.max_tokens) or raise max_tokens");
    Tensor tokens = words_(ids) + position_rows(ids);
    if (types_) tokens = tokens + types_->weight.select(0, 0);
    if (embedding_norm_) tokens = embedding_norm_(tokens);
    tokens = dropout(tokens, options_.dropout);
    const Tensor additive = additive_mask(mask, tokens.scalar_type());
    for (const auto& layer : layers_) tokens = layer->think(layer->attend_to_text(tokens, additive, {}, dropout), dropout);
    return final_norm_ ? final_norm_(tokens) : tokens;
  }

  void initialize_embeddings(std::uint64_t seed) override {
    torch::NoGradGuard guard;
    draw_normal(words_->weight, seed, "bert.word_embeddings", options_.word_std);
    draw_normal(positions_->weight, seed, "bert.position_embeddings", options_.position_std);
    if (types_) draw_normal(types_->weight, seed, "bert.token_type_embeddings", options_.word_std);
    if (rules_.pad_id >= 0) words_->weight.select(0, rules_.pad_id).zero_();
    if (rules_.positions == Positions::kAfterPadding) positions_->weight.select(0, rules_.pad_id).zero_();
  }

  double flops_per_text(std::int64_t tokens) const override {
    return static_cast<double>(options_.layers) * layer_flops(static_cast<double>(tokens), static_cast<double>(options_.width), static_cast<double>(options_.mlp_width));
  }

 private:
  /// [L, D] or [T, L, D], of ids [T, L].
  Tensor position_rows(const Tensor& ids) {
    if (rules_.positions == Positions::kFromZero) return positions_->weight.slice(0, 0, ids.size(1));
    const Tensor real = ids != rules_.pad_id;  // not the mask: what transformers counts (modeling_roberta.py, create_position_ids_from_input_ids)
    return positions_(real.cumsum(1) * real + rules_.pad_id);
  }

  BertOptions options_;
  std::int64_t vocab_size_;
  BertTextRules rules_;
  torch::nn::Embedding words_{nullptr}, positions_{nullptr}, types_{nullptr};
  torch::nn::LayerNorm embedding_norm_{nullptr}, final_norm_{nullptr};
  std::vector<std::shared_ptr<BertLayer>> layers_;
};

class BertFusion final : public FusionEncoder {
 public:
  BertFusion(const BertFusionOptions& options, const FusionContext& context) : options_(options), context_(context) {
    TORCH_CHECK(options.layers > 0, "[BertFusionOptions] layers: expected at least 1, got ", options.layers);
    TORCH_CHECK(context.text_width % options.heads == 0, "[BertFusionOptions] heads: expected a divisor of the text width ", context.text_width, ", got ", options.heads);
    layers_ = make_layers(*this, options.layers,
                          {context.text_width, options.heads, options.mlp_width, context.vision_width, options.layer_norm_eps, options.dropout, options.attention_dropout, options.norm});
    if (options.norm == Norm::kPre) final_norm_ = register_module("norm", layer_norm(context.text_width, options.layer_norm_eps));
  }

  std::int64_t width() const override { return context_.text_width; }

  ProjectedVisuals project(const Tensor& sequences) override {
    ProjectedVisuals projected;
    for (const auto& layer : layers_) {
      const BertAttention::Projected one = layer->project_visuals(sequences);
      projected.keys.push_back(one.key);
      projected.values.push_back(one.value);
    }
    return projected;
  }

  /// The first layer's self-attention sees no picture yet.
  Tensor prepare(const Tensor& text, const Tensor& mask, Dropout& dropout) override {
    return layers_.front()->attend_to_text(text, additive_mask(mask, text.scalar_type()), {}, dropout);
  }

  Tensor fuse(const FusionPairs& pairs, const ProjectedVisuals& visuals, Dropout& dropout) override {
    const Tensor tokens = run_to(layers_.size() - 1, pairs, visuals, /*with_visuals=*/true, dropout);
    return final_norm_ ? final_norm_(tokens) : tokens;
  }

  Tensor cross_attention(const FusionPairs& pairs, const ProjectedVisuals& visuals, std::int64_t layer, Dropout& dropout) override {
    const auto count = static_cast<std::int64_t>(layers_.size());
    TORCH_CHECK(layer >= -count && layer < count, "[BertFusion::cross_attention] layer: expected one of ", count, " (-", count, " to ", count - 1, "), got ", layer);
    const auto index = static_cast<std::size_t>(layer < 0 ? layer + count : layer);
    const Tensor stream = run_to(index, pairs, visuals, /*with_visuals=*/false, dropout);
    return layers_[index]->visual_weights(stream, visuals.keys[index].index_select(0, pairs.sequence_index), visual_mask_of(pairs));
  }

  double flops_per_pair(std::int64_t tokens, std::int64_t visual_tokens) const override {
    const double n = static_cast<double>(tokens), d = static_cast<double>(context_.text_width), s = static_cast<double>(visual_tokens);
    return static_cast<double>(options_.layers) * (layer_flops(n, d, static_cast<double>(options_.mlp_width)) + 4 * n * d * d + 4 * n * s * d);
  }
  double flops_per_sequence(std::int64_t visual_tokens) const override {
    return static_cast<double>(options_.layers) * 4 * static_cast<double>(visual_tokens * context_.vision_width * context_.text_width);
  }

 private:
  static Tensor visual_mask_of(const FusionPairs& pairs) { return pairs.visual_mask.defined() ? additive_mask(pairs.visual_mask, pairs.text.scalar_type()) : Tensor(); }

  /// The residual stream behind layer `last`, at `pairs.positions`; without `with_visuals`, as it is when that layer begins to look at the visuals.
  Tensor run_to(std::size_t last, const FusionPairs& pairs, const ProjectedVisuals& visuals, bool with_visuals, Dropout& dropout) {
    Tensor tokens = pairs.text;
    const Tensor text_mask = additive_mask(pairs.text_mask, tokens.scalar_type()), visual_mask = visual_mask_of(pairs);
    const Bundles bundles = make_bundles(pairs.sequence_index);
    for (std::size_t i = 0; i <= last; ++i) {
      BertLayer& layer = *layers_[i];
      const Tensor positions = i == last ? pairs.positions : Tensor();
      tokens = i == 0 ? at_positions(tokens, positions) : layer.attend_to_text(tokens, text_mask, positions, dropout);
      if (i == last && !with_visuals) break;
      const BertAttention::Projected own{visuals.keys[i].index_select(0, bundles.sequence), visuals.values[i].index_select(0, bundles.sequence)};
      tokens = layer.think(layer.attend_to_visuals(tokens, own, visual_mask, bundles, dropout), dropout);
    }
    return tokens;
  }

  BertFusionOptions options_;
  FusionContext context_;
  std::vector<std::shared_ptr<BertLayer>> layers_;
  torch::nn::LayerNorm final_norm_{nullptr};
};

}  // namespace

config::EnumNames<Norm> enum_names(Norm) { return {{Norm::kPost, "post"}, {Norm::kPre, "pre"}}; }

void visit_fields(config::Visitor& visitor, BertOptions& options) {
  visitor("width", options.width, "of the tokens", {1, 8192});
  visitor("layers", options.layers, "self-attention layers", {0, 256});
  visitor("heads", options.heads, "of attention", {1, 256});
  visitor("mlp_width", options.mlp_width, "of the MLP", {1, 65536});
  visitor("max_tokens", options.max_tokens, "rows of the position table", {2, 8192});
  visitor("token_types", options.token_types, "rows of the token-type table; 0: none", {0, 16});
  visitor("embedding_norm", options.embedding_norm, "LayerNorm over the sum of the embeddings");
  visitor("layer_norm_eps", options.layer_norm_eps, "of every LayerNorm", config::kPositive);
  visitor("dropout", options.dropout, "of embeddings, attention outputs and MLP outputs", {0.0, 0.9});
  visitor("attention_dropout", options.attention_dropout, "of attention weights; 0.1 in BERT and X-VLM", {0.0, 0.9});
  visitor("norm", options.norm, "post: after every residual sum, as BERT; pre: before every sub-layer");
  visitor("word_std", options.word_std, "of the word embeddings at the start", config::kNonNegative);
  visitor("position_std", options.position_std, "of the position embeddings at the start", config::kNonNegative);
  visitor.check(options.width % options.heads == 0, "width: must be a multiple of heads");
}

void visit_fields(config::Visitor& visitor, BertFusionOptions& options) {
  visitor("layers", options.layers, "layers with cross-attention", {1, 256});
  visitor("heads", options.heads, "of attention", {1, 256});
  visitor("mlp_width", options.mlp_width, "of the MLP", {1, 65536});
  visitor("layer_norm_eps", options.layer_norm_eps, "of every LayerNorm", config::kPositive);
  visitor("dropout", options.dropout, "of attention outputs and MLP outputs", {0.0, 0.9});
  visitor("attention_dropout", options.attention_dropout, "of attention weights; 0.1 in BERT and X-VLM", {0.0, 0.9});
  visitor("norm", options.norm, "post: after every residual sum, as BERT; pre: before every sub-layer");
}

TextEncoderPtr make_bert_text(const BertOptions& options, std::int64_t vocab_size, const BertTextRules& rules) { return std::make_shared<BertText>(options, vocab_size, rules); }
TextEncoderPtr make_text_encoder(const BertOptions& options, const TextContext& context) {
  return make_bert_text(options, context.vocab_size, {.pad_id = context.pad_id.value_or(0), .positions = Positions::kFromZero});
}
FusionEncoderPtr make_fusion_encoder(const BertFusionOptions& options, const FusionContext& context) { return std::make_shared<BertFusion>(options, context); }

}  // namespace fgvl::models
