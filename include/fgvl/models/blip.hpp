#pragma once
#include <string>

#include "fgvl/models/fusion_encoder.hpp"

namespace fgvl::models {

/// BLIP's image-grounded text encoder and decoder (arXiv 2201.12086; e-bug/fine-grained-evals 6cc5fc1, models/BLIP/models/med.py, blip_pretrain.py). Both are the text encoder once more, from the token ids
/// on, with cross-attention to the picture in every layer between self-attention and MLP, and the first token replaced by one that says which of the two reads. The encoder shares all of the text encoder's
/// weights. The decoder has self-attention of its own, which is causal, and shares the rest, the cross-attention with the encoder. Hence no sizes here: they are the text encoder's.
struct BlipFusionOptions {
  std::string encoder_token = "[ENC]";  ///< the encoder's first token. BLIP appends [DEC] and [ENC], in this order, to BERT's vocabulary
  std::string decoder_token = "[DEC]";  ///< the decoder's
};
void visit_fields(config::Visitor& visitor, BlipFusionOptions& options);
/// Parameters of its own: `layer.#.crossattention` and `layer.#.decoder_attention`. Throws c10::Error unless `context.text` is a BERT or RoBERTa with at least one layer and `context.token_id` knows both tokens.
FusionEncoderPtr make_fusion_encoder(const BlipFusionOptions& options, const FusionContext& context);

}  // namespace fgvl::models
