#pragma once
#include "losses/cuda/tile_walk.cuh"

namespace fgvl::losses::cuda {

/// The sum of -log sigmoid(y (similarity + bias)) of the rows of blockIdx.x over the columns of blockIdx.y: partials[split][row].
template <typename T>
__global__ void __launch_bounds__(kThreads) partial_sigmoid(const Pairs<T> pairs, const SigmoidLoss loss, std::int64_t tiles_per_split, float* partials) {
  auto& shared = *reinterpret_cast<SharedTiles<T, false>*>(shared_memory());
  const float scale = *pairs.scale, bias = *loss.bias;
  TileWalk<T> walk(pairs, tiles_per_split);
  float total = 0.0f;
  for (; !walk.done(); walk.advance()) {
    walk.compute(pairs, shared);
    __syncthreads();
    const PartRoles roles = walk.roles(pairs, shared.columns);
    float seen = 0.0f;
#pragma unroll
    for (int c = 0; c < kPartColumns; ++c) {
      if (!(roles.counted >> c & 1)) continue;
      const float logit = scale * shared.product[(walk.first_lane + c) * kTileStride + walk.lane] + bias;
      const float wrong = roles.positive >> c & 1 ? -logit : logit;
      seen += fmaxf(wrong, 0.0f) + log1pf(expf(-fabsf(wrong)));  // log(1 + exp(wrong)) without overflow
    }
    total += seen;
  }
  // The parts of a row, in their order.
  __syncthreads();
  shared.product[threadIdx.x] = total;
  __syncthreads();
  if (threadIdx.x >= kTile || !walk.exists) return;
  for (int part = 1; part < kParts; ++part) total += shared.product[part * kTile + walk.lane];
  partials[blockIdx.y * pairs.rows.count + walk.row] = total;
}

}  // namespace fgvl::losses::cuda
