// libFuzzer target: the restricted unpickler on any bytes, alone and as a legacy PyTorch file.
#include <cstdint>
#include <string_view>

#include "core/pickle.hpp"
#include "core/torch_file.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  for (const bool torchscript : {false, true}) {
    const auto graph = fgvl::pickle::parse(bytes, {.offset = 0, .budget = 1 << 20, .torchscript = torchscript});
    if (!graph.ok()) continue;
    if (graph->end > size || graph->root >= graph->values.size()) __builtin_trap();
  }
  if (fgvl::looks_like_torch(bytes) && bytes.substr(0, 2) != "PK") (void)fgvl::parse_torch(bytes);
  return 0;
}
