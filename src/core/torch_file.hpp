#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <absl/status/statusor.h>

#include "core/stored_tensor.hpp"

namespace fgvl {

enum class TorchForm { kZip, kLegacy, kScript };

/// What torch.save or TorchScript wrote.
struct TorchFile {
  TorchForm form = TorchForm::kZip;
  bool big_endian = false;                ///< of the numbers in the storages
  std::vector<StoredTensor> tensors{};    ///< the weights by name, in the order of the file; every view was checked against its storage
  std::vector<StoredTensor> constants{};  ///< TorchScript: unnamed tensors of its code ("constants.<n>"), not weights
  std::string section{};                  ///< the key of the dict that held the weights, "" where the whole file is one
  std::vector<std::string> others{};      ///< other keys beside the weights: "optimizer", "epoch", ...
  std::string config_json{};              ///< what stood under "config", as JSON; "" where there was none
};

/// Whether the file begins as one of PyTorch's own.
bool looks_like_torch(std::string_view file);

/// The weights are the one dict of tensors under "model", "state_dict", "model_state_dict" or "module", or the file's own dict. Two storages never overlap.
/// InvalidArgument names the tensor or the byte.
absl::StatusOr<TorchFile> parse_torch(std::string_view file);

}  // namespace fgvl
