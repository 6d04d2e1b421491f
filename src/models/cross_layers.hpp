#pragma once
#include "fgvl/models/fusion_encoder.hpp"
#include "models/bert_layer.hpp"

namespace fgvl::models {

/// BERT layers with cross-attention as a fusion encoder; derived classes say whose they are.
class CrossLayers : public FusionEncoder {
 public:
  std::int64_t width() const override { return context_.text_width; }
  ProjectedVisuals project(const Tensor& sequences) override;
  /// The first layer's self-attention sees no picture yet.
  Tensor prepare(const Tensor& text, const Tensor& mask, Dropout& dropout) override;
  Tensor fuse(const FusionPairs& pairs, const ProjectedVisuals& visuals, Dropout& dropout) override;
  Tensor cross_attention(const FusionPairs& pairs, const ProjectedVisuals& visuals, std::int64_t layer, Dropout& dropout) override;
  double flops_per_pair(std::int64_t tokens, std::int64_t visual_tokens) const override;
  double flops_per_sequence(std::int64_t visual_tokens) const override;

 protected:
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
  Tensor prepared(const Tensor& tokens, const PackedTexts& texts, const Tensor& text_mask, const BertLayers& layers, Dropout& dropout) const;

  /// The residual stream behind layer `last` of `layers`, at `pairs.positions`; without `with_visuals`, as it is when that layer begins to look at the visuals. `text_mask` as of BertLayer.
  Stream run_to(std::size_t last, const BertLayers& layers, const Tensor& text_mask, const FusionPairs& pairs, const ProjectedVisuals& visuals, bool with_visuals, Dropout& dropout) const;

  FusionContext context_;
  BertLayers layers_;
};

}  // namespace fgvl::models
