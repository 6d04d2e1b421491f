#pragma once
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "fgvl/core/status.hpp"
#include "fgvl/core/tensor.hpp"

namespace fgvl {

/// Tensors by name, in the order of the file.
using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

/// Reads a safetensors file (https://github.com/huggingface/safetensors, format section). Checked before anything is allocated: header size,
/// dtypes, shapes, offsets inside the file, no overlap, no hole. Messages name file, tensor and offset. The tensors are views of the mapped file, as
/// open_checkpoint in checkpoint_file.hpp says.
absl::StatusOr<NamedTensors> read_safetensors(const std::string& path, std::map<std::string, std::string>* metadata = nullptr);

/// Bytes of a safetensors file holding `tensors` (any device; copied to the CPU, contiguous). Equal input gives equal bytes.
absl::StatusOr<std::string> to_safetensors(const NamedTensors& tensors, const std::map<std::string, std::string>& metadata = {});

/// The same bytes into a file, written beside and renamed, without a second copy of the tensors in memory.
absl::Status write_safetensors(const std::string& path, const NamedTensors& tensors, const std::map<std::string, std::string>& metadata = {});

}  // namespace fgvl
