#include "fgvl/models/blip.hpp"

#include <torch/torch.h>

#include "models/attention.hpp"
#include "models/bert_text.hpp"
#include "models/cross_layers.hpp"

namespace fgvl::models {
namespace {

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
    const PackedTexts texts(mask, at_padding());
    const Tensor tokens = parts_->embed(started_by(encoder_id_, ids), texts, dropout);
    return prepared(tokens, texts, additive_mask(mask, tokens.scalar_type()), layers_, dropout);
  }

  bool has_decoder() const override { return true; }

  Tensor prepare_decoder(const Tensor& ids, const Tensor& mask, Dropout& dropout) override {
    const PackedTexts texts(mask, at_padding());
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
  BertLayers decoder_layers_;
  std::int64_t encoder_id_ = 0, decoder_id_ = 0;
};

}  // namespace

void visit_fields(config::Visitor& visitor, BlipFusionOptions& options) {
  visitor("encoder_token", options.encoder_token, "token of the vocabulary that the encoder reads in place of a text's first");
  visitor("decoder_token", options.decoder_token, "the same of the decoder");
}

FusionEncoderPtr make_fusion_encoder(const BlipFusionOptions& options, const FusionContext& context) { return std::make_shared<BlipFusion>(options, context); }

}  // namespace fgvl::models
