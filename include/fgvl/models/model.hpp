#pragma once
#include <memory>

#include <torch/nn/module.h>

#include "fgvl/core/forward_pass.hpp"

namespace fgvl::models {

/// What makes two passes over one batch equal: dropout and sampling are pure functions of (seed, step).
struct PassOptions {
  std::uint64_t seed = 0;
  std::uint64_t step = 0;
  CollectivePtr collective{};  ///< null: a single process
  bool bf16 = false;           ///< matrix products of the encoders in bfloat16; features, norms and whatever losses compute stay float32
};

/// Anything the trainer can train: starts one lazily evaluated pass over a batch.
/// The pass keeps a reference to the model and the batch's tensors, and must not outlive the model.
class Model : public torch::nn::Module {
 public:
  virtual FeatureSpec spec() const = 0;
  /// `batch` must be on the model's device and, for its images, of the model's image size.
  virtual std::unique_ptr<ForwardPass> begin(const RegionBatch& batch, const PassOptions& options = {}) = 0;
};
using ModelPtr = std::shared_ptr<Model>;

}  // namespace fgvl::models
