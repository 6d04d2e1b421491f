#include "models/name_tables.hpp"

namespace fgvl::models {

NameMap bert_names() { return {.family = "bert", .title = "BERT", .required = {"*embeddings.word_embeddings.weight", "*encoder.layer.0.attention.self.query.weight"}, .derived = kDerivedNames}; }

}  // namespace fgvl::models
