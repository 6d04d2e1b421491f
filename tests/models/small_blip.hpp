#pragma once
#include <string>

#include <torch/torch.h>

#include "fgvl/models/blip.hpp"
#include "models/small_model.hpp"

namespace fgvl::models {

constexpr std::int64_t kEncoderId = 38, kDecoderId = 39;

inline std::int64_t token_id(const std::string& token) { return token == "[ENC]" ? kEncoderId : token == "[DEC]" ? kDecoderId : -1; }

inline TextEncoderPtr small_text(double dropout = 0, Norm norm = Norm::kPost, std::int64_t layers = 2) {
  return make_text_encoder(BertOptions{.width = kWidth, .layers = layers, .heads = 2, .mlp_width = 32, .max_tokens = 8, .token_types = 0, .dropout = dropout, .norm = norm, .word_std = 0.3},
                           {.vocab_size = kVocabulary});
}

inline FusionContext context_of(const TextEncoderPtr& text) { return {.text_width = kWidth, .vision_width = kWidth, .text = text, .token_id = token_id}; }

inline ModelPtr make_blip(double dropout = 0, Norm norm = Norm::kPost, bool gradient_checkpointing = false) {
  const TextEncoderPtr text = small_text(dropout, norm);
  const VisionEncoderPtr vision = make_vision_encoder(VitOptions{.image_size = kImage, .patch_size = kPatch, .width = kWidth, .layers = 1, .heads = 2, .mlp_ratio = 2});
  return make_region_vlm({vision, text, make_fusion_encoder(BlipFusionOptions{}, context_of(text))}, {.embed_dim = 8, .initializer_range = std::nullopt, .box_head = false, .gradient_checkpointing = gradient_checkpointing}, /*seed=*/3);
}

/// batch_with, whose texts have neither of the two tokens.
inline RegionBatch blip_batch(std::int64_t regions) {
  RegionBatch batch = batch_with(regions);
  batch.text_ids.clamp_max_(kEncoderId - 1);
  return batch;
}

/// Two pictures, and texts of 2 to 5 tokens over them.
inline RegionBatch ragged_batch() {
  RegionBatch batch = blip_batch(2);
  const Tensor lengths = torch::tensor({5, 2, 3, 2, 5, 4});
  batch.text_mask = torch::arange(5).unsqueeze(0) < lengths.unsqueeze(1);
  batch.text_ids.masked_fill_(batch.text_mask.logical_not(), 0);
  batch.validate();
  return batch;
}

}  // namespace fgvl::models
