#include "core/stored_tensor.hpp"

#include <algorithm>

#include <absl/strings/escaping.h>
#include <absl/strings/str_cat.h>

namespace fgvl {

std::string shown(std::string_view name) {
  constexpr std::size_t kShown = 200;
  return absl::CHexEscape(std::string(name.substr(0, kShown)));
}

absl::Status check_view(const StoredTensor& tensor) {
  const std::uint64_t elements = tensor.storage_bytes / element_size(tensor.type);
  if (tensor.shape.size() > kMaxDimensions) return absl::InvalidArgumentError(absl::StrCat(tensor.shape.size(), " dimensions, at most ", kMaxDimensions, " are read"));
  if (tensor.shape.size() != tensor.strides.size()) return absl::InvalidArgumentError(absl::StrCat(tensor.shape.size(), " dimensions but ", tensor.strides.size(), " strides"));
  std::uint64_t count = 1, last = tensor.first;
  bool overflow = false;
  for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
    if (tensor.shape[i] < 0) return absl::InvalidArgumentError(absl::StrCat("negative size ", tensor.shape[i]));
    if (tensor.strides[i] < 0) return absl::InvalidArgumentError(absl::StrCat("negative stride ", tensor.strides[i]));
    // Also of tensors without elements: whoever computes their contiguous strides multiplies the other sizes.
    overflow = overflow || __builtin_mul_overflow(count, static_cast<std::uint64_t>(std::max<std::int64_t>(1, tensor.shape[i])), &count);
  }
  overflow = overflow || count > INT64_MAX / 8;  // in bytes, of the widest type
  const bool empty = std::find(tensor.shape.begin(), tensor.shape.end(), 0) != tensor.shape.end();
  if (empty && !overflow) return absl::OkStatus();
  for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
    std::uint64_t step = 0;
    overflow = overflow || __builtin_mul_overflow(static_cast<std::uint64_t>(tensor.shape[i] - 1), static_cast<std::uint64_t>(tensor.strides[i]), &step);
    overflow = overflow || __builtin_add_overflow(last, step, &last);
  }
  if (overflow) return absl::InvalidArgumentError("its sizes and strides exceed 64 bits");
  if (last >= elements) return absl::InvalidArgumentError(absl::StrCat("its last element is number ", last, " of a storage that holds ", elements));
  if (count > elements) return absl::InvalidArgumentError(absl::StrCat("its ", count, " elements repeat a storage of ", elements));
  return absl::OkStatus();
}

}  // namespace fgvl
