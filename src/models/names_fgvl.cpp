#include "models/name_tables.hpp"

namespace fgvl::models {

NameMap fgvl_names() {
  return {.family = "fgvl",
          .title = "fgvl",
          .required = {"model.vision_encoder.*", "model.text_encoder.*", "model.vision_proj.weight"},
          .rules = {{"model.", "model."}, {"losses.", "losses."}},
          .derived = kDerivedNames};
}

/// What a run writes of a model without fusion: X-VLM's names where X-VLM has them.
NameMap fgvl_dual_names() {
  NameMap map = xvlm_names();
  map.family = "fgvl_dual";
  map.title = "fgvl (a run without fusion)";
  map.required = {"vision_encoder.*", "*text_encoder.*", "vision_proj.weight"};
  return map;
}

}  // namespace fgvl::models
