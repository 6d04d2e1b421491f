#include "fgvl/models/region_vlm.hpp"

#include <torch/torch.h>

#include "core/moving_average.hpp"
#include "fgvl/core/initialize.hpp"
#include "fgvl/models/beit.hpp"
#include "fgvl/models/bert.hpp"
#include "fgvl/models/blip.hpp"
#include "fgvl/models/clip_text.hpp"
#include "fgvl/models/clip_vit.hpp"
#include "fgvl/models/deit.hpp"
#include "fgvl/models/roberta.hpp"
#include "fgvl/models/swin.hpp"
#include "fgvl/models/vit.hpp"
#include "models/region_vlm_pass.hpp"

namespace fgvl::models {

RegionVlm::RegionVlm(RegionVlmParts parts, const RegionVlmOptions& options, std::uint64_t seed, RegionVlmParts copies) : options_(options), seed_(seed) {
  TORCH_CHECK(parts.vision && parts.text && parts.fusion, "[make_region_vlm] parts: expected a vision, a text and a fusion encoder");
  TORCH_CHECK(parts.fusion->width() == 0 || parts.fusion->width() == parts.text->width(), "[make_region_vlm] parts: the fusion encoder is ", parts.fusion->width(), " wide, the text encoder ", parts.text->width());
  TORCH_CHECK(parts.fusion->shared_text() == nullptr || parts.fusion->shared_text() == parts.text.get(),
              "[make_region_vlm] parts: the fusion encoder shares weights with another text encoder than this one; make it with this one in its FusionContext");
  TORCH_CHECK(options.embed_dim > 0, "[make_region_vlm] embed_dim: expected a positive number, got ", options.embed_dim);
  vision = register_module("vision_encoder", parts.vision);
  text = register_module("text_encoder", parts.text);
  fusion = register_module("fusion_encoder", parts.fusion);
  for (Encoder* encoder : std::initializer_list<Encoder*>{vision.get(), text.get(), fusion.get()}) encoder->set_gradient_checkpointing(options.gradient_checkpointing);
  for (Encoder* encoder : std::initializer_list<Encoder*>{text.get(), fusion.get()}) encoder->set_at_padding(options.at_padding);
  vision_proj = register_module("vision_proj", Linear(torch::nn::LinearOptions(vision->width(), options.embed_dim).bias(options.projection_bias)));
  text_proj = register_module("text_proj", Linear(torch::nn::LinearOptions(text->width(), options.embed_dim).bias(options.projection_bias)));
  if (options.box_head && fusion->width() > 0) bbox_head = register_module("bbox_head", std::make_shared<MlpHead>(fusion->width(), 4, kHeadNormEps));
  initialize(*this, seed, options.initializer_range);
  vision->initialize_embeddings(seed);
  text->initialize_embeddings(seed);
  TORCH_CHECK(options.momentum.has_value() == (copies.vision != nullptr), "[make_region_vlm] copies: ", options.momentum ? "expected parts for the momentum encoders" : "expected none without RegionVlmOptions::momentum");
  if (!options.momentum) return;
  RegionVlmOptions of_copies = options;
  of_copies.momentum.reset();
  of_copies.box_head = false;  // nothing follows it
  momentum = register_module("momentum", std::make_shared<RegionVlm>(std::move(copies), of_copies, seed));  // drawn from the same seed: equal
  never_train(*momentum);
}

void RegionVlm::update_momentum() {
  if (momentum) follow(*momentum, *this, options_.momentum->decay);
}

FeatureSpec RegionVlm::spec() const {
  return {.fusion_width = fusion->width(), .embed_dim = options_.embed_dim, .vocab_size = text->vocab_size(), .first_position_id = options_.first_position_id, .has_box_head = bbox_head != nullptr, .has_decoder = fusion->has_decoder(),
          .at_padding = options_.at_padding, .momentum = options_.momentum ? std::optional(options_.momentum->decay) : std::nullopt, .text_layer_norm_eps = text->layer_norm_eps(),
          .head_layer_norm_eps = kHeadNormEps, .initializer_range = options_.initializer_range, .seed = seed_};
}

std::unique_ptr<ForwardPass> RegionVlm::begin(const RegionBatch& batch, const PassOptions& options) {
  TORCH_CHECK(!batch.images.defined() || (batch.images.dim() == 4 && batch.images.size(2) == vision->image_size() && batch.images.size(3) == vision->image_size()),
              "[RegionVlm::begin] batch.images: expected [B, 3, ", vision->image_size(), ", ", vision->image_size(), "], got ", batch.images.sizes());
  return make_pass(*this, batch, options);
}

ModelPtr make_region_vlm(RegionVlmParts parts, const RegionVlmOptions& options, std::uint64_t seed, RegionVlmParts copies) {
  return std::make_shared<RegionVlm>(std::move(parts), options, seed, std::move(copies));
}

void visit_fields(config::Visitor& visitor, MomentumOptions& options) {
  visitor("decay", options.decay, "share of itself that a weight of theirs keeps in a step", config::kFraction);
  visitor("dropout", options.dropout, "in training they drop as the encoders do, with draws of their own, as ALBEF's; false: no noise in what they say");
}

void visit_fields(config::Visitor& visitor, ModelConfig& config) {
  visitor("vision", config.vision, "vision encoder");
  visitor("text", config.text, "text encoder");
  visitor("fusion", config.fusion, "fusion encoder");
  visitor("embed_dim", config.options.embed_dim, "width of the common space of images, regions and texts", {1, 65536});
  visitor("initializer_range", config.options.initializer_range, "standard deviation of new weights; null: uniform by fan-in", config::kPositive);
  visitor("box_head", config.options.box_head, "whether the model predicts boxes: X-VLM's does, ALBEF's, BLIP's and PEVL's do not");
  visitor("projection_bias", config.options.projection_bias, "whether the projections to the common space add a bias; CLIP's do not");
  visitor("gradient_checkpointing", config.options.gradient_checkpointing, "keep only what goes into each block of the encoders, and compute the rest once more in backward: less memory, more time, the same numbers");
  visitor("at_padding", config.options.at_padding, "compute padding of texts like tokens, as official codes do; no real token depends on it, but PEVL's distillation (masked_language, reference) does");
  visitor("momentum", config.options.momentum, "momentum encoders: copies that follow the weights slowly, as ALBEF, BLIP and PEVL have them: {decay: 0.995, dropout: true}; null: none");
}

ModelPtr make_model(const ModelConfig& config, const TextContext& text, std::uint64_t seed) {
  const auto make_parts = [&] {
    RegionVlmParts parts{config.vision.make(), config.text.make(text), nullptr};
    parts.fusion = config.fusion.make({.text_width = parts.text->width(), .vision_width = parts.vision->width(), .text = parts.text, .token_id = text.token_id});
    return parts;
  };
  RegionVlmOptions options = config.options;
  if (text.token_id) options.first_position_id = text.token_id("[pos_0]");
  return make_region_vlm(make_parts(), options, seed, config.options.momentum ? make_parts() : RegionVlmParts());
}

ModelInfo describe(const Model& model, std::int64_t tokens) {
  const auto* vlm = dynamic_cast<const RegionVlm*>(&model);
  TORCH_CHECK(vlm != nullptr, "[describe] model: expected one that make_region_vlm made");
  ModelInfo info;
  for (const auto& child : vlm->named_children()) {
    std::int64_t count = 0;
    for (const Tensor& parameter : child.value()->parameters()) count += parameter.numel();
    info.parameters.emplace_back(child.key(), count);
    info.total_parameters += count;
  }
  info.image_size = vlm->vision->image_size();
  info.visual_tokens = vlm->vision->grid() * vlm->vision->grid() + 1;
  info.embed_dim = vlm->spec().embed_dim;
  info.max_tokens = vlm->text->max_tokens();
  info.flops_per_image = vlm->vision->flops_per_image() + vlm->fusion->flops_per_sequence(info.visual_tokens);
  info.flops_per_text = vlm->text->flops_per_text(tokens);
  info.flops_per_pair = vlm->fusion->flops_per_pair(tokens, info.visual_tokens);
  return info;
}

std::shared_ptr<VisionEncoderRegistry> builtin_vision_encoders() {
  auto registry = std::make_shared<VisionEncoderRegistry>();
  registry->add<VitOptions>("vit", [](const VitOptions& options) { return make_vision_encoder(options); });
  registry->add<ClipVitOptions>("clip_vit", [](const ClipVitOptions& options) { return make_vision_encoder(options); });
  registry->add<DeitOptions>("deit", [](const DeitOptions& options) { return make_vision_encoder(options); });
  registry->add<SwinOptions>("swin", [](const SwinOptions& options) { return make_vision_encoder(options); });
  registry->add<BeitOptions>("beit", [](const BeitOptions& options) { return make_vision_encoder(options); });
  return registry;
}

std::shared_ptr<TextEncoderRegistry> builtin_text_encoders() {
  auto registry = std::make_shared<TextEncoderRegistry>();
  registry->add<BertOptions>("bert", [](const BertOptions& options, const TextContext& context) { return make_text_encoder(options, context); });
  registry->add<ClipTextOptions>("clip_text", [](const ClipTextOptions& options, const TextContext& context) { return make_text_encoder(options, context); });
  registry->add<RobertaOptions>("roberta", [](const RobertaOptions& options, const TextContext& context) { return make_text_encoder(options, context); });
  return registry;
}

std::shared_ptr<FusionEncoderRegistry> builtin_fusion_encoders() {
  auto registry = std::make_shared<FusionEncoderRegistry>();
  registry->add<BertFusionOptions>("bert", [](const BertFusionOptions& options, const FusionContext& context) { return make_fusion_encoder(options, context); });
  registry->add<BlipFusionOptions>("blip", [](const BlipFusionOptions& options, const FusionContext& context) { return make_fusion_encoder(options, context); });
  registry->add<NoFusionOptions>("none", [](const NoFusionOptions& options, const FusionContext& context) { return make_fusion_encoder(options, context); });
  return registry;
}

}  // namespace fgvl::models
