#include <algorithm>

#include "models/name_tables.hpp"

namespace fgvl::models {
namespace {

/// Fine-tuning for retrieval (models/model_retrieval.py of both) keeps no word predictor and no boxes, so that the text encoder is a BertModel of its own instead of the `bert` of a BertForMaskedLM.
NameMap retrieval_of(NameMap map) {
  const std::string masked_language = "text_encoder.bert.";
  const auto begins = [](const std::string& name, const std::string& beginning) { return name.rfind(beginning, 0) == 0; };
  std::erase_if(map.rules, [&](const NameRule& rule) { return begins(rule.official, "text_encoder.cls.") || begins(rule.official, "bbox_head."); });
  for (NameRule& rule : map.rules) {
    if (begins(rule.official, masked_language)) rule.official.replace(0, masked_language.size(), "text_encoder.");
  }
  map.ties.clear();
  map.family += "_retrieval";
  map.title += " (retrieval)";
  return map;
}

const std::string kFusionLayers = "text_encoder.encoder.layer.*.crossattention.*";

}  // namespace

NameMap xvlm_retrieval_names() {
  NameMap map = retrieval_of(xvlm_names());
  map.required = {"vision_encoder.*", kFusionLayers, "vision_proj.weight", "itm_head.0.weight"};
  return map;
}

NameMap albef_retrieval_names() {
  NameMap map = retrieval_of(albef_names());
  map.required = {"visual_encoder.*", kFusionLayers, "vision_proj.weight", "queue_ptr"};  // BLIP's is a ptr_queue
  return map;
}

}  // namespace fgvl::models
