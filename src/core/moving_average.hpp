#pragma once
#include <torch/nn/module.h>

namespace fgvl {

/// Makes `copy` one that only follow() changes: none of its parameters requires a gradient.
void never_train(torch::nn::Module& copy);

/// Moves every parameter of `copy` towards the one of the same name below `original`, without gradient: copy = decay * copy + (1 - decay) * original (momentum encoders: MoCo, arXiv 1911.05722, eq. 2).
/// Throws c10::Error for a parameter that `original` does not have.
void follow(torch::nn::Module& copy, const torch::nn::Module& original, double decay);

}  // namespace fgvl
