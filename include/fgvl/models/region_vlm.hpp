#pragma once
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fgvl/models/fusion_encoder.hpp"
#include "fgvl/models/model.hpp"
#include "fgvl/models/text_encoder.hpp"
#include "fgvl/models/vision_encoder.hpp"

namespace fgvl::models {

struct RegionVlmParts {
  VisionEncoderPtr vision;
  TextEncoderPtr text;
  FusionEncoderPtr fusion;
};

/// Momentum encoders: copies of the encoders and projections that do not train but follow the weights, an exponential moving average. ALBEF (arXiv 2107.07651, section 3.2), BLIP and PEVL
/// take features and soft targets of them (ForwardPass::momentum()); MoCo (1911.05722) had the idea.
struct MomentumOptions {
  double decay = 0.995;  ///< the share of itself that a weight keeps in one optimizer step
  bool dropout = true;   ///< in training the copies drop as the encoders do, with draws of their own: the official codes leave the copies in training mode. false: what they say carries no noise
};
void visit_fields(config::Visitor& visitor, MomentumOptions& options);

struct RegionVlmOptions {
  std::int64_t embed_dim = 256;                  ///< E
  std::optional<double> initializer_range = 0.02;  ///< standard deviation of new weights; absent: uniform by fan-in
  bool box_head = true;                            ///< false: a model that predicts no boxes (ALBEF, BLIP, PEVL); predicted_boxes() then throws c10::Error
  bool projection_bias = true;                   ///< of vision_proj and text_proj; CLIP's have none
  bool gradient_checkpointing = false;           ///< of all three encoders; see Encoder
  std::optional<MomentumOptions> momentum{};     ///< absent: no momentum encoders
  bool at_padding = false;                       ///< of text and fusion encoder; see Encoder
  std::int64_t first_position_id = -1;           ///< FeatureSpec::first_position_id; make_model() has it from the vocabulary
};

/// An X-VLM-style model: three encoders, projections to the common space (`vision_proj`, `text_proj`) and, with fusion and unless switched off, a box head (`bbox_head`).
/// Weights are a pure function of `seed`. Throws c10::Error when the widths of the parts do not fit.
/// `copies`: parts made like the others, which become the momentum encoders ("momentum.*" among the model's parameters); expected with RegionVlmOptions::momentum, and only then. They start with the weights
/// of the others.
ModelPtr make_region_vlm(RegionVlmParts parts, const RegionVlmOptions& options = {}, std::uint64_t seed = 0, RegionVlmParts copies = {});

/// The `model:` section.
struct ModelConfig {
  Choice<VisionEncoderPtr> vision{builtin_vision_encoders(), "vit"};
  Choice<TextEncoderPtr, TextContext> text{builtin_text_encoders(), "bert"};
  Choice<FusionEncoderPtr, FusionContext> fusion{builtin_fusion_encoders(), "bert"};
  RegionVlmOptions options{};
};
void visit_fields(config::Visitor& visitor, ModelConfig& config);
ModelPtr make_model(const ModelConfig& config, const TextContext& text, std::uint64_t seed);

/// What a model consists of and costs.
struct ModelInfo {
  std::vector<std::pair<std::string, std::int64_t>> parameters{};  ///< by sub-module
  std::int64_t total_parameters = 0;  ///< with those of momentum encoders
  std::int64_t image_size = 0, visual_tokens = 0, embed_dim = 0, max_tokens = 0;
  double flops_per_image = 0, flops_per_text = 0, flops_per_pair = 0;  ///< of one forward pass, texts of `tokens` tokens
};
/// Throws c10::Error for a model that make_region_vlm did not make.
ModelInfo describe(const Model& model, std::int64_t tokens);

}  // namespace fgvl::models
