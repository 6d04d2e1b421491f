#include "models/name_tables.hpp"

namespace fgvl::models {

NameMap albef_names() { return {.family = "albef", .title = "ALBEF", .required = {"visual_encoder.*", "text_encoder.bert.*", "vision_proj.weight"}, .derived = kDerivedNames}; }

}  // namespace fgvl::models
