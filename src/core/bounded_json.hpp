#pragma once
#include <cstddef>
#include <string_view>

#include <nlohmann/json.hpp>

namespace fgvl {

/// JSON that came with somebody's weights, of bounded size and depth (nlohmann's dump is recursive); a discarded value where it is none.
template <class Json = nlohmann::json>
Json parse_bounded_json(std::string_view text) {
  constexpr int kMaxDepth = 64;  // nested deeper, it is no configuration and no index
  constexpr std::size_t kMaxBytes = 64u << 20;
  if (text.size() > kMaxBytes) return Json(Json::value_t::discarded);
  // The depth is counted before anything is built.
  int depth = 0;
  bool in_text = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (in_text) {
      if (text[i] == '\\') ++i;
      else if (text[i] == '"') in_text = false;
    } else if (text[i] == '"') {
      in_text = true;
    } else if (text[i] == '{' || text[i] == '[') {
      if (++depth > kMaxDepth) return Json(Json::value_t::discarded);
    } else if (text[i] == '}' || text[i] == ']') {
      --depth;
    }
  }
  return Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
}

}  // namespace fgvl
