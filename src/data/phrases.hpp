#pragma once
#include <string>
#include <vector>

#include "fgvl/core/status.hpp"
#include "fgvl/data/record.hpp"

namespace fgvl::data {

/// Adds the phrase at characters [begin, end) of `caption` (Unicode code points, as Python counts and MDETR and PEVL write). Words that name several boxes get the one around all of them, as the merged-boxes
/// protocol of Flickr30k Entities has it (arXiv 1505.04870). InvalidArgument for characters that the caption does not have.
absl::Status add_phrase(const std::string& caption, std::int64_t begin, std::int64_t end, const PixelBox& box, std::vector<Phrase>& phrases);

}  // namespace fgvl::data
