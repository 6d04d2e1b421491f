#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "fgvl/core/config_visitor.hpp"
#include "fgvl/core/status.hpp"

namespace fgvl::data {

/// How a text is prepared before it is tokenised. All but kNone lower-case the whole text (final sigma included), change punctuation, make one space of each run of
/// two or more white-space characters, strip spaces and keep the first words.
///
/// | | removed | to a space | `<person>` |
/// |---|---|---|---|
/// | kXvlm, kAlbef (dataset/utils.py pre_caption) | `,.'!?"()*#:;~` | `-/` | person |
/// | kPevl (dataset/grounding_dataset.py: position tokens survive) | the same without `#` | `-/` | person |
/// | kX2vlm | | `,.'!?"()*#:;~-/` | person |
/// | kBlip (data/utils.py) | | `.!"()*#:;~` | kept |
enum class CaptionStyle { kXvlm, kAlbef, kPevl, kBlip, kX2vlm, kNone };
config::EnumNames<CaptionStyle> enum_names(CaptionStyle);

/// At most `max_words` words, separated by single spaces; kNone gives the text back as it is.
/// InvalidArgument when nothing is left, as in X-VLM (ALBEF, PEVL and BLIP go on with an empty text).
absl::StatusOr<std::string> prepare_caption(std::string_view text, std::int64_t max_words, CaptionStyle style = CaptionStyle::kXvlm);

}  // namespace fgvl::data
