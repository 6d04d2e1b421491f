#include "models/name_tables.hpp"

namespace fgvl::models {

NameMap blip_names() { return {.family = "blip", .title = "BLIP", .required = {"visual_encoder.*", "text_decoder.bert.*"}, .derived = kDerivedNames}; }

}  // namespace fgvl::models
