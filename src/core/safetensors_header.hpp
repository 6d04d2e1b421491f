#pragma once
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

#include "core/stored_tensor.hpp"

namespace fgvl {

struct SafetensorsHeader {
  std::vector<StoredTensor> tensors{};  ///< in the order of the file
  std::map<std::string, std::string> metadata{};
};

/// The header of a safetensors file (https://github.com/huggingface/safetensors, format section), checked against `file`: header size, dtypes, shapes, offsets, no
/// name twice, no overlap, no hole. Read event by event, so that a hostile header costs memory in proportion to what it lists. Messages name tensor and byte.
absl::StatusOr<SafetensorsHeader> parse_safetensors(std::string_view file);

/// "F32" and so on.
std::string_view safetensors_name(ElementType type);

}  // namespace fgvl
