#include "models/name_tables.hpp"

namespace fgvl::models {
namespace {

/// Fine-tuning without word prediction (retrieval, grounding, ...): the text encoder is a BertModel of its own instead of the `bert` of a BertForMaskedLM.
NameMap finetuned(NameMap map) {
  for (const std::string encoder : {"text_encoder.", "text_encoder_m."}) {
    const std::string masked_language = encoder + "bert.";
    std::erase_if(map.rules, [&](const NameRule& rule) { return rule.official.rfind(encoder + "cls.", 0) == 0; });
    for (NameRule& rule : map.rules) {
      if (rule.official.rfind(masked_language, 0) == 0) rule.official.replace(0, masked_language.size(), encoder);
    }
  }
  map.ties.clear();
  map.family += "_finetuned";
  map.title += ", fine-tuned without word prediction";
  return map;
}

const std::string kFusionLayers = "text_encoder.encoder.layer.*.crossattention.*";

}  // namespace

NameMap xvlm_finetuned_names() {
  NameMap map = finetuned(xvlm_names());
  map.title = "X-VLM or X2-VLM, fine-tuned without word prediction";
  map.required = {"vision_encoder.*", "text_encoder.embeddings.*", kFusionLayers};
  return map;
}

NameMap albef_finetuned_names() {
  NameMap map = finetuned(albef_names());
  map.required = {"visual_encoder.*", "text_encoder.embeddings.*", kFusionLayers, "vision_proj.weight", "queue_ptr"};  // BLIP's is a ptr_queue
  return map;
}

}  // namespace fgvl::models
