#pragma once
#include <vector>

#include <torch/torch.h>

namespace fgvl::models {

/// How a square map of tokens is cut into windows.
struct WindowGrid {
  std::int64_t side;    ///< tokens a side of the map
  std::int64_t window;  ///< tokens a side of a window
  std::int64_t shift;   ///< tokens by which the map is rolled up and left before it is cut
  std::int64_t filled() const { return (side + window - 1) / window * window; }  ///< tokens a side, a multiple of the window
  std::int64_t windows() const { return (filled() / window) * (filled() / window); }
  std::int64_t tokens() const { return window * window; }  ///< N, of a window
};

/// The grid of a block: one window and no shift where the map is no larger than a window.
WindowGrid make_window_grid(std::int64_t side, std::int64_t window, bool shifted);

/// [B, side, side, D] -> [B, filled, filled, D]: filled up with zeros, and rolled, unless on a CPU, where to_windows() rolls while it copies.
at::Tensor fill_and_roll(const at::Tensor& map, const WindowGrid& grid);
/// What was made of fill_and_roll()'s, [B, filled, filled, 3 * D] -> queries, keys and values [B, windows, heads, N, D / heads], contiguous.
std::vector<at::Tensor> to_windows(const at::Tensor& qkv, const WindowGrid& grid, std::int64_t heads);
/// The way back: [B, windows, heads, N, D / heads] -> [B, side, side, D].
at::Tensor from_windows(const at::Tensor& windows, const WindowGrid& grid);

/// [windows, N, N] float32 to add to scores (query, key): -100 between tokens that only the roll made neighbours, as the official code, -10000 on keys
/// that merely fill the map up. Undefined where every token of every window sees all of it.
at::Tensor window_mask(const WindowGrid& grid);

/// [N, N] int64: the row of a [(2 * window - 1)^2, heads] table for every pair (query, key).
at::Tensor relative_position_index(std::int64_t window);
/// The table's values for every pair: [heads, N, N], without an index.
at::Tensor relative_position_bias(const at::Tensor& table, std::int64_t window);

}  // namespace fgvl::models
