#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fgvl/core/config_visitor.hpp"
#include "fgvl/core/tensor.hpp"
#include "fgvl/data/augment.hpp"

namespace fgvl::data {

class TextPipeline;  // tokenizer + text preparation + masking, see text_pipeline.hpp

/// How a record becomes a sample.
struct SampleOptions {
  std::int64_t captions_per_image = 1;   ///< captions drawn a visit; 0: none
  std::int64_t max_regions = 5;          ///< regions drawn a visit, in random order; 0: none
  std::int64_t max_regions_per_text = 0; ///< at most this many drawn regions share one text (blood cells: 2); 0: no limit
  double min_visible_fraction = 0.5;     ///< a region counts when more than this part of its area is inside the crop (X-VLM min_perc_in_image, strict)
  bool foils = false;                    ///< deliver foils of the drawn texts
  bool labels_only = false;              ///< use a region's label instead of its texts (object-label stream)
  AugmentOptions augment{};
};
void visit_fields(config::Visitor& visitor, SampleOptions& options);

/// One text of a sample, tokenised and masked.
struct SampleText {
  std::string text{};
  std::array<float, 4> box{0.5f, 0.5f, 1.f, 1.f};  ///< (cx, cy, w, h) in units of the image side, as the model sees it
  bool is_region = false;
  bool is_unambiguous = true;
  std::vector<std::int64_t> ids{}, masked_ids{}, masked_positions{}, masked_labels{};
  std::int64_t key = 0;                       ///< hash of the prepared text
  std::vector<std::int64_t> foil_ids{};       ///< empty: none
};

/// A record decoded, cropped, flipped, resized, its texts tokenised and masked.
struct Sample {
  Tensor image{};  ///< [3, H, W] float32, channel-normalised
  std::vector<SampleText> texts{};
};

}  // namespace fgvl::data
