#include "models/name_tables.hpp"

namespace fgvl::models {

/// zengyan-97/X2-VLM 21ed5a5, models/xvlm.py, XVLMBase: X-VLM's names around a BEiT-2, and another number of text layers (12 of 18).
NameMap x2vlm_names() {
  NameMap map = xvlm_names();
  map.family = "x2vlm";
  map.title = "X2-VLM";
  map.required.emplace_back("vision_encoder.blocks.*.attn.q_bias");  // no other vision encoder of either has it
  return map;
}

/// The same, XVLMPlusBase: a text encoder (BERT or RoBERTa, `text_encoder.*`) and a cross encoder of its own, which has no embeddings. The word prediction head has its own matrix
/// (`decoder: own` of masked_language).
NameMap x2vlm_plus_names() {
  return {.family = "x2vlm_plus",
          .title = "X2-VLM with a separate cross encoder",
          .required = {"vision_encoder.*", "text_encoder.encoder.layer.*", "cross_encoder.encoder.layer.0.crossattention.*", "vision_proj.weight"},
          .rules = {{"model.fusion_encoder.layer.#.", "cross_encoder.encoder.layer.#."},
                    {"model.text_encoder.layer.#.", "text_encoder.encoder.layer.#."},
                    {"model.text_encoder.", "text_encoder."},
                    {"model.vision_encoder.", "vision_encoder."},
                    {"model.vision_proj.", "vision_proj."},
                    {"model.text_proj.", "text_proj."},
                    {"model.bbox_head.", "bbox_head."},
                    {"losses.*.itm_head.", "itm_head.", "itm"},
                    {"losses.*.temperature.temp", "temp", "itc"},
                    {"losses.*.dense.", "mlm_head.predictions.transform.dense.", "mlm"},
                    {"losses.*.LayerNorm.", "mlm_head.predictions.transform.LayerNorm.", "mlm"},
                    {"losses.*.decoder.weight", "mlm_head.predictions.decoder.weight", "mlm"},
                    {"losses.*.bias", "mlm_head.predictions.bias", "mlm"}},
          .ties = {{"mlm_head.predictions.decoder.bias", "mlm_head.predictions.bias"}},
          .derived = kDerivedNames};
}

}  // namespace fgvl::models
