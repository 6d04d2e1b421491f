#pragma once
#include <memory>
#include <string>
#include <vector>

#include "core/mapped_file.hpp"
#include "core/stored_tensor.hpp"
#include "fgvl/core/safetensors.hpp"

namespace fgvl {

at::ScalarType scalar_type(ElementType type);
/// Nothing for types that no format here stores.
const ElementType* element_type(at::ScalarType type);

/// Tensors over a mapped file; those of one storage share it. `big_endian`: the file's byte order is not this machine's.
absl::StatusOr<NamedTensors> stored_views(const std::shared_ptr<const MappedFile>& file, const std::vector<StoredTensor>& stored, bool big_endian);

}  // namespace fgvl
