#pragma once
#include <functional>
#include <memory>
#include <vector>

#include <torch/torch.h>

#include "models/dropout.hpp"

namespace fgvl::models {

/// A piece of a network: what it makes of `inputs`. It may run again long after the call that it was made for, so that it must hold modules by shared_ptr and other tensors by value; whatever needs a
/// gradient and is no parameter must be among `inputs`.
using Piece = std::function<Tensor(const std::vector<Tensor>& inputs, Dropout& dropout)>;

/// `piece(inputs, dropout)`. With `checkpointed` (Encoder::gradient_checkpointing) and where a gradient is wanted, nothing that it computes on the way is kept: backward runs `piece` once more, with the same
/// dropout and under the same autocast. `module`: whose parameters the piece uses; those that need a gradient get it, whether or not an input needs one.
Tensor recompute(bool checkpointed, const std::shared_ptr<torch::nn::Module>& module, const std::vector<Tensor>& inputs, Dropout& dropout, Piece piece);

}  // namespace fgvl::models
