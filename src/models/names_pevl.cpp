#include "models/name_tables.hpp"

namespace fgvl::models {

NameMap pevl_names() { return {.family = "pevl", .title = "PEVL", .required = {"visual_encoder.*", "text_encoder.bert.*", "image_idx_queue"}, .derived = kDerivedNames}; }

}  // namespace fgvl::models
