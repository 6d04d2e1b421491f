#include <algorithm>

#include "losses/cuda/kernels.hpp"

namespace fgvl::losses::cuda {
namespace {

// Enough for two blocks on each of the 108 to 160 multiprocessors of today's large GPUs, twice; a gradient's blocks then hold 32 MB of partial sums.
constexpr std::int64_t kBlocks = 512;

constexpr std::int64_t parts(std::int64_t size, std::int64_t part) { return (size + part - 1) / part; }

Geometry shared_work(std::int64_t rows, std::int64_t columns, std::int64_t slices) {
  Geometry geometry{.row_tiles = parts(rows, kTile), .slices = slices};
  const std::int64_t tiles = parts(columns, kTile);
  const std::int64_t wanted = std::clamp<std::int64_t>(kBlocks / (geometry.row_tiles * slices), 1, tiles);
  geometry.tiles_per_split = parts(tiles, wanted);
  geometry.splits = parts(tiles, geometry.tiles_per_split);  // none is empty
  return geometry;
}

}  // namespace

Geometry statistics_geometry(std::int64_t rows, std::int64_t columns) {
  Geometry geometry = shared_work(rows, columns, 1);
  geometry.partials = geometry.splits * rows * kStatistics;
  return geometry;
}

Geometry gradient_geometry(std::int64_t rows, std::int64_t columns, std::int64_t width) {
  Geometry geometry = shared_work(rows, columns, parts(width, kSlice));
  geometry.partials = geometry.splits * rows * width;
  return geometry;
}

}  // namespace fgvl::losses::cuda
