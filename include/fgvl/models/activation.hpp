#pragma once
#include "fgvl/core/config_visitor.hpp"

namespace fgvl::models {

enum class Activation {
  kGelu,       ///< exact GELU
  kQuickGelu,  ///< x * sigmoid(1.702 x), as OpenAI's CLIP
};
config::EnumNames<Activation> enum_names(Activation);

}  // namespace fgvl::models
