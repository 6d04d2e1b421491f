#pragma once
#include <algorithm>
#include <vector>

#include <torch/torch.h>

#include "losses/pair_table.hpp"

namespace fgvl::losses {

/// Whether anybody may ask for gradients of what is computed of `values`.
inline bool needs_gradients(at::TensorList values) {
  return at::GradMode::is_enabled() && std::any_of(values.begin(), values.end(), [](const Tensor& value) { return value.requires_grad(); });
}

/// Queries against keys in tiles that stay in a processor's cache and are large enough for its matrix products; those of a queue begin a tile of their own.
class Tiling {
 public:
  struct Block {
    std::int64_t begin, end;
  };

  Tiling(std::int64_t queries, std::int64_t keys, std::int64_t queue, at::Device device) {
    // Measured with MKL on AVX2: 512 x 1024 is where products of width 256 are fastest and exponentials cost what they cost in cache. 4096 x 2048 fits the cache of today's large GPUs and gives each of their
    // multiprocessors several tiles of a product.
    const std::int64_t elements = device.is_cpu() ? std::int64_t{1} << 19 : std::int64_t{1} << 23, widest = device.is_cpu() ? 1024 : 2048;
    kept_elements_ = std::max(elements, std::int64_t{1} << 22);
    const std::int64_t columns = std::clamp<std::int64_t>(std::max(keys, queue), 1, widest);
    cut(rows_, 0, queries, elements / columns);
    cut(columns_, 0, keys, columns);
    cut(columns_, keys, keys + queue, columns);
  }

  const std::vector<Block>& rows() const { return rows_; }
  /// Whether one more tile may stay in memory from forward to backward, which then needs no product for it: all tiles of a batch of two thousand may, and little beside the features of a large one.
  bool has_room_for(const PairTable::Tile& tile, const std::vector<Tensor>& kept) const {
    std::int64_t elements = tile.rows() * tile.columns();
    for (const Tensor& one : kept) elements += one.numel();
    return elements <= kept_elements_;
  }
  /// Tiles in their order: those of a block of rows, and all.
  template <class Visit>
  void for_each_tile_of(const Block& rows, Visit&& visit) const {
    for (const Block& columns : columns_) visit(PairTable::Tile{rows.begin, rows.end, columns.begin, columns.end});
  }
  template <class Visit>
  void for_each_tile(Visit&& visit) const {
    for (const Block& rows : rows_) for_each_tile_of(rows, visit);
  }
  /// A buffer for any tile.
  Tensor buffer(const Tensor& like) const { return at::empty({longest(rows_) * longest(columns_)}, like.options()); }
  /// The part of such a buffer that is as large as a tile.
  static Tensor view(const Tensor& buffer, const PairTable::Tile& tile) { return buffer.narrow(0, 0, tile.rows() * tile.columns()).view({tile.rows(), tile.columns()}); }

 private:
  static void cut(std::vector<Block>& blocks, std::int64_t begin, std::int64_t end, std::int64_t length) {
    // Equal parts instead of full ones and a remainder.
    const std::int64_t count = (end - begin + length - 1) / length;
    for (std::int64_t i = 0; i < count; ++i) blocks.push_back({begin + (end - begin) * i / count, begin + (end - begin) * (i + 1) / count});
  }
  static std::int64_t longest(const std::vector<Block>& blocks) {
    std::int64_t longest = 0;
    for (const Block& block : blocks) longest = std::max(longest, block.end - block.begin);
    return longest;
  }

  std::vector<Block> rows_{}, columns_{};
  std::int64_t kept_elements_ = 0;
};

/// Products of the rows of `left` [N, E] with those of `right` [M, E] and of a queue behind them [K, E], one tile at a time.
class TileProducts {
 public:
  TileProducts() = default;
  TileProducts(Tensor left, Tensor right, Tensor queue) : left_(std::move(left)), right_(std::move(right)), queue_(std::move(queue)) {}

  const Tensor& left() const { return left_; }
  const Tensor& right() const { return right_; }
  Tensor left_of(const PairTable::Tile& tile) const { return left_.narrow(0, tile.query_begin, tile.rows()); }
  Tensor right_of(const PairTable::Tile& tile) const {
    return is_queue(tile) ? queue_.narrow(0, tile.key_begin - right_.size(0), tile.columns()) : right_.narrow(0, tile.key_begin, tile.columns());
  }
  bool is_queue(const PairTable::Tile& tile) const { return tile.key_begin >= right_.size(0); }
  void into(Tensor& out, const PairTable::Tile& tile) const { at::mm_out(out, left_of(tile), right_of(tile).t()); }
  /// No product is larger in magnitude, but for rounding.
  double bound() const { return largest_norm(left_) * std::max(largest_norm(right_), queue_.defined() ? largest_norm(queue_) : 0.0); }

 private:
  static double largest_norm(const Tensor& rows) { return rows.numel() == 0 ? 0.0 : at::linalg_vector_norm(rows, 2, {1}).max().item<double>(); }

  Tensor left_{}, right_{}, queue_{};
};

/// The pairs of a tile that are not negatives, as tensors on the device of the tiles; undefined where there are none.
struct TileMarks {
  Tensor positive_row{}, positive_column{}, positive{};  ///< [P] int64: rows and columns of the tile, and indices into its elements
  Tensor ignored{};                                      ///< [I] int64 indices into its elements

  TileMarks(const PairTable& table, const PairTable::Tile& tile, at::Device device) {
    const PairTable::Marked marked = table.marked(tile);
    const auto moved = [&](const std::vector<std::int64_t>& values) { return torch::tensor(values, torch::kLong).to(device); };
    if (!marked.positive_row.empty()) {
      positive_row = moved(marked.positive_row);
      positive_column = moved(marked.positive_column);
      positive = positive_row * tile.columns() + positive_column;
    }
    if (!marked.ignored_row.empty()) ignored = moved(marked.ignored_row) * tile.columns() + moved(marked.ignored_column);
  }
  void fill_ignored(Tensor& tile, double value) const {
    if (ignored.defined()) tile.view(-1).index_fill_(0, ignored, value);
  }
};

}  // namespace fgvl::losses
