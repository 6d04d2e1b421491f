#pragma once
#include <cstdint>
#include <vector>

#include "fgvl/losses/tiled_contrastive.hpp"

namespace fgvl::losses {

/// Throws c10::Error, naming the field, unless the rules fit `queries` x `keys`. `where` is the function of which they are an argument.
void check_rules(const PairRules& rules, std::int64_t queries, std::int64_t keys, const char* where);

/// PairRules on the host, ready to be asked about one tile at a time. Takes O(N + M + rules) memory, however many pairs the rules say something of.
class PairTable {
 public:
  /// Throws as check_rules.
  PairTable(const PairRules& rules, std::int64_t queries, std::int64_t keys, const char* where);

  /// Queries [query_begin, query_end) against keys [key_begin, key_end).
  struct Tile {
    std::int64_t query_begin, query_end, key_begin, key_end;
    std::int64_t rows() const { return query_end - query_begin; }
    std::int64_t columns() const { return key_end - key_begin; }
  };
  /// Pairs of one tile that are not negatives, ascending by row and then column, both counted from the tile's corner.
  struct Marked {
    std::vector<std::int64_t> positive_row{}, positive_column{};
    std::vector<std::int64_t> ignored_row{}, ignored_column{};
  };
  Marked marked(const Tile& tile) const;

  std::int64_t queries() const { return static_cast<std::int64_t>(ids_.size()); }
  std::int64_t keys() const { return keys_; }

 private:
  /// A part of keys_by_id_ or keys_by_group_: ascending keys.
  struct Range {
    std::int64_t begin = 0, end = 0;
  };
  /// Relations of one query: part of a list of ranges of keys_by_group_.
  using Relations = std::vector<Range>;

  std::int64_t keys_ = 0;
  std::vector<std::int64_t> keys_by_id_{}, keys_by_group_{};
  std::vector<Range> ids_{};                              ///< [N] into keys_by_id_
  std::vector<Range> positive_of_{}, ignored_of_{};       ///< [N] into positive_ and ignored_; empty without such rules
  Relations positive_{}, ignored_{};                      ///< into keys_by_group_
};

}  // namespace fgvl::losses
