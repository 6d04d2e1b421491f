#include "fgvl/data/position_text.hpp"

#include <algorithm>
#include <cctype>
#include <limits>
#include <optional>

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>
#include <c10/util/Exception.h>

#include "fgvl/core/features.hpp"

namespace fgvl::data {
namespace {

/// Written behind what is there already, after a space.
void append(std::string& text, const std::string& more) { absl::StrAppend(&text, text.empty() || more.empty() ? "" : " ", more); }

/// Where `phrase` stands in `text` as whole words, if exactly once.
std::optional<std::size_t> only_place(std::string_view phrase, std::string_view text) {
  const auto in_word = [&](std::size_t i) { return i < text.size() && std::isalnum(static_cast<unsigned char>(text[i])) != 0; };
  std::optional<std::size_t> place;
  for (std::size_t at = text.find(phrase); at != std::string_view::npos; at = text.find(phrase, at + 1)) {
    if ((at > 0 && in_word(at - 1)) || in_word(at + phrase.size())) continue;
    if (place) return std::nullopt;
    place = at;
  }
  return place;
}

}  // namespace

std::array<std::int64_t, 4> position_bins(const Corners& corners) {
  std::array<std::int64_t, 4> bins{};
  for (std::size_t i = 0; i < bins.size(); ++i) bins[i] = static_cast<std::int64_t>(std::clamp(corners[i] * static_cast<double>(kPositionBins), 0.0, static_cast<double>(kPositionBins - 1)));
  return bins;
}

std::string position_group(const Corners& corners) {
  const std::array<std::int64_t, 4> bins = position_bins(corners);
  return absl::StrCat("@@ [pos_", bins[0], "] [pos_", bins[1], "] [pos_", bins[2], "] [pos_", bins[3], "] ##");
}

absl::StatusOr<std::string> prepare_with_positions(std::string_view text, std::vector<PlacedPhrase> phrases, std::int64_t max_words, CaptionStyle style) {
  std::stable_sort(phrases.begin(), phrases.end(), [](const PlacedPhrase& a, const PlacedPhrase& b) { return a.end < b.end; });
  constexpr std::int64_t kAllWords = std::numeric_limits<std::int64_t>::max();
  if (style == CaptionStyle::kNone) max_words = kAllWords;
  std::string prepared;
  std::int64_t words = 0;
  std::size_t begin = 0;
  // The text between two groups, or before or behind them; false where not all of it is kept.
  const auto append_words = [&](std::size_t end) {
    const std::string_view written = text.substr(begin, end - begin);
    begin = end;
    absl::StatusOr<std::string> part = prepare_caption(written, kAllWords, style);
    if (!part.ok()) return true;  // nothing but punctuation
    absl::StripAsciiWhitespace(&*part);
    const std::int64_t count = part->empty() ? 0 : 1 + std::count(part->begin(), part->end(), ' ');
    const bool fits = count <= max_words - words;
    if (fits) {
      append(prepared, *part);
    } else if (auto cut = prepare_caption(written, max_words - words, style); cut.ok()) {
      absl::StripAsciiWhitespace(&*cut);
      append(prepared, *cut);
    }
    words = std::min(max_words, words + count);
    return fits;
  };
  bool whole = true;
  for (const PlacedPhrase& phrase : phrases) {
    TORCH_CHECK(phrase.begin < phrase.end && phrase.end <= text.size(), "[prepare_with_positions] phrases: expected bytes of the text, [begin, end) in [0, ", text.size(), "), got [", phrase.begin, ", ",
                phrase.end, ")");
    whole = whole && append_words(phrase.end);
    if (!whole) break;
    append(prepared, position_group(phrase.corners));
  }
  if (whole) append_words(text.size());
  if (words == 0) return absl::InvalidArgumentError("no text is left after removing punctuation");
  return prepared;
}

std::vector<PlacedPhrase> found_again(const std::vector<PlacedPhrase>& phrases, std::string_view text, std::string_view other) {
  std::vector<PlacedPhrase> found;
  for (const PlacedPhrase& phrase : phrases) {
    if (phrase.begin == 0 && phrase.end == text.size()) {
      found.push_back({0, other.size(), phrase.corners});
      continue;
    }
    const std::string_view words = text.substr(phrase.begin, phrase.end - phrase.begin);
    const std::optional<std::size_t> place = only_place(words, other);
    if (!place) return {};
    found.push_back({*place, *place + words.size(), phrase.corners});
  }
  return found;
}

}  // namespace fgvl::data
