#pragma once
#include <cstddef>
#include <string_view>

#include <nlohmann/json.hpp>

namespace fgvl {

// JSON that came with somebody's weights: bounded size and depth (nlohmann's dump and destructor, and most walks over a tree, are recursive).

/// Where a text holds a NUL, which JSON never does; npos: nowhere. nlohmann takes one for the end of the text and does not look at what follows.
inline std::size_t find_nul(std::string_view text) { return text.find('\0'); }

/// Whether a text is short and shallow enough to be looked at as JSON. The depth is counted before anything is built.
inline bool within_json_bounds(std::string_view text) {
  constexpr int kMaxDepth = 64;  // nested deeper, it is no configuration
  constexpr std::size_t kMaxBytes = 64u << 20;
  if (text.size() > kMaxBytes || find_nul(text) != std::string_view::npos) return false;
  int depth = 0;
  bool in_text = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (in_text) {
      if (text[i] == '\\') ++i;
      else if (text[i] == '"') in_text = false;
    } else if (text[i] == '"') {
      in_text = true;
    } else if (text[i] == '{' || text[i] == '[') {
      if (++depth > kMaxDepth) return false;
    } else if (text[i] == '}' || text[i] == ']') {
      --depth;
    }
  }
  return true;
}

/// A discarded value where the text is no JSON or out of bounds.
template <class Json = nlohmann::json>
Json parse_bounded_json(std::string_view text) {
  if (!within_json_bounds(text)) return Json(Json::value_t::discarded);
  return Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
}

/// Whether the text is an object within the bounds; builds nothing, where a tree of small values would take twenty times the text.
inline bool is_bounded_json_object(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n\xef\xbb\xbf");  // with a byte order mark, which nlohmann passes over
  return first != std::string_view::npos && text[first] == '{' && within_json_bounds(text) && nlohmann::json::accept(text.begin(), text.end());
}

}  // namespace fgvl
