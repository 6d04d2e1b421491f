#include "models/bert_layer.hpp"

#include "core/gelu.hpp"
#include "models/attention.hpp"

namespace fgvl::models {

BertAttention::BertAttention(const BertLayerOptions& options, std::int64_t key_width) : options_(options) {
  const auto self = register_module("self", std::make_shared<torch::nn::Module>());
  query_ = self->register_module("query", Linear(options.width, options.width));
  key_ = self->register_module("key", Linear(key_width, options.width));
  value_ = self->register_module("value", Linear(key_width, options.width));
  const auto output = register_module("output", std::make_shared<torch::nn::Module>());
  dense_ = output->register_module("dense", Linear(options.width, options.width));
  norm_ = output->register_module("LayerNorm", layer_norm(options.width, options.layer_norm_eps));
}

BertAttention::Projected BertAttention::project(const Tensor& tokens) {
  // In one piece: every pass over the texts multiplies them.
  return {split_heads(key_(tokens), options_.heads).contiguous(), split_heads(value_(tokens), options_.heads).contiguous()};
}

BertAttention::Projected BertAttention::project(const Tensor& tokens, const PackedTexts& texts) {
  return {texts.pad_heads(key_(tokens), options_.heads), texts.pad_heads(value_(tokens), options_.heads)};
}

Tensor BertAttention::forward(const Tensor& tokens, const Tensor& normed, const PackedTexts& texts, const Projected& projected, const Tensor& mask, Dropout& dropout) {
  const Tensor query = texts.pad_heads(query_(normed), options_.heads);
  const Tensor seen = texts.pack_heads(attend_heads(query, projected.key, projected.value, mask, dropout, options_.attention_dropout));
  const Tensor attended = dropout(dense_(seen), options_.dropout);
  return options_.norm == Norm::kPre ? tokens + attended : norm_(tokens + attended);
}

Tensor BertAttention::weights(const Tensor& tokens, const Tensor& key, const Tensor& mask) { return weights_of_heads(split_heads(query_(normed(tokens)), options_.heads), key, mask); }

BertLayer::BertLayer(const BertLayerOptions& options) : options_(options) {
  attention_ = register_module("attention", std::make_shared<BertAttention>(options, options.width));
  if (options.visual_width > 0) cross_ = register_module("crossattention", std::make_shared<BertAttention>(options, options.visual_width));
  widen_ = register_module("intermediate", std::make_shared<torch::nn::Module>())->register_module("dense", Linear(options.width, options.mlp_width));
  const auto output = register_module("output", std::make_shared<torch::nn::Module>());
  narrow_ = output->register_module("dense", Linear(options.mlp_width, options.width));
  norm_ = output->register_module("LayerNorm", layer_norm(options.width, options.layer_norm_eps));
}

BertLayer::BertLayer(const BertLayer& shared, std::shared_ptr<BertAttention> self, std::shared_ptr<BertAttention> cross)
    : options_(shared.options_),
      attention_(self ? std::move(self) : shared.attention_),
      cross_(std::move(cross)),
      widen_(shared.widen_),
      narrow_(shared.narrow_),
      norm_(shared.norm_) {
  register_module("attention", attention_);
  register_module("crossattention", cross_);
  register_module("widen", widen_);
  register_module("narrow", narrow_);
  register_module("LayerNorm", norm_);
}

Tensor BertLayer::attend_to_text(const Tensor& tokens, const PackedTexts& texts, const Tensor& text_mask, const Tensor& positions, Dropout& dropout) {
  const Tensor normed = attention_->normed(tokens);
  const BertAttention::Projected own = attention_->project(normed, texts);
  if (!positions.defined()) return attention_->forward(tokens, normed, texts, own, text_mask, dropout);
  const bool row_a_token = text_mask.size(2) > 1;
  const Tensor mask = row_a_token ? text_mask[0][0].index_select(0, positions.flatten()).view({positions.size(0), 1, positions.size(1), -1}) : text_mask;
  return attention_->forward(texts.at_positions(tokens, positions), texts.at_positions(normed, positions), PackedTexts::of_positions(positions), own, mask, dropout);
}

Tensor BertLayer::think(const Tensor& stream, Dropout& dropout) {
  const bool pre = options_.norm == Norm::kPre;
  const Tensor wide = exact_gelu(widen_(pre ? norm_(stream) : stream));
  const Tensor sum = stream + dropout(narrow_(wide), options_.dropout);
  return pre ? sum : norm_(sum);
}

BertLayers make_bert_layers(torch::nn::Module& parent, std::int64_t count, const BertLayerOptions& options) {
  const auto list = parent.register_module("layer", torch::nn::ModuleList());
  BertLayers layers;
  for (std::int64_t i = 0; i < count; ++i) {
    layers.push_back(std::make_shared<BertLayer>(options));
    list->push_back(layers.back());
  }
  return layers;
}

double bert_layer_flops(double tokens, double width, double mlp_width) { return 2 * tokens * (4 * width * width + 2 * width * mlp_width) + 4 * tokens * tokens * width; }

}  // namespace fgvl::models
