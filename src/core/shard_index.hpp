#pragma once
#include <map>
#include <set>
#include <string>
#include <string_view>

#include <absl/status/statusor.h>

namespace fgvl {

/// What an index of shards (*.index.json of Hugging Face) says: file -> the names of the tensors in it.
using ShardIndex = std::map<std::string, std::set<std::string>>;

/// From `{"weight_map": {name: file, ...}, ...}`; other keys are passed over. InvalidArgument for what is no such JSON or is nested too deep, for a tensor that is named twice, and
/// for a file that is not a plain name: shards lie beside their index. Read event by event: of what is passed over nothing is kept.
absl::StatusOr<ShardIndex> parse_shard_index(std::string_view text);

}  // namespace fgvl
