#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <c10/util/Exception.h>

#include "fgvl/core/registry.hpp"
#include "fgvl/core/tensor.hpp"
#include "fgvl/models/encoder.hpp"
#include "fgvl/models/text_encoder.hpp"

namespace fgvl::models {

class Dropout;

/// Keys and values of visual sequences, projected once per distinct sequence and layer.
struct ProjectedVisuals {
  std::vector<Tensor> keys{}, values{};  ///< a layer: [S, ..., tokens, d]; how channels are split before tokens, as by heads, is the encoder's own affair
};

/// N pairs of a text and a visual sequence.
struct FusionPairs {
  Tensor text{};            ///< [N, L, D] prepared texts: what prepare() gave, or prepare_decoder()
  Tensor text_mask{};       ///< [N, L] bool
  Tensor sequence_index{};  ///< [N] int64 into the projected sequences
  Tensor visual_mask{};     ///< [N, tokens of a sequence] bool; undefined: every token
  Tensor positions{};       ///< [N, M] int64 token positions to compute in the last layer; undefined: all
};

/// Text tokens that attend to one another and to visual tokens.
class FusionEncoder : public Encoder {
 public:
  virtual std::int64_t width() const = 0;  ///< D; 0: there is no fusion, and the functions below throw c10::Error
  /// `sequences` [S, tokens, Dv]: VisualTokens::sequences.
  virtual ProjectedVisuals project(const Tensor& sequences) = 0;
  /// The text encoder of which this one uses weights, and which it starts anew from token ids (BLIP); null: it goes on from the embeds of whatever text encoder there is. The weights are the text
  /// encoder's alone in named_parameters(), so that optimizers and checkpoints have them once.
  virtual const TextEncoder* shared_text() const { return nullptr; }
  /// What can be computed of texts before they meet a picture; done once for all pairs of a text. `text` [T, L, D] text embeds, or [T, L] int64 token ids with shared_text(); `mask` [T, L] bool;
  /// [T, L, D].
  virtual Tensor prepare(const Tensor& text, const Tensor& mask, Dropout& dropout) = 0;
  /// [N, L, D], or [N, M, D] with positions.
  virtual Tensor fuse(const FusionPairs& pairs, const ProjectedVisuals& visuals, Dropout& dropout) = 0;
  /// [N, heads, L, tokens], or [N, heads, M, tokens] with positions: what each text token's look at the visual tokens is made of in layer `layer` (0 is the first, -1 the
  /// last); see ForwardPass::cross_attention. Runs the layers before it.
  virtual Tensor cross_attention(const FusionPairs& /*pairs*/, const ProjectedVisuals& /*visuals*/, std::int64_t /*layer*/, Dropout& /*dropout*/) {
    TORCH_CHECK(false, "[FusionEncoder::cross_attention] this fusion encoder has no cross-attention");
  }
  /// A causal decoder over the same visuals: ForwardPass::decoded.
  virtual bool has_decoder() const { return false; }
  /// prepare() of the decoder; `ids` [T, L] int64.
  virtual Tensor prepare_decoder(const Tensor& /*ids*/, const Tensor& /*mask*/, Dropout& /*dropout*/) { TORCH_CHECK(false, "[FusionEncoder::prepare_decoder] this fusion encoder has no decoder"); }
  /// [N, L, D], or [N, M, D] with positions: token l of a text has seen its tokens 0 to l, and the visual.
  virtual Tensor decode(const FusionPairs& /*pairs*/, const ProjectedVisuals& /*visuals*/, Dropout& /*dropout*/) { TORCH_CHECK(false, "[FusionEncoder::decode] this fusion encoder has no decoder"); }
  virtual double flops_per_pair(std::int64_t tokens, std::int64_t visual_tokens) const = 0;
  virtual double flops_per_sequence(std::int64_t visual_tokens) const = 0;  ///< the projections
};
using FusionEncoderPtr = std::shared_ptr<FusionEncoder>;

/// What a fusion encoder must know of its neighbours.
struct FusionContext {
  std::int64_t text_width = 0, vision_width = 0;
  TextEncoderPtr text{};                                                   ///< the model's text encoder, for those that share its weights
  std::function<std::int64_t(const std::string& token)> token_id{};  ///< TextContext::token_id
};
using FusionEncoderRegistry = Registry<FusionEncoderPtr, FusionContext>;
/// Ours: bert, blip, none.
std::shared_ptr<FusionEncoderRegistry> builtin_fusion_encoders();

/// A model of two encoders, as CLIP: pictures and texts meet only in the common space. Losses that read fused tokens refuse such a model when they are made.
struct NoFusionOptions {};
void visit_fields(config::Visitor& visitor, NoFusionOptions& options);
FusionEncoderPtr make_fusion_encoder(const NoFusionOptions& options, const FusionContext& context);

}  // namespace fgvl::models
