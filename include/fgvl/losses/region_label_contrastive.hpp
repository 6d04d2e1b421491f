#pragma once
#include "fgvl/losses/contrastive.hpp"

namespace fgvl::losses {

enum class Implied { kPositive, kIgnored };  ///< what a text that a region's own text implies is to the region: a positive, or left out of the softmax
config::EnumNames<Implied> enum_names(Implied);

/// Regions against the distinct labels or descriptions of the batch, in both directions. Several regions share one text and all of them
/// are its positives; each distinct text enters the softmax once, so that frequent labels do not crowd it.
/// Parts: `to_text` (every region finds its text) and `to_region` (every distinct text finds its regions), each with weight 1/2.
///
/// Labels of a fixed vocabulary (RegionBatch::label_*) that no row of the batch bears are told from a region's text as well: they enter the softmax of `to_text`, and are no items of `to_region`, where they have no region.
/// With a hierarchy (RegionBatch::implied_keys) a text that a region's own implies is true of it too: of a "truck" region also "vehicle". A text that is equal or implied, or known to be true of a part of the region, is
/// never a negative. With RegionBatch::text_weight both parts are weighted means, sum of weight * loss over sum of weight, over all ranks.
struct RegionLabelContrastiveOptions {
  TemperatureOptions temperature{};
  Implied implied = Implied::kPositive;
};
void visit_fields(config::Visitor& visitor, RegionLabelContrastiveOptions& options);

LossTermPtr make_term(const RegionLabelContrastiveOptions& options, const FeatureSpec& spec);

}  // namespace fgvl::losses
