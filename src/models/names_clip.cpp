#include "models/name_tables.hpp"

namespace fgvl::models {

NameMap clip_names() { return {.family = "clip", .title = "CLIP (OpenAI)", .required = {"visual.*", "transformer.resblocks.*", "logit_scale"}, .derived = kDerivedNames}; }

NameMap clip_transformers_names() { return {.family = "clip_transformers", .title = "CLIP (transformers)", .required = {"vision_model.*", "text_model.*", "logit_scale"}, .derived = kDerivedNames}; }

}  // namespace fgvl::models
