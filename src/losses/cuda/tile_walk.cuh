#pragma once
#include "losses/cuda/similarity_tiles.cuh"

namespace fgvl::losses::cuda {

/// Which of a thread's columns of a tile are positives and which count at all, a bit each.
struct PartRoles {
  unsigned positive = 0, counted = 0;
};

/// A thread's row and share of the columns, and its block's way along the tiles of its split. Threads of neighbouring rows follow one another; kParts threads share a row.
template <typename T>
class TileWalk {
 public:
  __device__ TileWalk(const Pairs<T>& pairs, std::int64_t tiles_per_split)
      : first_row(static_cast<std::int64_t>(blockIdx.x) * kTile),
        column(static_cast<std::int64_t>(blockIdx.y) * tiles_per_split * kTile),
        lane(threadIdx.x % kTile),
        first_lane(threadIdx.x / kTile * kPartColumns),
        row(first_row + lane),
        exists(row < pairs.rows.count),
        end_(column + tiles_per_split * kTile < pairs.columns.count ? column + tiles_per_split * kTile : pairs.columns.count),
        id_(exists ? pairs.rows.id[row] : 0) {
    if (pairs.rules.entries == nullptr || !exists) return;
    const std::int32_t group = pairs.rows.group[row];
    rules_ = pairs.rules.entries + pairs.rules.offsets[group];
    rule_count_ = static_cast<int>(pairs.rules.offsets[group + 1] - pairs.rules.offsets[group]);
  }

  __device__ bool done() const { return column >= end_; }
  __device__ void advance() { column += kTile; }

  /// The tile's products, those of the teacher, and its columns' names. Unsynchronised.
  template <bool kTeacher>
  __device__ void compute(const Pairs<T>& pairs, SharedTiles<T, kTeacher>& shared) const {
    Products<T>::tile_of(pairs.rows.data, pairs.rows.count, first_row, pairs.columns.data, pairs.columns.count, column, pairs.width, shared.operands, shared.product);
    if constexpr (kTeacher) {
      Products<T>::tile_of(pairs.rows.teacher, pairs.rows.count, first_row, pairs.columns.teacher, pairs.columns.count, column, pairs.width, shared.operands, shared.teacher);
    }
    const std::int64_t own = column + threadIdx.x;
    if (threadIdx.x < kTile && own < pairs.columns.count) {
      shared.columns.id[threadIdx.x] = pairs.columns.id[own];
      if (pairs.rules.entries != nullptr) shared.columns.group[threadIdx.x] = pairs.columns.group[own];
    }
  }

  /// Of the thread's row, or nothing if there is no such row.
  __device__ PartRoles roles(const Pairs<T>& pairs, const TileColumns& columns) const {
    PartRoles roles;
    if (!exists) return roles;
    for (int c = 0; c < kPartColumns; ++c) {
      const int at = first_lane + c;
      if (column + at >= pairs.columns.count) break;
      const int rule = columns.id[at] == id_ ? kPositive : rule_of(columns, at);
      if (rule == kPositive) roles.positive |= 1u << c;
      if (rule != kIgnored) roles.counted |= 1u << c;
    }
    return roles;
  }

  const std::int64_t first_row;  ///< of the block
  std::int64_t column;           ///< first of the tile
  const int lane, first_lane;    ///< the thread's row and first column in a tile
  const std::int64_t row;
  const bool exists;             ///< there is such a row

 private:
  enum { kPositive = 0, kIgnored = 1, kNegative = 2 };

  __device__ int rule_of(const TileColumns& columns, int at) const {
    if (rule_count_ == 0) return kNegative;
    const std::int32_t wanted = 2 * columns.group[at];
    int first = 0, after = rule_count_;  // the first entry that is not before the column's group
    while (first < after) {
      const int middle = (first + after) / 2;
      if (rules_[middle] < wanted) {
        first = middle + 1;
      } else {
        after = middle;
      }
    }
    return first < rule_count_ && rules_[first] / 2 == columns.group[at] ? rules_[first] % 2 : kNegative;
  }

  const std::int64_t end_;
  const std::int64_t id_;
  const std::int32_t* rules_ = nullptr;
  int rule_count_ = 0;
};

}  // namespace fgvl::losses::cuda
