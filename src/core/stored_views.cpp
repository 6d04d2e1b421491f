#include "core/stored_views.hpp"

#include <algorithm>
#include <bit>
#include <map>
#include <tuple>

#include <absl/strings/str_cat.h>
#include <torch/torch.h>

namespace fgvl {
namespace {

static_assert(std::endian::native == std::endian::little, "files are read as little-endian memory");

struct TypePair {
  ElementType ours;
  at::ScalarType theirs;
};
constexpr TypePair kTypes[] = {{ElementType::kFloat64, at::kDouble}, {ElementType::kFloat32, at::kFloat}, {ElementType::kFloat16, at::kHalf}, {ElementType::kBFloat16, at::kBFloat16},
                               {ElementType::kInt64, at::kLong},     {ElementType::kInt32, at::kInt},     {ElementType::kInt16, at::kShort},  {ElementType::kInt8, at::kChar},
                               {ElementType::kUInt8, at::kByte},     {ElementType::kBool, at::kBool}};

/// A whole storage as a flat tensor: a view of the file, or a copy where the file's bytes cannot be used as they lie.
Tensor storage_tensor(const std::shared_ptr<const MappedFile>& file, const StoredTensor& stored, bool big_endian) {
  const at::ScalarType type = scalar_type(stored.type);
  const std::uint64_t width = element_size(stored.type);
  const auto count = static_cast<std::int64_t>(stored.storage_bytes / width);
  if (count == 0) return at::empty({0}, type);
  char* begin = file->data() + stored.storage_begin;
  const bool aligned = reinterpret_cast<std::uintptr_t>(begin) % width == 0;
  if (aligned && !(big_endian && width > 1)) {
    return at::from_blob(begin, {count}, [file](void*) {}, at::TensorOptions().dtype(type));  // the deleter's copy of `file` keeps the mapping
  }
  Tensor copy = at::empty({count}, type);
  auto* target = static_cast<char*>(copy.data_ptr());
  std::copy_n(begin, stored.storage_bytes, target);
  if (big_endian) {
    for (std::uint64_t at = 0; at < stored.storage_bytes; at += width) std::reverse(target + at, target + at + width);
  }
  file->release(begin, stored.storage_bytes);
  return copy;
}

/// Any other byte in a bool is undefined behaviour for the compiler, so that it has to be found here: once for a storage, however many tensors share it.
absl::Status check_bools(std::string_view file, const StoredTensor& stored) {
  if (stored.type != ElementType::kBool) return absl::OkStatus();
  const std::string_view bytes = file.substr(stored.storage_begin, stored.storage_bytes);
  const auto bad = std::find_if(bytes.begin(), bytes.end(), [](char byte) { return static_cast<unsigned char>(byte) > 1; });
  if (bad == bytes.end()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("tensor \"", shown(stored.name), "\": byte ", stored.storage_begin + static_cast<std::uint64_t>(bad - bytes.begin()), " is neither true nor false"));
}

}  // namespace

at::ScalarType scalar_type(ElementType type) {
  return std::find_if(std::begin(kTypes), std::end(kTypes), [&](const TypePair& pair) { return pair.ours == type; })->theirs;
}

const ElementType* element_type(at::ScalarType type) {
  const auto found = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const TypePair& pair) { return pair.theirs == type; });
  return found == std::end(kTypes) ? nullptr : &found->ours;
}

absl::StatusOr<NamedTensors> stored_views(const std::shared_ptr<const MappedFile>& file, const std::vector<StoredTensor>& stored, bool big_endian) {
  NamedTensors tensors;
  tensors.reserve(stored.size());
  std::map<std::tuple<std::uint64_t, std::uint64_t, ElementType>, Tensor> storages;
  for (const StoredTensor& one : stored) {
    const auto [found, added] = storages.try_emplace({one.storage_begin, one.storage_bytes, one.type});
    if (added) {
      FGVL_RETURN_IF_ERROR(check_bools(file->bytes(), one));
      found->second = storage_tensor(file, one, big_endian);
    }
    const bool empty = std::find(one.shape.begin(), one.shape.end(), 0) != one.shape.end();
    tensors.emplace_back(one.name, empty ? at::empty(one.shape, scalar_type(one.type)) : found->second.as_strided(one.shape, one.strides, static_cast<std::int64_t>(one.first)));
  }
  return tensors;
}

}  // namespace fgvl
