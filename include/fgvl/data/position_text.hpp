#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fgvl/data/caption.hpp"

namespace fgvl::data {

/// (x1, y1, x2, y2) in units of the picture's sides, as the model sees it.
using Corners = std::array<double, 4>;

/// A phrase of a text with the place of what it names.
struct PlacedPhrase {
  std::size_t begin = 0, end = 0;  ///< bytes [begin, end) of the text as written
  Corners corners{};
};

/// Each corner in one of kPositionBins bins: int(corner * 512), at most 511 and at least 0, as PEVL (arXiv 2205.11169; dataset/grounding_dataset.py).
std::array<std::int64_t, 4> position_bins(const Corners& corners);
/// Tokens of a position group.
inline constexpr std::int64_t kPositionGroup = 6;
/// "@@ [pos_x1] [pos_y1] [pos_x2] [pos_y2] ##": what PEVL writes behind a phrase. WordPieceOptions::position_tokens makes them tokens.
std::string position_group(const Corners& corners);

/// prepare_caption() with a position group behind each of `phrases`, in the order in which they end. `max_words` counts the words of the text alone (PEVL counts position tokens too, and may cut a group in
/// the middle): a group stands where all words up to it are kept, or not at all. Whatever `style` does to punctuation, groups stay as they are.
/// InvalidArgument when no word is left. A phrase that does not lie in the text throws c10::Error.
absl::StatusOr<std::string> prepare_with_positions(std::string_view text, std::vector<PlacedPhrase> phrases, std::int64_t max_words, CaptionStyle style = CaptionStyle::kXvlm);

/// Where the phrases of `text` stand in `other`, a text made from it: a phrase that is the whole text is the whole of the other; any other phrase must stand in it exactly once, as whole words.
/// Empty, although there are phrases, where one of them does not.
std::vector<PlacedPhrase> found_again(const std::vector<PlacedPhrase>& phrases, std::string_view text, std::string_view other);

}  // namespace fgvl::data
