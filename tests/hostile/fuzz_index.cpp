// libFuzzer target: indices of shards. What is accepted names plain files, and is what a parser of whole trees finds.
#include "core/bounded_json.hpp"
#include "core/shard_index.hpp"
#include "fuzzing.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using fgvl::fuzzing::require;
  const std::string_view text = fgvl::fuzzing::bytes_of(data, size);
  const fgvl::fuzzing::MemoryBound bound(size, 0);
  const auto index = fgvl::parse_shard_index(text);
  if (!index.ok()) return 0;
  std::size_t count = 0;
  const auto tree = fgvl::parse_bounded_json(text);
  require(tree.is_object() && tree.contains("weight_map"));
  for (const auto& [shard, names] : *index) {
    require(!shard.empty() && shard != ".." && shard.find('/') == std::string::npos && !names.empty());
    for (const std::string& name : names) require(tree["weight_map"].value(name, "") == shard);
    count += names.size();
  }
  require(tree["weight_map"].size() == count);
  return 0;
}
