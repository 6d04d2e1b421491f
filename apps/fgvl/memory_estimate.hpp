#pragma once
#include "fgvl/losses/criterion.hpp"
#include "fgvl/models/model.hpp"
#include "fgvl/train/run_config.hpp"

namespace fgvl::app {

/// What a training step is expected to need, in bytes. An estimate: allocators and libraries need some more, and texts are often shorter and fewer.
struct MemoryEstimate {
  double state = 0;        ///< weights, gradients and two moments: 16 bytes a parameter, 4 one that does not train (momentum encoders); queues and other buffers
  double activations = 0;  ///< kept for the backward pass
  std::int64_t images = 0, texts = 0;  ///< of one batch; texts at most
};

/// activations = 4 bytes * sum over weight matrices (linear, convolution) of rows * (inputs + outputs): the backward pass keeps what goes into a matrix, and
/// norms, activation functions and residual sums keep about what comes out. Rows are the tokens that pass a matrix: of all images in the vision encoder and
/// in the projections of keys and values in the fusion encoder; of all texts in the text encoder, once for each form that a loss asks for (as written, masked,
/// foil); of all fused pairs in the fusion encoder (the true ones, two hard negatives a text with matching, masked texts, foils). A convolution's rows
/// are its output positions. Attention keeps no matrix of tokens times tokens.
MemoryEstimate estimate_memory(const train::RunConfig& config, const models::Model& model, const losses::Criterion& criterion);

}  // namespace fgvl::app
