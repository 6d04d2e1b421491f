#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/status.h>

namespace fgvl {

// Note [Parsing without LibTorch]
// What a checkpoint file says is parsed into the plain structs below, checked against the bytes that are really there; only checkpoint_file.cpp makes
// tensors of them. The parsers therefore link Abseil alone and can be fuzzed at full speed (tests/hostile).

enum class ElementType : std::uint8_t { kFloat64, kFloat32, kFloat16, kBFloat16, kInt64, kInt32, kInt16, kInt8, kUInt8, kBool };

constexpr std::uint64_t element_size(ElementType type) {
  switch (type) {
    case ElementType::kFloat64:
    case ElementType::kInt64: return 8;
    case ElementType::kFloat32:
    case ElementType::kInt32: return 4;
    case ElementType::kFloat16:
    case ElementType::kBFloat16:
    case ElementType::kInt16: return 2;
    default: return 1;
  }
}

/// More dimensions than any model has; a file that claims more is wrong.
inline constexpr std::size_t kMaxDimensions = 32;

/// A tensor as a file describes it: a strided view of a storage that lies in the file.
struct StoredTensor {
  std::string name{};
  ElementType type = ElementType::kFloat32;
  std::vector<std::int64_t> shape{};
  std::vector<std::int64_t> strides{};   ///< in elements, none negative
  std::uint64_t storage_begin = 0;       ///< bytes from the start of the file
  std::uint64_t storage_bytes = 0;       ///< storage_begin + storage_bytes lies inside the file
  std::uint64_t first = 0;               ///< elements from the start of the storage
};

/// Whether the view stays inside its storage and has no more elements than it: a view that repeats elements would grow when it is copied.
/// The message says what is wrong, without the tensor's name.
absl::Status check_view(const StoredTensor& tensor);

/// A name out of a file as messages show it: printable and short, whatever the file put into it.
std::string shown(std::string_view name);

}  // namespace fgvl
