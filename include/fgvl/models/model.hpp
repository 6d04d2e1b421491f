#pragma once
#include <memory>

#include <torch/nn/module.h>

#include "fgvl/core/forward_pass.hpp"

namespace fgvl::models {

/// What earlier passes computed, used again instead of running an encoder: many texts on many pictures encode each once. Undefined `embeds`: encoded from the batch.
struct Encoded {
  ImageFeatures image{};  ///< of all B images, in place of `batch.images`, which may then be undefined. Every text must be about a whole image: a region's tokens are not in it.
  TextFeatures text{};    ///< of all T texts, in place of `batch.text_ids`; `batch.text_mask` must be their mask.
};

/// What makes two passes over one batch equal: dropout and sampling are pure functions of (seed, step).
struct PassOptions {
  std::uint64_t seed = 0;
  std::uint64_t step = 0;
  std::int64_t optimizer_step = 0;  ///< ForwardPass::step(); several passes share one where gradients are accumulated
  CollectivePtr collective{};  ///< null: a single process
  bool bf16 = false;           ///< matrix products of the encoders in bfloat16; features, norms and whatever losses compute stay float32
  Encoded given{};
};

/// Anything the trainer can train: starts one lazily evaluated pass over a batch.
/// The pass keeps a reference to the model and the batch's tensors, and must not outlive the model.
class Model : public torch::nn::Module {
 public:
  virtual FeatureSpec spec() const = 0;
  /// `batch` must be on the model's device and, for its images, of the model's image size. Whoever asks only for text() may leave `batch.images` undefined, and whoever asks
  /// only for image() may have no texts (T = 0).
  virtual std::unique_ptr<ForwardPass> begin(const RegionBatch& batch, const PassOptions& options = {}) = 0;
  /// Moves the momentum encoders towards the weights as they are now; called once before every optimizer step. Without momentum encoders nothing happens.
  virtual void update_momentum() {}
};
using ModelPtr = std::shared_ptr<Model>;

}  // namespace fgvl::models
