// libFuzzer target: safetensors headers. Every tensor that is accepted must lie inside the file.
#include <cstdint>
#include <string_view>

#include "core/safetensors_header.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto header = fgvl::parse_safetensors({reinterpret_cast<const char*>(data), size});
  if (!header.ok()) return 0;
  for (const auto& tensor : header->tensors) {
    if (tensor.storage_begin > size || tensor.storage_bytes > size - tensor.storage_begin || !fgvl::check_view(tensor).ok()) __builtin_trap();
  }
  return 0;
}
