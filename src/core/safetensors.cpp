#include "fgvl/core/safetensors.hpp"

#include <set>

#include <absl/strings/str_cat.h>
#include <nlohmann/json.hpp>
#include <torch/torch.h>

#include "core/mapped_file.hpp"
#include "core/safetensors_header.hpp"
#include "core/stored_views.hpp"
#include "fgvl/core/files.hpp"

namespace fgvl {
namespace {

struct Layout {
  std::string header{};              ///< with its length before it
  std::vector<Tensor> tensors{};     ///< on the CPU, contiguous, in order
  std::uint64_t data_bytes = 0;
};

absl::StatusOr<Layout> layout(const NamedTensors& tensors, const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  Layout result;
  std::set<std::string> names;
  for (const auto& [name, tensor] : tensors) {
    if (name.empty() || name == "__metadata__") return absl::InvalidArgumentError(absl::StrCat("safetensors: a tensor cannot be named \"", name, "\""));
    if (!names.insert(name).second) return absl::InvalidArgumentError(absl::StrCat("safetensors: two tensors are named \"", name, "\""));
    const ElementType* known = element_type(tensor.scalar_type());
    if (known == nullptr) return absl::InvalidArgumentError(absl::StrCat("safetensors: tensor \"", name, "\" has dtype ", c10::toString(tensor.scalar_type()), ", which the format lacks"));
    result.tensors.push_back(tensor.detach().to(at::kCPU).contiguous());
    const std::uint64_t end = result.data_bytes + result.tensors.back().nbytes();
    // Appended, the name being new: [] would search all names before it.
    nlohmann::ordered_json entry = {{"dtype", std::string(safetensors_name(*known))}, {"shape", tensor.sizes().vec()}, {"data_offsets", {result.data_bytes, end}}};
    header.get_ref<nlohmann::ordered_json::object_t&>().emplace_back(name, std::move(entry));
    result.data_bytes = end;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::exception&) {
    return absl::InvalidArgumentError("safetensors: a name or metadata is not valid UTF-8");
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');  // aligned, as the reference writer does
  const std::uint64_t size = text.size();
  result.header.assign(reinterpret_cast<const char*>(&size), sizeof size);
  result.header += text;
  return result;
}

std::string_view bytes_of(const Tensor& tensor) { return tensor.numel() == 0 ? std::string_view() : std::string_view(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes()); }

}  // namespace

absl::StatusOr<NamedTensors> read_safetensors(const std::string& path, std::map<std::string, std::string>* metadata) {
  FGVL_ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> file, MappedFile::open(path));
  absl::StatusOr<SafetensorsHeader> header = parse_safetensors(file->bytes());
  if (!header.ok()) return with_exit_code(annotate(header.status(), path), ExitCode::kCheckpoint);
  if (metadata != nullptr) metadata->insert(header->metadata.begin(), header->metadata.end());
  absl::StatusOr<NamedTensors> tensors = stored_views(file, header->tensors, /*big_endian=*/false);
  if (!tensors.ok()) return with_exit_code(annotate(tensors.status(), path), ExitCode::kCheckpoint);
  return tensors;
}

absl::StatusOr<std::string> to_safetensors(const NamedTensors& tensors, const std::map<std::string, std::string>& metadata) {
  FGVL_ASSIGN_OR_RETURN(const Layout parts, layout(tensors, metadata));
  std::string bytes;
  bytes.reserve(parts.header.size() + parts.data_bytes);
  bytes += parts.header;
  for (const Tensor& tensor : parts.tensors) bytes += bytes_of(tensor);
  return bytes;
}

absl::Status write_safetensors(const std::string& path, const NamedTensors& tensors, const std::map<std::string, std::string>& metadata) {
  FGVL_ASSIGN_OR_RETURN(const Layout parts, layout(tensors, metadata));
  std::vector<std::string_view> pieces = {parts.header};
  for (const Tensor& tensor : parts.tensors) pieces.push_back(bytes_of(tensor));
  return write_file_atomically(path, pieces);
}

}  // namespace fgvl
