#include "fgvl/core/safetensors.hpp"

#include <algorithm>
#include <cstring>

#include <absl/strings/str_cat.h>
#include <nlohmann/json.hpp>
#include <torch/torch.h>

#include "fgvl/core/files.hpp"

namespace fgvl {
namespace {

constexpr std::uint64_t kMaxHeader = 100u << 20;  // the format's own limit

struct NamedType {
  const char* name;
  at::ScalarType type;
};
constexpr NamedType kTypes[] = {{"F64", at::kDouble}, {"F32", at::kFloat}, {"F16", at::kHalf}, {"BF16", at::kBFloat16}, {"I64", at::kLong},
                                {"I32", at::kInt},    {"I16", at::kShort}, {"I8", at::kChar},  {"U8", at::kByte},       {"BOOL", at::kBool}};

absl::Status invalid(const std::string& path, const std::string& what) {
  return with_exit_code(absl::InvalidArgumentError(absl::StrCat(path, ": not a valid safetensors file: ", what)), ExitCode::kCheckpoint);
}

struct Entry {
  std::string name;
  at::ScalarType type;
  std::vector<std::int64_t> shape;
  std::uint64_t begin, end;
};

/// One entry of the header, checked against the size of the data that follows it.
absl::StatusOr<Entry> checked_entry(const std::string& path, const std::string& name, const nlohmann::ordered_json& value, std::uint64_t data_size) {
  const auto wrong = [&](const std::string& what) { return invalid(path, absl::StrCat("tensor \"", name, "\": ", what)); };
  if (!value.is_object() || !value.contains("dtype") || !value.contains("shape") || !value.contains("data_offsets")) return wrong("needs dtype, shape and data_offsets");
  Entry entry{name, at::kFloat, {}, 0, 0};
  const auto known = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const NamedType& type) { return value["dtype"] == type.name; });
  if (known == std::end(kTypes)) return wrong(absl::StrCat("dtype ", value["dtype"].dump(), " is not supported"));
  entry.type = known->type;
  std::uint64_t bytes = c10::elementSize(entry.type);
  if (!value["shape"].is_array()) return wrong("shape must be a list");
  for (const auto& extent : value["shape"]) {
    if (!extent.is_number_unsigned()) return wrong("shape must hold whole numbers >= 0");
    const std::uint64_t size = extent.get<std::uint64_t>();
    if (__builtin_mul_overflow(bytes, size, &bytes) || size > (1ull << 62)) return wrong("shape is too large");
    entry.shape.push_back(static_cast<std::int64_t>(size));
  }
  const auto& offsets = value["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() || !offsets[1].is_number_unsigned()) return wrong("data_offsets must be [begin, end]");
  entry.begin = offsets[0];
  entry.end = offsets[1];
  if (entry.begin > entry.end || entry.end > data_size) return wrong(absl::StrCat("offsets [", entry.begin, ", ", entry.end, ") are outside the ", data_size, " bytes of data"));
  if (entry.end - entry.begin != bytes) return wrong(absl::StrCat("its shape needs ", bytes, " bytes, its offsets hold ", entry.end - entry.begin));
  return entry;
}

}  // namespace

absl::StatusOr<NamedTensors> read_safetensors(const std::string& path, std::map<std::string, std::string>* metadata) {
  absl::StatusOr<std::string> file = read_file(path);
  if (!file.ok()) return with_exit_code(file.status(), ExitCode::kCheckpoint);
  std::uint64_t header_size = 0;
  if (file->size() < sizeof header_size) return invalid(path, absl::StrCat("only ", file->size(), " bytes long"));
  std::memcpy(&header_size, file->data(), sizeof header_size);
  if (header_size > kMaxHeader || header_size > file->size() - sizeof header_size) return invalid(path, absl::StrCat("header of ", header_size, " bytes in a file of ", file->size()));
  const char* header_begin = file->data() + sizeof header_size;
  const auto header = nlohmann::ordered_json::parse(header_begin, header_begin + header_size, nullptr, /*allow_exceptions=*/false);
  if (!header.is_object()) return invalid(path, "the header is not a JSON object");
  const char* data = header_begin + header_size;
  const std::uint64_t data_size = file->size() - sizeof header_size - header_size;

  std::vector<Entry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") {
      for (const auto& [key, text] : value.items()) {
        if (metadata != nullptr && text.is_string()) (*metadata)[key] = text;
      }
      continue;
    }
    FGVL_ASSIGN_OR_RETURN(Entry entry, checked_entry(path, name, value, data_size));
    entries.push_back(std::move(entry));
  }
  std::vector<const Entry*> in_order;
  for (const Entry& entry : entries) in_order.push_back(&entry);
  std::sort(in_order.begin(), in_order.end(), [](const Entry* a, const Entry* b) { return std::pair(a->begin, a->end) < std::pair(b->begin, b->end); });
  std::uint64_t expected = 0;
  for (const Entry* entry : in_order) {
    if (entry->begin != expected) return invalid(path, absl::StrCat("tensor \"", entry->name, "\" begins at ", entry->begin, " where ", expected, " was expected (overlap or hole)"));
    expected = entry->end;
  }
  if (expected != data_size) return invalid(path, absl::StrCat(data_size - expected, " bytes at the end belong to no tensor"));

  NamedTensors tensors;
  for (const Entry& entry : entries) {
    Tensor tensor = at::empty(entry.shape, entry.type);
    std::memcpy(tensor.data_ptr(), data + entry.begin, entry.end - entry.begin);
    tensors.emplace_back(entry.name, std::move(tensor));
  }
  return tensors;
}

absl::StatusOr<std::string> to_safetensors(const NamedTensors& tensors, const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::vector<Tensor> host;
  std::uint64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    if (header.contains(name)) return absl::InvalidArgumentError(absl::StrCat("safetensors: two tensors are named \"", name, "\""));
    const auto known = std::find_if(std::begin(kTypes), std::end(kTypes), [&, type = tensor.scalar_type()](const NamedType& named) { return named.type == type; });
    if (known == std::end(kTypes)) return absl::InvalidArgumentError(absl::StrCat("safetensors: tensor \"", name, "\" has dtype ", c10::toString(tensor.scalar_type()), ", which the format lacks"));
    host.push_back(tensor.detach().to(at::kCPU).contiguous());
    header[name] = {{"dtype", known->name}, {"shape", tensor.sizes().vec()}, {"data_offsets", {offset, offset + host.back().nbytes()}}};
    offset += host.back().nbytes();
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // aligned, as the reference writer does
  const std::uint64_t header_size = text.size();
  std::string bytes(reinterpret_cast<const char*>(&header_size), sizeof header_size);
  bytes.reserve(sizeof header_size + header_size + offset);
  bytes += text;
  for (const Tensor& tensor : host) bytes.append(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes());
  return bytes;
}

}  // namespace fgvl
