#include "data/view.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <tuple>

namespace fgvl::data {
namespace {

/// Swaps two words wherever they stand alone: "bright" keeps its "right".
std::string with_swapped(const std::string& text, const std::string& a, const std::string& b) {
  std::string swapped;
  for (std::size_t i = 0; i < text.size();) {
    const auto letter = [](char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0; };
    std::size_t end = i;
    while (end < text.size() && letter(text[end])) ++end;
    if (end == i) {
      swapped += text[i++];
      continue;
    }
    const std::string word = text.substr(i, end - i);
    swapped += word == a ? b : word == b ? a : word;
    i = end;
  }
  return swapped;
}

}  // namespace

std::optional<Corners> seen_corners(const PixelBox& box, const View& view, double min_fraction) {
  double x1 = std::max(box[0], view.x), y1 = std::max(box[1], view.y), x2 = std::min(box[2], view.x + view.width), y2 = std::min(box[3], view.y + view.height);
  const double area = (box[2] - box[0]) * (box[3] - box[1]), shown = std::max(0.0, x2 - x1) * std::max(0.0, y2 - y1);
  if (!((area > 0 ? shown / area : 0) > min_fraction)) return std::nullopt;
  x1 = (x1 - view.x) / view.width;
  x2 = (x2 - view.x) / view.width;
  y1 = (y1 - view.y) / view.height;
  y2 = (y2 - view.y) / view.height;
  if (view.flipped_horizontally) std::tie(x1, x2) = std::pair(1 - x2, 1 - x1);
  if (view.flipped_vertically) std::tie(y1, y2) = std::pair(1 - y2, 1 - y1);
  return Corners{x1, y1, x2, y2};
}

std::string as_seen(std::string text, const View& view) {
  if (view.flipped_horizontally) text = with_swapped(text, "left", "right");
  if (view.flipped_vertically) text = with_swapped(text, "above", "below");
  return text;
}

View choose_view(const Image& image, const UsableRegions& regions, const AugmentOptions& augment, Generator& generator) {
  View view{0, 0, static_cast<double>(image.width), static_cast<double>(image.height), false, false};
  if (augment.keep_region && !regions.empty()) {
    const PixelBox& box = generator.choose(regions).first;
    const std::int64_t x1 = generator.uniform_int(0, static_cast<std::int64_t>(box[0])), y1 = generator.uniform_int(0, static_cast<std::int64_t>(box[1]));
    const std::int64_t x2 = generator.uniform_int(static_cast<std::int64_t>(std::ceil(box[2])), image.width), y2 = generator.uniform_int(static_cast<std::int64_t>(std::ceil(box[3])), image.height);
    view = {static_cast<double>(x1), static_cast<double>(y1), static_cast<double>(x2 - x1), static_cast<double>(y2 - y1), false, false};
  } else if (augment.min_crop_side < 1.0) {
    const auto side = [&](std::int64_t whole) { return std::max<std::int64_t>(1, std::llround(generator.uniform(augment.min_crop_side, 1.0) * static_cast<double>(whole))); };
    const std::int64_t width = side(image.width), height = side(image.height);
    view.x = static_cast<double>(generator.uniform_int(0, image.width - width));
    view.y = static_cast<double>(generator.uniform_int(0, image.height - height));
    view.width = static_cast<double>(width);
    view.height = static_cast<double>(height);
  }
  view.flipped_horizontally = augment.horizontal_flip > 0 && generator.bernoulli(augment.horizontal_flip);
  view.flipped_vertically = augment.vertical_flip > 0 && generator.bernoulli(augment.vertical_flip);
  return view;
}

std::vector<Candidate> visible(const UsableRegions& regions, const View& view, double min_fraction) {
  std::vector<Candidate> candidates;
  for (const auto& [box, region] : regions) {
    const std::optional<Corners> seen = seen_corners(box, view, min_fraction);
    if (!seen) continue;
    const auto& [x1, y1, x2, y2] = *seen;
    candidates.push_back({{static_cast<float>((x1 + x2) / 2), static_cast<float>((y1 + y2) / 2), static_cast<float>(x2 - x1), static_cast<float>(y2 - y1)}, *seen, region});
  }
  return candidates;
}

}  // namespace fgvl::data
