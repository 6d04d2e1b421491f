#pragma once
/// Which pairs of a tile are positives, negatives, or ignored. Included after device.cuh, or after the tests' stand-in for it.
#include "losses/cuda/kernels.hpp"

namespace fgvl::losses::cuda {

enum class Role { kPositive, kIgnored, kNegative };

/// What the pairs of one row need to know of it.
struct RowRules {
  std::int64_t id = 0;
  const std::int32_t* entries = nullptr;
  int count = 0;

  __device__ RowRules(const Tile& tile, std::int64_t row) : id(tile.row_names.id[row]) {
    if (tile.rules.entries == nullptr) return;
    const std::int32_t group = tile.row_names.group[row];
    entries = tile.rules.entries + tile.rules.offsets[group];
    count = static_cast<int>(tile.rules.offsets[group + 1] - tile.rules.offsets[group]);
  }

  /// `group` is read only where there are rules.
  __device__ Role role(std::int64_t column_id, std::int32_t group) const {
    if (column_id == id) return Role::kPositive;
    if (count == 0) return Role::kNegative;
    int first = 0, after = count;  // the first entry that is not before the column's group
    while (first < after) {
      const int middle = (first + after) / 2;
      if (entries[middle] < 2 * group) {
        first = middle + 1;
      } else {
        after = middle;
      }
    }
    if (first == count || entries[first] / 2 != group) return Role::kNegative;
    return entries[first] % 2 == 0 ? Role::kPositive : Role::kIgnored;
  }
};

__device__ inline std::int32_t column_group(const Tile& tile, std::int64_t column) { return tile.rules.entries == nullptr ? 0 : tile.column_names.group[column]; }

}  // namespace fgvl::losses::cuda
