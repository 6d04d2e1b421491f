#pragma once
#include "fgvl/losses/contrastive.hpp"

namespace fgvl::losses {

/// Regions against the distinct labels or descriptions of the batch, in both directions. Several regions share one text and all of them
/// are its positives; each distinct text enters the softmax once, so that frequent labels do not crowd it.
/// Parts: `to_text` (every region finds its text) and `to_region` (every distinct text finds its regions), each with weight 1/2.
struct RegionLabelContrastiveOptions {
  TemperatureOptions temperature{};
};
void visit_fields(config::Visitor& visitor, RegionLabelContrastiveOptions& options);

LossTermPtr make_term(const RegionLabelContrastiveOptions& options, const FeatureSpec& spec);

}  // namespace fgvl::losses
