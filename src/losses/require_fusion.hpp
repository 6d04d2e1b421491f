#pragma once
#include <c10/util/Exception.h>

#include "fgvl/core/features.hpp"

namespace fgvl::losses {

/// Throws c10::Error for a model that cannot give a term of type `type` the fused tokens it reads.
inline void require_fusion(const FeatureSpec& spec, const char* type) {
  TORCH_CHECK(spec.fusion_width > 0, "[", type, "] reads fused tokens, and this model has no fusion encoder (model.fusion.type is none): remove losses of this type, or choose a fusion encoder");
}

}  // namespace fgvl::losses
