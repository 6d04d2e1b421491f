#pragma once
#include "fgvl/core/tensor.hpp"

namespace fgvl::models {

/// A learned position embedding for another number of patches, as X-VLM and DeiT do on load: bicubic, pixel centres aligned, without antialiasing.
/// `table` [1, extra_tokens + G^2, D], whose first `extra_tokens` rows ([CLS]) are kept -> [1, extra_tokens + grid^2, D]; the same tensor when G = grid.
/// Throws c10::Error when the patches are no square.
Tensor interpolate_position_embedding(const Tensor& table, std::int64_t grid, std::int64_t extra_tokens = 1);

/// A Swin's or BEiT's relative position bias for another window, as BEiT and X-VLM do on load: known offsets are taken to lie at geometrically growing distances
/// that reach the new window's largest offset, and a cubic spline (not-a-knot, an axis at a time) is read at the new offsets.
/// `table` [(2w - 1)^2 + extra_rows, heads], rows (dy, dx) row by row -> [(2 * window - 1)^2 + extra_rows, heads], in the table's type; the same tensor when w = window. The last `extra_rows` (3 in BEiT,
/// for [CLS]) are kept.
/// The growth is never below 1.01 a step, so that a smaller window crops rather than shrinks. With w = 2 the spline is a parabola and with w = 1 a
/// constant; the reference, whose splines need four points, fails there. Throws c10::Error when the rows but the extra ones are no odd square.
Tensor interpolate_relative_position_bias(const Tensor& table, std::int64_t window, std::int64_t extra_rows = 0);

}  // namespace fgvl::models
