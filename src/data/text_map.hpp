#pragma once
#include <functional>
#include <string>
#include <string_view>

#include <absl/container/flat_hash_map.h>

namespace fgvl::data {

/// Finds strings by views of them.
struct TextHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};
template <class Value>
using TextMap = absl::flat_hash_map<std::string, Value, TextHash, std::equal_to<>>;

}  // namespace fgvl::data
