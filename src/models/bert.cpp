#include "fgvl/models/bert.hpp"

#include <torch/torch.h>

#include "core/torch_compat.hpp"
#include "fgvl/core/initialize.hpp"
#include "fgvl/models/blip.hpp"
#include "models/attention.hpp"
#include "models/bert_layer.hpp"
#include "models/bert_text.hpp"
#include "models/bundles.hpp"
#include "models/recompute.hpp"

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
    layers_ = make_layers(*this, options.layers, {options.width, options.heads, options.mlp_width, 0, options.layer_norm_eps, options.dropout, options.attention_dropout, options.norm});
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
    Tensor tokens = looked_up + at::embedding(positions_->weight, positions_of(ids, texts), rules_.positions == Positions::kAfterPadding ? rules_.pad_id : -1);
    if (types_) tokens = tokens + types_->weight.select(0, 0);
    if (embedding_norm_) tokens = embedding_norm_(tokens);
    return dropout(tokens, options_.dropout);
  }
  const std::vector<std::shared_ptr<BertLayer>>& layers() const override { return layers_; }
  Tensor finish(const Tensor& tokens) override { return final_norm_ ? final_norm_(tokens) : tokens; }

  Tensor encode(const Tensor& ids, const Tensor& mask, Dropout& dropout) override {
    const PackedTexts texts(mask);
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
    return static_cast<double>(options_.layers) * layer_flops(static_cast<double>(tokens), static_cast<double>(options_.width), static_cast<double>(options_.mlp_width));
  }

 private:
  /// [R] rows of the position table, of ids [T, L].
  Tensor positions_of(const Tensor& ids, const PackedTexts& texts) const {
    if (rules_.positions == Positions::kFromZero) return texts.place_in_text().to(ids.device());
    const Tensor real = ids != rules_.pad_id;  // not the mask: what transformers counts (modeling_roberta.py, create_position_ids_from_input_ids)
    return texts.pack(real.cumsum(1) * real + rules_.pad_id);
  }

  BertOptions options_;
  std::int64_t vocab_size_;
  BertTextRules rules_;
  torch::nn::Embedding words_{nullptr}, positions_{nullptr}, types_{nullptr};
  torch::nn::LayerNorm embedding_norm_{nullptr}, final_norm_{nullptr};
  std::vector<std::shared_ptr<BertLayer>> layers_;
};

/// Layers with cross-attention; derived classes say whose they are.
class CrossLayers : public FusionEncoder {
 public:
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
    const PackedTexts texts(mask);
    return prepared(texts.pack(text), texts, additive_mask(mask, text.scalar_type()), layers_, dropout);
  }

  Tensor fuse(const FusionPairs& pairs, const ProjectedVisuals& visuals, Dropout& dropout) override {
    return finished(run_to(layers_.size() - 1, layers_, text_mask_of(pairs), pairs, visuals, /*with_visuals=*/true, dropout));
  }

  Tensor cross_attention(const FusionPairs& pairs, const ProjectedVisuals& visuals, std::int64_t layer, Dropout& dropout) override {
    const auto count = static_cast<std::int64_t>(layers_.size());
    TORCH_CHECK(layer >= -count && layer < count, "[FusionEncoder::cross_attention] layer: expected one of ", count, " (-", count, " to ", count - 1, "), got ", layer);
    const auto index = static_cast<std::size_t>(layer < 0 ? layer + count : layer);
    const Stream stream = run_to(index, layers_, text_mask_of(pairs), pairs, visuals, /*with_visuals=*/false, dropout);
    return layers_[index]->visual_weights(stream.tokens, stream.texts, visuals.keys[index].index_select(0, pairs.sequence_index), visual_mask_of(pairs));
  }

  double flops_per_pair(std::int64_t tokens, std::int64_t visual_tokens) const override {
    const double n = static_cast<double>(tokens), d = static_cast<double>(context_.text_width), s = static_cast<double>(visual_tokens);
    return static_cast<double>(layers_.size()) * (layer_flops(n, d, static_cast<double>(layers_.front()->options().mlp_width)) + 4 * n * d * d + 4 * n * s * d);
  }
  double flops_per_sequence(std::int64_t visual_tokens) const override {
    return static_cast<double>(layers_.size()) * 4 * static_cast<double>(visual_tokens * context_.vision_width * context_.text_width);
  }

 protected:
  using Layers = std::vector<std::shared_ptr<BertLayer>>;
  explicit CrossLayers(const FusionContext& context) : context_(context) {}

  /// What becomes of the last layer's output.
  virtual Tensor finish(const Tensor& tokens) = 0;

  /// Texts on their way through the layers.
  struct Stream {
    Tensor tokens;  ///< [R, D]
    PackedTexts texts;
  };
  Tensor finished(const Stream& stream) { return stream.texts.spread(finish(stream.tokens)); }

  /// Self-attention of the first of `layers`, which sees no picture yet: [R, D] -> [T, L, D].
  Tensor prepared(const Tensor& tokens, const PackedTexts& texts, const Tensor& text_mask, const Layers& layers, Dropout& dropout) const {
    return texts.spread(recompute(gradient_checkpointing(), layers.front(), {tokens}, dropout, [layer = layers.front(), texts, text_mask](const std::vector<Tensor>& in, Dropout& drops) {
      return layer->attend_to_text(in[0], texts, text_mask, {}, drops);
    }));
  }

  /// The residual stream behind layer `last` of `layers`, at `pairs.positions`; without `with_visuals`, as it is when that layer begins to look at the visuals. `text_mask` as of BertLayer.
  Stream run_to(std::size_t last, const Layers& layers, const Tensor& text_mask, const FusionPairs& pairs, const ProjectedVisuals& visuals, bool with_visuals, Dropout& dropout) const {
    const Bundles bundles = make_bundles(pairs.sequence_index);
    const Tensor visual_mask = visual_mask_of(pairs);
    PackedTexts texts(pairs.text_mask), in_bundles = texts.bundled(bundles);
    Tensor bundle_mask = in_slots(visual_mask, bundles, texts.length()), tokens = texts.pack(pairs.text);
    for (std::size_t i = 0; i <= last; ++i) {
      const PackedTexts before = texts;
      const Tensor positions = i == last ? pairs.positions : Tensor();
      if (positions.defined()) {
        texts = PackedTexts::of_positions(positions);
        in_bundles = texts.bundled(bundles);
        bundle_mask = in_slots(visual_mask, bundles, texts.length());
      }
      const bool prepared = i == 0, looks = i < last || with_visuals;
      tokens = recompute(gradient_checkpointing(), layers[i], {tokens, visuals.keys[i], visuals.values[i]}, dropout,
                         [layer = layers[i], before, in_bundles, positions, prepared, looks, text_mask, bundle_mask, sequence = bundles.sequence](const std::vector<Tensor>& in, Dropout& drops) {
                           const Tensor stream = !prepared ? layer->attend_to_text(in[0], before, text_mask, positions, drops) : positions.defined() ? before.at_positions(in[0], positions) : in[0];
                           if (!looks) return stream;
                           const BertAttention::Projected own{in[1].index_select(0, sequence), in[2].index_select(0, sequence)};
                           return layer->think(layer->attend_to_visuals(stream, in_bundles, own, bundle_mask, drops), drops);
                         });
    }
    return {tokens, texts};
  }

  FusionContext context_;
  Layers layers_;

 private:
  static Tensor text_mask_of(const FusionPairs& pairs) { return additive_mask(pairs.text_mask, pairs.text.scalar_type()); }
  /// [N, 1, 1, S] -> [C, 1, size * length, S]: each slot's tokens see what its pair's do.
  static Tensor in_slots(const Tensor& mask, const Bundles& bundles, std::int64_t length) {
    if (!mask.defined()) return Tensor();
    return bundles.gather(mask.flatten(1)).unsqueeze(2).expand({-1, -1, length, -1}).flatten(1, 2).unsqueeze(1);
  }
  static Tensor visual_mask_of(const FusionPairs& pairs) { return pairs.visual_mask.defined() ? additive_mask(pairs.visual_mask, pairs.text.scalar_type()) : Tensor(); }
};

class BertFusion final : public CrossLayers {
 public:
  BertFusion(const BertFusionOptions& options, const FusionContext& context) : CrossLayers({.text_width = context.text_width, .vision_width = context.vision_width}) {
    TORCH_CHECK(options.layers > 0, "[BertFusionOptions] layers: expected at least 1, got ", options.layers);
    TORCH_CHECK(context.text_width % options.heads == 0, "[BertFusionOptions] heads: expected a divisor of the text width ", context.text_width, ", got ", options.heads);
    layers_ = make_layers(*this, options.layers,
                          {context.text_width, options.heads, options.mlp_width, context.vision_width, options.layer_norm_eps, options.dropout, options.attention_dropout, options.norm});
    if (options.norm == Norm::kPre) final_norm_ = register_module("norm", layer_norm(context.text_width, options.layer_norm_eps));
  }

 private:
  Tensor finish(const Tensor& tokens) override { return final_norm_ ? final_norm_(tokens) : tokens; }

  torch::nn::LayerNorm final_norm_{nullptr};
};

class BlipFusion final : public CrossLayers {
 public:
  BlipFusion(const BlipFusionOptions& options, const FusionContext& context) : CrossLayers(context), parts_(dynamic_cast<BertParts*>(context.text.get())) {
    TORCH_CHECK(parts_ != nullptr, "[BlipFusionOptions] text: expected a context with a text encoder of type bert or roberta, whose layers this one shares");
    TORCH_CHECK(!parts_->layers().empty(), "[BlipFusionOptions] text: the text encoder has no layers that could be shared; expected layers of at least 1");
    encoder_id_ = id_of(options.encoder_token, "encoder_token");
    decoder_id_ = id_of(options.decoder_token, "decoder_token");
    const auto list = register_module("layer", torch::nn::ModuleList());
    for (const auto& shared : parts_->layers()) {
      const auto own = std::make_shared<torch::nn::Module>();
      list->push_back(own);
      const auto cross = own->register_module("crossattention", std::make_shared<BertAttention>(shared->options(), context.vision_width));
      const auto self = own->register_module("decoder_attention", std::make_shared<BertAttention>(shared->options(), context.text_width));
      layers_.push_back(std::make_shared<BertLayer>(*shared, nullptr, cross));
      decoder_layers_.push_back(std::make_shared<BertLayer>(*shared, self, cross));
    }
  }

  const TextEncoder* shared_text() const override { return context_.text.get(); }

  Tensor prepare(const Tensor& ids, const Tensor& mask, Dropout& dropout) override {
    const PackedTexts texts(mask);
    const Tensor tokens = parts_->embed(started_by(encoder_id_, ids), texts, dropout);
    return prepared(tokens, texts, additive_mask(mask, tokens.scalar_type()), layers_, dropout);
  }

  bool has_decoder() const override { return true; }

  Tensor prepare_decoder(const Tensor& ids, const Tensor& mask, Dropout& dropout) override {
    const PackedTexts texts(mask);
    const Tensor tokens = parts_->embed(started_by(decoder_id_, ids), texts, dropout);
    return prepared(tokens, texts, causal_mask(texts.length(), tokens.options()), decoder_layers_, dropout);
  }

  /// The causal mask is all it takes: padding stands behind a text's tokens, where none of them looks.
  Tensor decode(const FusionPairs& pairs, const ProjectedVisuals& visuals, Dropout& dropout) override {
    return finished(run_to(decoder_layers_.size() - 1, decoder_layers_, causal_mask(pairs.text.size(1), pairs.text.options()), pairs, visuals, /*with_visuals=*/true, dropout));
  }

 private:
  std::int64_t id_of(const std::string& token, const char* option) const {
    TORCH_CHECK(context_.token_id, "[BlipFusionOptions] token_id: the context cannot look up \"", token, "\"");
    const std::int64_t id = context_.token_id(token);
    TORCH_CHECK(id >= 0, "[BlipFusionOptions] ", option, ": the vocabulary has no \"", token, "\". BLIP's is BERT's with the lines [DEC] and [ENC] behind it; append them to the vocabulary file, or name tokens that it has");
    TORCH_CHECK(id < context_.text->vocab_size(), "[BlipFusionOptions] ", option, ": \"", token, "\" is token ", id, ", beyond the text encoder's ", context_.text->vocab_size(), " words");
    return id;
  }

  static Tensor started_by(std::int64_t id, const Tensor& ids) {
    Tensor started = ids.clone();
    started.select(1, 0).fill_(id);
    return started;
  }

  Tensor finish(const Tensor& tokens) override { return parts_->finish(tokens); }

  BertParts* parts_;  // of context_.text
  Layers decoder_layers_;
  std::int64_t encoder_id_ = 0, decoder_id_ = 0;
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

void visit_fields(config::Visitor& visitor, BlipFusionOptions& options) {
  visitor("encoder_token", options.encoder_token, "token of the vocabulary that the encoder reads in place of a text's first");
  visitor("decoder_token", options.decoder_token, "the same of the decoder");
}

TextEncoderPtr make_bert_text(const BertOptions& options, std::int64_t vocab_size, const BertTextRules& rules) { return std::make_shared<BertText>(options, vocab_size, rules); }
TextEncoderPtr make_text_encoder(const BertOptions& options, const TextContext& context) {
  return make_bert_text(options, context.vocab_size, {.pad_id = context.pad_id.value_or(0), .positions = Positions::kFromZero});
}
FusionEncoderPtr make_fusion_encoder(const BertFusionOptions& options, const FusionContext& context) { return std::make_shared<BertFusion>(options, context); }
FusionEncoderPtr make_fusion_encoder(const BlipFusionOptions& options, const FusionContext& context) { return std::make_shared<BlipFusion>(options, context); }

}  // namespace fgvl::models
