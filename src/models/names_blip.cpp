#include "models/name_tables.hpp"

namespace fgvl::models {

/// salesforce/BLIP, models/blip_pretrain.py, as e-bug/fine-grained-evals 6cc5fc1 carries it. `text_encoder` is the text encoder and, with its cross-attention, the image-grounded encoder; of the decoder only
/// self-attention and the prediction head are its own. `visual_encoder` is a DeiT, whose names are ours.
NameMap blip_names() {
  return {.family = "blip",
          .title = "BLIP",
          .required = {"visual_encoder.*", "text_encoder.encoder.layer.*.crossattention.*", "text_decoder.bert.*"},
          .rules = {{"model.momentum.fusion_encoder.layer.#.crossattention.", "text_encoder_m.encoder.layer.#.crossattention."},
                    {"model.momentum.text_encoder.layer.#.", "text_encoder_m.encoder.layer.#."},
                    {"model.momentum.text_encoder.", "text_encoder_m."},
                    {"model.momentum.vision_encoder.", "visual_encoder_m."},
                    {"model.momentum.vision_proj.", "vision_proj_m."},
                    {"model.momentum.text_proj.", "text_proj_m."},
                    kQueueRules[0],
                    kQueueRules[1],
                    kQueueRules[2],
                    {"model.fusion_encoder.layer.#.crossattention.", "text_encoder.encoder.layer.#.crossattention."},
                    {"model.fusion_encoder.layer.#.decoder_attention.", "text_decoder.bert.encoder.layer.#.attention."},
                    {"model.text_encoder.layer.#.", "text_encoder.encoder.layer.#."},
                    {"model.text_encoder.", "text_encoder."},
                    {"model.vision_encoder.", "visual_encoder."},
                    {"model.vision_proj.", "vision_proj."},
                    {"model.text_proj.", "text_proj."},
                    {"losses.*.itm_head.weight", "itm_head.weight", "itm"},
                    {"losses.*.itm_head.bias", "itm_head.bias", "itm"},
                    {"losses.*.temperature.temp", "temp", "itc"},
                    {"losses.*.lm_head.dense.", "text_decoder.cls.predictions.transform.dense.", "lm"},
                    {"losses.*.lm_head.LayerNorm.", "text_decoder.cls.predictions.transform.LayerNorm.", "lm"},
                    {"losses.*.lm_head.bias", "text_decoder.cls.predictions.bias", "lm"}},
          .ties = {{"text_decoder.bert.embeddings.", "text_encoder.embeddings."},
                   {"text_decoder.bert.encoder.layer.#.crossattention.", "text_encoder.encoder.layer.#.crossattention."},
                   {"text_decoder.bert.encoder.layer.#.intermediate.", "text_encoder.encoder.layer.#.intermediate."},
                   {"text_decoder.bert.encoder.layer.#.output.", "text_encoder.encoder.layer.#.output."},
                   {"text_decoder.cls.predictions.decoder.weight", "text_encoder.embeddings.word_embeddings.weight"},
                   {"text_decoder.cls.predictions.decoder.bias", "text_decoder.cls.predictions.bias"}},
          .derived = kDerivedNames,
          .objective_state = kMomentumState};
}

}  // namespace fgvl::models
