#pragma once
#include "fgvl/models/name_map.hpp"

namespace fgvl::models {

/// Tables that follow from the sizes of a model, in any family.
inline const std::vector<std::string> kDerivedNames = {"*.position_ids", "*.relative_position_index", "*.attn_mask"};

// One function and one file (names_<family>.cpp) a family. A family without rules is recognised, so that `info` can say what a file is, and not translated.
NameMap fgvl_names();
NameMap xvlm_names();
NameMap albef_names();
NameMap pevl_names();
NameMap blip_names();
NameMap clip_names();
NameMap clip_transformers_names();
NameMap bert_names();

}  // namespace fgvl::models
