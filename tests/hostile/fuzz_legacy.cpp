// libFuzzer target: PyTorch files of the form before zip archives. Every tensor that is accepted must lie inside the file.
#include "fuzzing.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes = fgvl::fuzzing::bytes_of(data, size);
  if (!fgvl::looks_like_torch(bytes) || bytes.substr(0, 2) == "PK") return -1;  // of the other targets: not worth keeping
  const fgvl::fuzzing::MemoryBound bound(size, fgvl::fuzzing::kPickles);
  const auto file = fgvl::parse_torch(bytes);
  if (file.ok()) fgvl::fuzzing::check_torch(*file, size);
  return 0;
}
