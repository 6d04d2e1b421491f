// libFuzzer target: zip archives, and what PyTorch and TorchScript put into them. Every member and tensor that is accepted must lie inside the file.
#include "core/zip_archive.hpp"
#include "fuzzing.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes = fgvl::fuzzing::bytes_of(data, size);
  const fgvl::fuzzing::MemoryBound bound(size, fgvl::fuzzing::kPickles);
  const auto members = fgvl::zip::read_directory(bytes);
  if (!members.ok()) return 0;
  for (const auto& member : *members) fgvl::fuzzing::require(member.begin <= size && member.size <= size - member.begin);
  if (bytes.substr(0, 2) != "PK") return 0;
  const auto file = fgvl::parse_torch(bytes);
  if (file.ok()) fgvl::fuzzing::check_torch(*file, size);
  return 0;
}
