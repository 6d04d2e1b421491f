// libFuzzer target: zip archives, and what PyTorch puts into them. Every tensor that is accepted must lie inside the file.
#include <cstdint>
#include <string_view>

#include "core/torch_file.hpp"
#include "core/zip_archive.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto members = fgvl::zip::read_directory(bytes);
  if (!members.ok()) return 0;
  for (const auto& member : *members) {
    if (member.begin > size || member.size > size - member.begin) __builtin_trap();
  }
  const auto file = fgvl::parse_torch(bytes);
  if (!file.ok()) return 0;
  for (const auto& tensor : file->tensors) {
    if (tensor.storage_begin > size || tensor.storage_bytes > size - tensor.storage_begin || !fgvl::check_view(tensor).ok()) __builtin_trap();
  }
  return 0;
}
