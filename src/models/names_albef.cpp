#include "models/name_tables.hpp"

namespace fgvl::models {

/// salesforce/ALBEF, models/model_pretrain.py, as e-bug/fine-grained-evals 6cc5fc1 carries it. `visual_encoder` is a DeiT, whose names are ours.
std::vector<NameRule> albef_rules() {
  return {{"model.momentum.fusion_encoder.layer.#.", "text_encoder_m.bert.encoder.layer.#.", "", /*after_text_layers=*/true},
          {"model.momentum.text_encoder.layer.#.", "text_encoder_m.bert.encoder.layer.#."},
          {"model.momentum.text_encoder.", "text_encoder_m.bert."},
          {"model.momentum.vision_encoder.", "visual_encoder_m."},
          {"model.momentum.vision_proj.", "vision_proj_m."},
          {"model.momentum.text_proj.", "text_proj_m."},
          {"losses.*.momentum.dense.", "text_encoder_m.cls.predictions.transform.dense.", "mlm"},
          {"losses.*.momentum.LayerNorm.", "text_encoder_m.cls.predictions.transform.LayerNorm.", "mlm"},
          {"losses.*.momentum.bias", "text_encoder_m.cls.predictions.bias", "mlm"},
          kQueueRules[0],
          kQueueRules[1],
          kQueueRules[2],
          {"model.fusion_encoder.layer.#.", "text_encoder.bert.encoder.layer.#.", "", /*after_text_layers=*/true},
          {"model.text_encoder.layer.#.", "text_encoder.bert.encoder.layer.#."},
          {"model.text_encoder.", "text_encoder.bert."},
          {"model.vision_encoder.", "visual_encoder."},
          {"model.vision_proj.", "vision_proj."},
          {"model.text_proj.", "text_proj."},
          {"losses.*.itm_head.weight", "itm_head.weight", "itm"},
          {"losses.*.itm_head.bias", "itm_head.bias", "itm"},
          {"losses.*.temperature.temp", "temp", "itc"},
          {"losses.*.dense.", "text_encoder.cls.predictions.transform.dense.", "mlm"},
          {"losses.*.LayerNorm.", "text_encoder.cls.predictions.transform.LayerNorm.", "mlm"},
          {"losses.*.bias", "text_encoder.cls.predictions.bias", "mlm"}};
}

NameMap albef_names() {
  return {.family = "albef",
          .title = "ALBEF",
          .required = {"visual_encoder.*", "text_encoder.bert.*", "vision_proj.weight"},
          .rules = albef_rules(),
          .ties = kMaskedLanguageTies,
          .derived = kDerivedNames,
          .objective_state = kMomentumState};
}

}  // namespace fgvl::models
