#pragma once
#include <string>
#include <utility>
#include <vector>

#include <torch/torch.h>

#include "fgvl/losses/box_regression.hpp"
#include "fgvl/losses/contrastive.hpp"
#include "fgvl/losses/criterion.hpp"
#include "fgvl/losses/foil_matching.hpp"
#include "fgvl/losses/masked_language.hpp"
#include "fgvl/losses/matching.hpp"
#include "fgvl/models/beit.hpp"
#include "fgvl/models/bert.hpp"
#include "fgvl/models/clip_text.hpp"
#include "fgvl/models/clip_vit.hpp"
#include "fgvl/models/deit.hpp"
#include "fgvl/models/pretrained.hpp"
#include "fgvl/models/region_vlm.hpp"
#include "fgvl/models/swin.hpp"
#include "fgvl/models/vit.hpp"

namespace fgvl::models {

constexpr std::int64_t kImage = 32, kPatch = 8, kGrid = 4, kWidth = 16, kVocabulary = 40;

/// A model of a few thousand weights around `vision`.
inline ModelPtr make(const VisionEncoderPtr& vision, double dropout = 0, Norm norm = Norm::kPost, bool gradient_checkpointing = false, bool at_padding = false) {
  const BertOptions text{.width = kWidth, .layers = 1, .heads = 2, .mlp_width = 32, .max_tokens = 8, .dropout = dropout, .attention_dropout = dropout, .norm = norm};
  const BertFusionOptions fusion{.layers = 2, .heads = 2, .mlp_width = 32, .dropout = dropout, .attention_dropout = dropout, .norm = norm};
  return make_region_vlm({vision, make_text_encoder(text, {.vocab_size = kVocabulary}), make_fusion_encoder(fusion, {.text_width = kWidth, .vision_width = kWidth})},
                         {.embed_dim = 8, .initializer_range = std::nullopt, .gradient_checkpointing = gradient_checkpointing, .at_padding = at_padding}, /*seed=*/3);
}

inline ModelPtr make(bool clip, double dropout = 0, Norm norm = Norm::kPost) {
  if (clip) return make(make_vision_encoder(ClipVitOptions{.image_size = kImage, .patch_size = kPatch, .width = kWidth, .layers = 2, .heads = 2, .mlp_width = 32, .local_attn_depth = 1}), dropout, norm);
  return make(make_vision_encoder(VitOptions{.image_size = kImage, .patch_size = kPatch, .width = kWidth, .layers = 1, .heads = 2, .mlp_ratio = 2}), dropout, norm);
}

/// A CLIP of a few thousand weights: two encoders without fusion.
inline ModelPtr make_dual() {
  const ClipVitOptions vision{.image_size = kImage, .patch_size = kPatch, .width = kWidth, .layers = 2, .heads = 2, .mlp_width = 32, .local_attn_depth = 1};
  const ClipTextOptions text{.width = 12, .layers = 2, .heads = 2, .mlp_width = 24, .max_tokens = 8};
  return make_region_vlm({make_vision_encoder(vision), make_text_encoder(text, {.vocab_size = kVocabulary}), make_fusion_encoder(NoFusionOptions{}, {})},
                         {.embed_dim = 8, .initializer_range = std::nullopt, .projection_bias = false}, /*seed=*/3);
}

/// Small encoders of every kind, of kGrid patches a side and kWidth. The Swin has shifted windows, and maps that are no multiple of them.
inline std::vector<std::pair<std::string, VisionEncoderPtr>> every_vision(double drop_path = 0) {
  return {{"vit", make_vision_encoder(VitOptions{.image_size = kImage, .patch_size = kPatch, .width = kWidth, .layers = 1, .heads = 2, .mlp_ratio = 2})},
          {"clip_vit", make_vision_encoder(ClipVitOptions{.image_size = kImage, .patch_size = kPatch, .width = kWidth, .layers = 2, .heads = 2, .mlp_width = 32, .local_attn_depth = 1})},
          {"deit", make_vision_encoder(DeitOptions{
                       .image_size = kImage, .patch_size = kPatch, .width = kWidth, .layers = 2, .heads = 2, .mlp_ratio = 2, .local_attn_depth = 1, .drop_path = drop_path})},
          {"swin", make_vision_encoder(SwinOptions{
                       .image_size = kImage, .patch_size = 4, .width = kWidth / 2, .depths = {2, 2}, .heads = {2, 2}, .window = 3, .mlp_ratio = 2, .drop_path = drop_path})},
          {"beit", make_vision_encoder(BeitOptions{.image_size = kImage, .patch_size = kPatch, .width = kWidth, .layers = 2, .heads = 2, .mlp_ratio = 2, .drop_path = drop_path})},
          {"beit, shared positions", make_vision_encoder(BeitOptions{.image_size = kImage, .patch_size = kPatch, .width = kWidth, .layers = 2, .heads = 2, .mlp_ratio = 2, .init_values = 0,
                                                                    .relative_positions = RelativePositions::kShared, .drop_path = drop_path})}};
}

/// `regions` boxes over each of two images, one caption each, one foil.
inline RegionBatch batch_with(std::int64_t regions) {
  at::Generator generator = Generator({.seed = 4}).torch_generator(at::kCPU);
  RegionBatch batch;
  const std::int64_t texts = 2 * (1 + regions);
  batch.images = torch::empty({2, 3, kImage, kImage}).normal_(0, 1, generator);
  batch.text_to_image = torch::arange(2).repeat_interleave(1 + regions);
  batch.is_region = torch::arange(texts).remainder(1 + regions) > 0;
  batch.boxes = torch::tensor({0.5f, 0.5f, 1.f, 1.f}).repeat({texts, 1});
  for (std::int64_t row = 0; row < texts; ++row) {
    if (batch.is_region[row].item<bool>()) batch.boxes[row] = torch::tensor({0.25f + 0.1f * static_cast<float>(row % 5), 0.3f, 0.25f, 0.25f});
  }
  batch.is_unambiguous = torch::ones({texts}, torch::kBool);
  batch.text_ids = torch::randint(5, kVocabulary, {texts, 5}, generator);
  batch.text_ids.select(1, 0).fill_(2);
  batch.text_mask = torch::ones({texts, 5}, torch::kBool);
  batch.masked_ids = batch.text_ids.clone();
  batch.masked_ids.select(1, 2).fill_(4);
  batch.masked_positions = torch::full({texts, 1}, 2, torch::kLong);
  batch.masked_labels = batch.text_ids.select(1, 2).unsqueeze(1).clone();
  batch.text_key = torch::arange(texts);
  batch.foil_ids = batch.text_ids.slice(0, 0, 1).flip(1).contiguous();
  batch.foil_ids.select(1, 0).fill_(2);
  batch.foil_mask = torch::ones({1, 5}, torch::kBool);
  batch.foil_to_text = torch::zeros({1}, torch::kLong);
  batch.validate();
  return batch;
}

/// All losses, or all but one.
inline losses::Criterion& add_terms(losses::Criterion& criterion, const std::string& without = "") {
  if (without != "itc") criterion.add("itc", losses::ContrastiveOptions{});
  if (without != "itm") criterion.add("itm", losses::MatchingOptions{});
  if (without != "mlm") criterion.add("mlm", losses::MaskedLanguageOptions{});
  if (without != "box") criterion.add("box", losses::BoxRegressionOptions{});
  if (without != "foils" && without != "itm") criterion.add("foils", losses::FoilMatchingOptions{});
  return criterion;
}

}  // namespace fgvl::models
