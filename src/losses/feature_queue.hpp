#pragma once
#include <cstdint>
#include <limits>

#include <torch/nn/module.h>

#include "fgvl/core/tensor.hpp"

namespace fgvl::losses {

/// Features of earlier batches with the key of their text: a ring of `size` rows (MoCo, arXiv 1911.05722; ALBEF, BLIP and PEVL keep one of images and one of texts). Buffers, so that a checkpoint holds them:
/// `visual` and `text` [size, E], `key` [size] int64, `pointer` [1] int64, the place of the next row. A row of zeros is one that nothing was written to yet.
class FeatureQueue final : public torch::nn::Module {
 public:
  struct Entries {
    Tensor visual{}, text{};  ///< [N, E] without gradient
    Tensor key{};             ///< [N] int64: RegionBatch::text_key, or kUnknownKey
  };
  /// Of entries whose text nobody knows, as those of official checkpoints: equal to no text of a batch.
  static constexpr std::int64_t kUnknownKey = std::numeric_limits<std::int64_t>::min();

  FeatureQueue(std::int64_t size, std::int64_t width);

  /// Fills every place with unit rows that are drawn from `seed`, as the official codes start theirs.
  void fill(std::uint64_t seed);
  std::int64_t size() const { return key_.size(0); }
  /// What was written, at most `size` rows; copies, which a later push() does not change.
  Entries entries() const;
  /// Writes rows over the oldest. Rows with a feature that is not finite are left out; of more than `size` rows the last stay.
  void push(const Entries& rows);

  /// Of another precision: the features alone.
  using torch::nn::Module::to;
  void to(at::ScalarType dtype, bool non_blocking = false) override;

 private:
  Tensor visual_, text_, key_, pointer_;
};

}  // namespace fgvl::losses
