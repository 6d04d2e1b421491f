#include "data/phrases.hpp"

#include <algorithm>

#include <absl/strings/str_cat.h>

namespace fgvl::data {
namespace {

/// The byte at which character `index` starts, or the text's size for its end; npos behind that.
std::size_t byte_of(const std::string& text, std::int64_t index) {
  const auto starts = [&](std::size_t i) { return (text[i] & 0xC0) != 0x80; };
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (starts(i) && index-- == 0) return i;
  }
  return index == 0 ? text.size() : std::string::npos;
}

}  // namespace

absl::Status add_phrase(const std::string& caption, std::int64_t begin, std::int64_t end, const PixelBox& box, std::vector<Phrase>& phrases) {
  const std::size_t first = begin < 0 ? std::string::npos : byte_of(caption, begin), last = end <= begin ? std::string::npos : byte_of(caption, end);
  if (first == std::string::npos || last == std::string::npos) return absl::InvalidArgumentError(absl::StrCat("[", begin, ", ", end, "] are no characters of \"", caption, "\""));
  for (Phrase& phrase : phrases) {
    if (phrase.begin != first || phrase.end != last) continue;
    phrase.box = {std::min(phrase.box[0], box[0]), std::min(phrase.box[1], box[1]), std::max(phrase.box[2], box[2]), std::max(phrase.box[3], box[3])};
    return absl::OkStatus();
  }
  phrases.push_back({first, last, box});
  return absl::OkStatus();
}

}  // namespace fgvl::data
