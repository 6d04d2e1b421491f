#include "models/name_tables.hpp"

namespace fgvl::models {

/// thunlp/PEVL, models/model_pretrain.py, as e-bug/fine-grained-evals 6cc5fc1 carries it: ALBEF with position tokens among its words, and a queue of image identities that its objective never reads.
NameMap pevl_names() {
  std::vector<std::string> state = kMomentumState;
  state.emplace_back("image_idx_queue");
  return {.family = "pevl",
          .title = "PEVL",
          .required = {"visual_encoder.*", "text_encoder.bert.*", "image_idx_queue"},
          .rules = albef_rules(),
          .ties = kMaskedLanguageTies,
          .derived = kDerivedNames,
          .objective_state = state};
}

}  // namespace fgvl::models
