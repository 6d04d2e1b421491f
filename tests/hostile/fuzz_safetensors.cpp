// libFuzzer target: safetensors headers. Every tensor that is accepted must lie inside the file.
#include "core/safetensors_header.hpp"
#include "fuzzing.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fgvl::fuzzing::MemoryBound bound(size, 0);
  const auto header = fgvl::parse_safetensors(fgvl::fuzzing::bytes_of(data, size));
  if (header.ok()) fgvl::fuzzing::check_inside(header->tensors, size);
  return 0;
}
