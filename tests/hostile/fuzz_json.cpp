// libFuzzer target: configurations that come with weights, as JSON. The check without a tree and the tree agree, and the tree may be walked by recursion.
#include "core/bounded_json.hpp"
#include "fuzzing.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = fgvl::fuzzing::bytes_of(data, size);
  const fgvl::fuzzing::MemoryBound bound(size, 0);
  const auto tree = fgvl::parse_bounded_json(text);
  fgvl::fuzzing::require(fgvl::is_bounded_json_object(text) == tree.is_object());
  if (!tree.is_discarded()) (void)tree.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return 0;
}
