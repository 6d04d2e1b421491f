#include "fgvl/models/bert.hpp"

#include <torch/torch.h>

#include "core/torch_compat.hpp"
#include "fgvl/core/initialize.hpp"
#include "models/attention.hpp"
#include "models/bert_layer.hpp"
#include "models/bert_text.hpp"
#include "models/recompute.hpp"

namespace fgvl::models {
namespace {

class BertText final : public TextEncoder, public BertParts {
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
    compat::keep_gradient_dense(words_->weight);
    positions_ = embeddings->register_module("position_embeddings", table(options.max_tokens + (after_padding ? rules.pad_id + 1 : 0), after_padding));
    if (options.token_types > 0) types_ = embeddings->register_module("token_type_embeddings", torch::nn::Embedding(options.token_types, options.width));
    if (options.embedding_norm) embedding_norm_ = embeddings->register_module("LayerNorm", layer_norm(options.width, options.layer_norm_eps));
    layers_ = make_bert_layers(*this, options.layers, {options.width, options.heads, options.mlp_width, 0, options.layer_norm_eps, options.dropout, options.attention_dropout, options.norm});
    if (options.norm == Norm::kPre) final_norm_ = register_module("norm", layer_norm(options.width, options.layer_norm_eps));
  }

  std::int64_t width() const override { return options_.width; }
  std::int64_t vocab_size() const override { return vocab_size_; }
  std::int64_t max_tokens() const override { return options_.max_tokens; }
  double layer_norm_eps() const override { return options_.layer_norm_eps; }
  const Tensor& word_embedding() const override { return words_->weight; }

  Tensor embed(const Tensor& ids, const PackedTexts& texts, Dropout& dropout) override {
    TORCH_CHECK(ids.size(1) <= options_.max_tokens, "[BertText] ids: a text has ", ids.size(1), " tokens, the position table ", options_.max_tokens,
                " rows; shorten the texts (tokenizer.max_tokens) or raise max_tokens");
    const Tensor packed = texts.pack(ids);
    // See Note [Gradients of look-ups] in core/torch_compat.hpp.
    const Tensor looked_up = at::embedding(words_->weight, packed, rules_.pad_id, /*scale_grad_by_freq=*/false, /*sparse=*/packed.is_cpu());
    Tensor tokens = looked_up + positions_of(ids, texts);
    if (types_) tokens = tokens + types_->weight.select(0, 0);
    if (embedding_norm_) tokens = embedding_norm_(tokens);
    return dropout(tokens, options_.dropout);
  }
  const BertLayers& layers() const override { return layers_; }
  Tensor finish(const Tensor& tokens) override { return final_norm_ ? final_norm_(tokens) : tokens; }

  Tensor encode(const Tensor& ids, const Tensor& mask, Dropout& dropout) override {
    const PackedTexts texts(mask, at_padding());
    Tensor tokens = embed(ids, texts, dropout);
    const Tensor additive = additive_mask(mask, tokens.scalar_type());
    for (const auto& layer : layers_) {
      tokens = recompute(gradient_checkpointing(), layer, {tokens}, dropout,
                         [layer, texts, additive](const std::vector<Tensor>& in, Dropout& drops) { return layer->think(layer->attend_to_text(in[0], texts, additive, {}, drops), drops); });
    }
    return texts.spread(finish(tokens));
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
    return static_cast<double>(options_.layers) * bert_layer_flops(static_cast<double>(tokens), static_cast<double>(options_.width), static_cast<double>(options_.mlp_width));
  }

 private:
  /// [R, D], of ids [T, L].
  Tensor positions_of(const Tensor& ids, const PackedTexts& texts) {
    if (rules_.positions == Positions::kFromZero) return positions_->weight.index_select(0, texts.place_in_text().to(ids.device()));
    const Tensor real = ids != rules_.pad_id;  // not the mask: what transformers counts (modeling_roberta.py, create_position_ids_from_input_ids)
    return positions_(texts.pack(real.cumsum(1) * real + rules_.pad_id));
  }

  BertOptions options_;
  std::int64_t vocab_size_;
  BertTextRules rules_;
  torch::nn::Embedding words_{nullptr}, positions_{nullptr}, types_{nullptr};
  torch::nn::LayerNorm embedding_norm_{nullptr}, final_norm_{nullptr};
  BertLayers layers_;
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

TextEncoderPtr make_bert_text(const BertOptions& options, std::int64_t vocab_size, const BertTextRules& rules) { return std::make_shared<BertText>(options, vocab_size, rules); }
TextEncoderPtr make_text_encoder(const BertOptions& options, const TextContext& context) {
  return make_bert_text(options, context.vocab_size, {.pad_id = context.pad_id.value_or(0), .positions = Positions::kFromZero});
}

}  // namespace fgvl::models
