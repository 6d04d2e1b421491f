#include "models/name_tables.hpp"

namespace fgvl::models {
namespace {

/// One of transformers' text encoders: `prefix` is "bert.", "roberta." or, for the encoder alone, "".
NameMap encoder(const std::string& family, const std::string& title, const std::string& prefix) {
  return {.family = family,
          .title = title,
          .required = {prefix + "embeddings.word_embeddings.weight", prefix + "encoder.layer.0.attention.self.query.weight"},
          .rules = {{"model.fusion_encoder.layer.#.", prefix + "encoder.layer.#.", "", /*after_text_layers=*/true},
                    {"model.text_encoder.layer.#.", prefix + "encoder.layer.#."},
                    {"model.text_encoder.embeddings.", prefix + "embeddings."}},
          .derived = kDerivedNames,
          .encoder_only = true};
}

}  // namespace

NameMap bert_names() {
  NameMap map = encoder("bert", "BERT (transformers)", "bert.");
  map.rules.insert(map.rules.end(), {{"losses.*.dense.", "cls.predictions.transform.dense.", "mlm"},
                                     {"losses.*.LayerNorm.", "cls.predictions.transform.LayerNorm.", "mlm"},
                                     {"losses.*.bias", "cls.predictions.bias", "mlm"}});
  map.ties = {{"cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"}, {"cls.predictions.decoder.bias", "cls.predictions.bias"}};
  return map;
}

/// bert-base-uncased and its like came from TensorFlow and kept its names of norms.
NameMap bert_tensorflow_names() {
  NameMap map = bert_names();
  map.family = "bert_tensorflow";
  map.title = "BERT (transformers, norms named as in TensorFlow)";
  map.required.emplace_back("bert.embeddings.LayerNorm.gamma");
  map.endings = {{".LayerNorm.weight", ".LayerNorm.gamma"}, {".LayerNorm.bias", ".LayerNorm.beta"}};
  return map;
}

NameMap roberta_names() {
  NameMap map = encoder("roberta", "RoBERTa (transformers)", "roberta.");
  map.rules.insert(map.rules.end(), {{"losses.*.dense.", "lm_head.dense.", "mlm"}, {"losses.*.LayerNorm.", "lm_head.layer_norm.", "mlm"}, {"losses.*.bias", "lm_head.bias", "mlm"}});
  map.ties = {{"lm_head.decoder.weight", "roberta.embeddings.word_embeddings.weight"}, {"lm_head.decoder.bias", "lm_head.bias"}};
  return map;
}

NameMap bert_encoder_names() { return encoder("bert_encoder", "BERT or RoBERTa, the encoder alone (transformers)", ""); }

}  // namespace fgvl::models
