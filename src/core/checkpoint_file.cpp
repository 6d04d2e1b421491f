#include "fgvl/core/checkpoint_file.hpp"

#include <algorithm>
#include <filesystem>
#include <set>

#include <absl/strings/escaping.h>
#include <absl/strings/str_cat.h>
#include <torch/torch.h>

#include "core/bounded_json.hpp"
#include "core/mapped_file.hpp"
#include "core/safetensors_header.hpp"
#include "core/shard_index.hpp"
#include "core/stored_views.hpp"
#include "core/torch_file.hpp"

namespace fgvl {
namespace {

namespace fs = std::filesystem;

/// Names that share a storage repeat its bytes when they are copied. Real models tie a tensor to one or two others; a file of tensors that are all the whole of it is an attack.
constexpr std::uint64_t kMostRepeats = 16;

absl::Status refused(const std::string& path, const std::string& what) { return with_exit_code(absl::InvalidArgumentError(absl::StrCat(path, ": ", what)), ExitCode::kCheckpoint); }

absl::Status in_file(const std::string& path, const absl::Status& status) { return with_exit_code(annotate(status, path), ExitCode::kCheckpoint); }

std::string beginning(std::string_view bytes) {
  constexpr std::size_t kShown = 16;
  return absl::CHexEscape(std::string(bytes.substr(0, kShown)));
}

/// Asked first: the length of a safetensors header may begin like a pickle (0x80 and a small number), but no pickle of torch.save and no zip member has a brace as its ninth byte.
bool looks_like_safetensors(std::string_view bytes) { return bytes.size() > 8 && bytes[8] == '{'; }
bool looks_like_json(std::string_view bytes) {
  const std::size_t first = bytes.find_first_not_of(" \t\r\n");
  return first != std::string_view::npos && bytes[first] == '{';
}

/// A sentence about what else the file may be.
std::string unknown_kind(std::string_view bytes) {
  constexpr std::size_t kTarMagicAt = 257;
  if (bytes.empty()) return "the file is empty";
  if (bytes.substr(0, 19) == "version https://git") return "a Git LFS pointer, not the weights; fetch them with `git lfs pull`";
  if (bytes.size() > kTarMagicAt + 5 && bytes.substr(kTarMagicAt, 5) == "ustar") return "a tar archive; the format of PyTorch before 0.2 is not read, load and save it with a newer PyTorch";
  return absl::StrCat("neither a file of PyTorch nor safetensors nor an index of shards (byte 0: \"", beginning(bytes), "\")");
}

absl::Status check_total(const NamedTensors& tensors, std::uint64_t file_size) {
  std::uint64_t total = 0;
  for (const auto& [name, tensor] : tensors) {
    total += tensor.nbytes();
    if (total / kMostRepeats > file_size) return absl::InvalidArgumentError(absl::StrCat("tensor \"", shown(name), "\": the tensors up to here are more than ", kMostRepeats, " times as large as the file; they share storages too often"));
  }
  return absl::OkStatus();
}

absl::Status add_torch(const std::shared_ptr<const MappedFile>& file, CheckpointFile& checkpoint) {
  FGVL_ASSIGN_OR_RETURN(TorchFile parsed, parse_torch(file->bytes()));
  checkpoint.format = parsed.form == TorchForm::kZip ? CheckpointFormat::kTorchZip : parsed.form == TorchForm::kLegacy ? CheckpointFormat::kTorchLegacy : CheckpointFormat::kTorchScript;
  FGVL_ASSIGN_OR_RETURN(NamedTensors tensors, stored_views(file, parsed.tensors, parsed.big_endian));
  FGVL_ASSIGN_OR_RETURN(NamedTensors constants, stored_views(file, parsed.constants, parsed.big_endian));
  FGVL_RETURN_IF_ERROR(check_total(tensors, file->bytes().size()));
  FGVL_RETURN_IF_ERROR(check_total(constants, file->bytes().size()));
  checkpoint.tensors.insert(checkpoint.tensors.end(), tensors.begin(), tensors.end());
  checkpoint.constants.insert(checkpoint.constants.end(), constants.begin(), constants.end());
  checkpoint.section = parsed.section;
  checkpoint.others.insert(checkpoint.others.end(), parsed.others.begin(), parsed.others.end());
  if (!parsed.config_json.empty()) checkpoint.config_json = parsed.config_json;
  return absl::OkStatus();
}

absl::Status add_safetensors(const std::shared_ptr<const MappedFile>& file, CheckpointFile& checkpoint) {
  FGVL_ASSIGN_OR_RETURN(SafetensorsHeader parsed, parse_safetensors(file->bytes()));
  checkpoint.format = CheckpointFormat::kSafetensors;
  FGVL_ASSIGN_OR_RETURN(NamedTensors tensors, stored_views(file, parsed.tensors, /*big_endian=*/false));
  checkpoint.tensors.insert(checkpoint.tensors.end(), tensors.begin(), tensors.end());
  checkpoint.metadata.insert(parsed.metadata.begin(), parsed.metadata.end());
  if (const auto config = parsed.metadata.find("config"); config != parsed.metadata.end() && is_bounded_json_object(config->second)) checkpoint.config_json = config->second;
  return absl::OkStatus();
}

/// One file of weights, not an index.
absl::Status add_weights(const std::string& path, const std::shared_ptr<const MappedFile>& file, CheckpointFile& checkpoint) {
  const std::string_view bytes = file->bytes();
  absl::Status added;
  if (looks_like_safetensors(bytes)) {
    added = add_safetensors(file, checkpoint);
  } else if (looks_like_torch(bytes)) {
    added = add_torch(file, checkpoint);
  } else {
    added = absl::InvalidArgumentError(unknown_kind(bytes));
  }
  if (!added.ok()) return in_file(path, added);
  checkpoint.files.push_back(path);
  checkpoint.mappings.push_back(file);
  return absl::OkStatus();
}

absl::Status add_shards(const std::string& path, std::string_view text, CheckpointFile& checkpoint) {
  const absl::StatusOr<ShardIndex> shards = parse_shard_index(text);
  if (!shards.ok()) return in_file(path, shards.status());
  for (const auto& [shard, names] : *shards) {
    const std::string file_path = (fs::path(path).parent_path() / shard).string();
    FGVL_ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> file, MappedFile::open(file_path));
    const std::size_t before = checkpoint.tensors.size();
    FGVL_RETURN_IF_ERROR(add_weights(file_path, file, checkpoint));
    std::set<std::string> found;
    for (std::size_t i = before; i < checkpoint.tensors.size(); ++i) {
      const std::string& name = checkpoint.tensors[i].first;
      if (names.count(name) == 0) return refused(file_path, absl::StrCat("tensor \"", shown(name), "\" is not in this shard by the index ", path));
      found.insert(name);
    }
    for (const std::string& name : names) {
      if (found.count(name) == 0) return refused(file_path, absl::StrCat("tensor \"", shown(name), "\" is missing; the index ", path, " says that it is here"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<CheckpointFile> open_file(const std::string& path) {
  FGVL_ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> file, MappedFile::open(path));
  CheckpointFile checkpoint;
  const std::string_view bytes = file->bytes();
  if (!looks_like_torch(bytes) && !looks_like_safetensors(bytes) && looks_like_json(bytes)) {
    FGVL_RETURN_IF_ERROR(add_shards(path, bytes, checkpoint));
  } else {
    FGVL_RETURN_IF_ERROR(add_weights(path, file, checkpoint));
  }
  return checkpoint;
}

/// DistributedDataParallel and DataParallel put every parameter below a module of theirs, and whoever saves the wrapper instead of the model saves those names.
void unwrap(CheckpointFile& checkpoint) {
  constexpr std::string_view kWrapper = "module.";
  const auto wrapped = [&](const auto& entry) { return entry.first.size() > kWrapper.size() && entry.first.compare(0, kWrapper.size(), kWrapper) == 0; };
  if (checkpoint.tensors.empty() || !std::all_of(checkpoint.tensors.begin(), checkpoint.tensors.end(), wrapped)) return;
  for (auto& [name, tensor] : checkpoint.tensors) name.erase(0, kWrapper.size());
  checkpoint.wrapper = kWrapper;
}

absl::StatusOr<CheckpointFile> open_folder(const std::string& path) {
  for (const char* name : {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"}) {
    const fs::path weights = fs::path(path) / name;
    std::error_code error;
    if (!fs::exists(weights, error)) continue;
    FGVL_ASSIGN_OR_RETURN(CheckpointFile checkpoint, open_file(weights.string()));
    const std::string config_path = (fs::path(path) / "config.json").string();
    if (fs::exists(config_path, error)) {
      FGVL_ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> config, MappedFile::open(config_path));
      if (!is_bounded_json_object(config->bytes())) return refused(config_path, "not a JSON object");
      checkpoint.config_json = std::string(config->bytes());
    }
    return checkpoint;
  }
  return with_exit_code(absl::NotFoundError(absl::StrCat(path, ": no weights in this folder; expected model.safetensors or pytorch_model.bin, or their .index.json")), ExitCode::kCheckpoint);
}

}  // namespace

std::string format_name(CheckpointFormat format) {
  switch (format) {
    case CheckpointFormat::kTorchZip: return "PyTorch (zip)";
    case CheckpointFormat::kTorchLegacy: return "PyTorch (legacy)";
    case CheckpointFormat::kTorchScript: return "TorchScript";
    case CheckpointFormat::kSafetensors: return "safetensors";
  }
  return "unknown";
}

void CheckpointFile::release(const Tensor& tensor) const {
  if (!tensor.defined() || tensor.numel() == 0 || !tensor.device().is_cpu()) return;
  for (const auto& mapping : mappings) mapping->release(tensor.const_data_ptr(), tensor.is_contiguous() ? tensor.nbytes() : 0);
}

absl::StatusOr<CheckpointFile> open_checkpoint(const std::string& path) {
  std::error_code error;
  absl::StatusOr<CheckpointFile> checkpoint = fs::is_directory(path, error) ? open_folder(path) : open_file(path);
  if (checkpoint.ok()) unwrap(*checkpoint);
  return checkpoint;
}

}  // namespace fgvl
