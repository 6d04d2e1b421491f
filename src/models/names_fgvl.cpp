#include "models/name_tables.hpp"

namespace fgvl::models {

NameMap fgvl_names() {
  return {.family = "fgvl",
          .title = "fgvl",
          .required = {"model.vision_encoder.*", "model.text_encoder.*", "model.fusion_encoder.*", "model.vision_proj.weight"},
          .rules = {{"model.", "model."}, {"losses.", "losses."}},
          .derived = kDerivedNames};
}

}  // namespace fgvl::models
