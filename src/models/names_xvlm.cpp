#include "models/name_tables.hpp"

namespace fgvl::models {

/// zengyan-97/X-VLM cb4fff1, models/xvlm.py and model_pretrain.py. Vision encoders have the official names on both sides.
NameMap xvlm_names() {
  return {.family = "xvlm",
          .title = "X-VLM",
          .required = {"vision_encoder.*", "text_encoder.bert.encoder.layer.*.crossattention.*", "vision_proj.weight"},
          .rules = {{"model.fusion_encoder.layer.#.", "text_encoder.bert.encoder.layer.#.", "", /*after_text_layers=*/true},
                    {"model.text_encoder.layer.#.", "text_encoder.bert.encoder.layer.#."},
                    {"model.text_encoder.text_model.", "model.text_encoder.text_model."},  // a CLIP text encoder, which X-VLM does not have
                    {"model.text_encoder.", "text_encoder.bert."},
                    {"model.vision_encoder.", "vision_encoder."},
                    {"model.vision_proj.", "vision_proj."},
                    {"model.text_proj.", "text_proj."},
                    {"model.bbox_head.", "bbox_head."},
                    // Terms are found by what they hold, because their names are the user's.
                    {"losses.*.itm_head.", "itm_head.", "itm"},
                    {"losses.*.temperature.temp", "temp", "itc"},
                    {"losses.*.dense.", "text_encoder.cls.predictions.transform.dense.", "mlm"},
                    {"losses.*.LayerNorm.", "text_encoder.cls.predictions.transform.LayerNorm.", "mlm"},
                    {"losses.*.bias", "text_encoder.cls.predictions.bias", "mlm"}},
          .ties = kMaskedLanguageTies,
          .derived = kDerivedNames};
}

}  // namespace fgvl::models
