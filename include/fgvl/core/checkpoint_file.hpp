#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fgvl/core/safetensors.hpp"
#include "fgvl/core/status.hpp"
#include "fgvl/core/tensor.hpp"

namespace fgvl {

enum class CheckpointFormat {
  kTorchZip,     ///< torch.save since PyTorch 1.6 (.th, .pt, .pth, .bin)
  kTorchLegacy,  ///< torch.save before
  kTorchScript,  ///< torch.jit.save: weights only, the code in it is never read
  kSafetensors,
};
/// "PyTorch (zip)" and so on.
std::string format_name(CheckpointFormat format);

class MappedFile;

/// The weights of one model and what came with them.
struct CheckpointFile {
  CheckpointFormat format = CheckpointFormat::kSafetensors;
  NamedTensors tensors{};                        ///< in the order of the file(s). Views of memory-mapped files wherever the file allows it; see open_checkpoint
  NamedTensors constants{};                      ///< TorchScript: unnamed tensors of its code, not weights
  std::map<std::string, std::string> metadata{}; ///< safetensors: `__metadata__`
  std::string config_json{};                     ///< what came beside the weights: "config" of a PyTorch file or in __metadata__, config.json of a folder; "" where there was nothing
  std::string section{};                         ///< PyTorch: the key under which the weights stood; "" where the file is itself the dict
  std::string wrapper{};                         ///< "module." where every name began so, as DistributedDataParallel writes it (OpenCLIP's training files): the names here are without it
  std::vector<std::string> others{};             ///< PyTorch: other keys of the file, which are not weights and were not read ("optimizer", "epoch", ...)
  std::vector<std::string> files{};              ///< the weights' files

  /// Gives the memory pages of a mapped tensor back to the system; who reads it again reads the file again. Loading a model tensor by tensor then never holds
  /// the weights twice. No effect on a tensor that is not a view of these files.
  void release(const Tensor& tensor) const;

  std::vector<std::shared_ptr<const MappedFile>> mappings{};
};

/// Opens weights, told apart by what the file holds, not by its name:
///  * a file of PyTorch (zip, legacy or TorchScript) or safetensors,
///  * an index of shards (JSON with `weight_map`; the shards lie beside it),
///  * a folder in Hugging Face's layout: model.safetensors or pytorch_model.bin, each also sharded with *.index.json, and config.json where there is one.
/// Nothing in a file is ever executed, see Note [The restricted unpickler] in src/core/pickle.hpp.
/// Tensors are views of a private mapping: no second copy is made, writing to one changes memory but never the file. Copied instead are tensors that a file stores
/// at an address their type cannot have, or in the other byte order. A file must not be cut short while a tensor of it is alive (replacing it by rename is fine).
/// Errors (exit code 4): NotFound, PermissionDenied; InvalidArgument for whatever is wrong in the file, with its path and the tensor or byte.
absl::StatusOr<CheckpointFile> open_checkpoint(const std::string& path);

/// A PyTorch file in zip form that torch.load(weights_only=True) reads: {section: OrderedDict of tensors, "config": config_json}, or the OrderedDict itself when `section` is
/// empty. Equal tensors in memory (tied weights) are stored once. Written beside and renamed. Equal input gives equal bytes.
struct TorchFileOptions {
  std::string section = "model";  ///< where the official X-VLM, ALBEF and BLIP look
  std::string config_json{};      ///< an object; "": none
};
absl::Status write_torch_file(const std::string& path, const NamedTensors& tensors, const TorchFileOptions& options = {});

}  // namespace fgvl
