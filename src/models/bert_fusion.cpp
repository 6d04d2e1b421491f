#include "fgvl/models/bert.hpp"

#include <torch/torch.h>

#include "models/cross_layers.hpp"

namespace fgvl::models {
namespace {

class BertFusion final : public CrossLayers {
 public:
  BertFusion(const BertFusionOptions& options, const FusionContext& context) : CrossLayers({.text_width = context.text_width, .vision_width = context.vision_width}) {
    TORCH_CHECK(options.layers > 0, "[BertFusionOptions] layers: expected at least 1, got ", options.layers);
    TORCH_CHECK(context.text_width % options.heads == 0, "[BertFusionOptions] heads: expected a divisor of the text width ", context.text_width, ", got ", options.heads);
    layers_ = make_bert_layers(*this, options.layers,
                          {context.text_width, options.heads, options.mlp_width, context.vision_width, options.layer_norm_eps, options.dropout, options.attention_dropout, options.norm});
    if (options.norm == Norm::kPre) final_norm_ = register_module("norm", layer_norm(context.text_width, options.layer_norm_eps));
  }

 private:
  Tensor finish(const Tensor& tokens) override { return final_norm_ ? final_norm_(tokens) : tokens; }

  torch::nn::LayerNorm final_norm_{nullptr};
};

}  // namespace

void visit_fields(config::Visitor& visitor, BertFusionOptions& options) {
  visitor("layers", options.layers, "layers with cross-attention", {1, 256});
  visitor("heads", options.heads, "of attention", {1, 256});
  visitor("mlp_width", options.mlp_width, "of the MLP", {1, 65536});
  visitor("layer_norm_eps", options.layer_norm_eps, "of every LayerNorm", config::kPositive);
  visitor("dropout", options.dropout, "of attention outputs and MLP outputs", {0.0, 0.9});
  visitor("attention_dropout", options.attention_dropout, "of attention weights; 0.1 in BERT and X-VLM", {0.0, 0.9});
  visitor("norm", options.norm, "post: after every residual sum, as BERT; pre: before every sub-layer");
}

FusionEncoderPtr make_fusion_encoder(const BertFusionOptions& options, const FusionContext& context) { return std::make_shared<BertFusion>(options, context); }

}  // namespace fgvl::models
