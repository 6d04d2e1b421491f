#pragma once
#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fgvl/data/sample.hpp"

namespace fgvl::data {

/// What happened to a picture on its way to the model, so that boxes and texts can follow.
struct View {
  double x = 0, y = 0, width = 0, height = 0;  ///< window in pixels of the original
  bool flipped_horizontally = false, flipped_vertically = false;
};

/// A region with its box as the view shows it.
struct Candidate {
  std::array<float, 4> box;  ///< (cx, cy, w, h) in units of the view
  Corners corners;           ///< the same, unrounded
  const Region* region;
};

/// Regions with the part of their boxes inside the picture.
using UsableRegions = std::vector<std::pair<PixelBox, const Region*>>;

/// A window and flips, at random.
View choose_view(const Image& image, const UsableRegions& regions, const AugmentOptions& augment, Generator& generator);

/// Regions of which the view shows more than `min_fraction` of the area.
std::vector<Candidate> visible(const UsableRegions& regions, const View& view, double min_fraction);

/// The part of a box inside the picture that the view shows, if that is more than `min_fraction` of its area.
std::optional<Corners> seen_corners(const PixelBox& box, const View& view, double min_fraction);

/// A prepared (lower-case) text as true of the view: a flip swaps left and right, or above and below, wherever they stand as whole words.
std::string as_seen(std::string text, const View& view);

}  // namespace fgvl::data
