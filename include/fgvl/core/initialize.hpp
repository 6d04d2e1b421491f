#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <torch/nn/module.h>

namespace fgvl {

/// Draws new values for the weights of every Linear, Conv2d and Embedding below `module`, and zeroes their biases, as a pure function of `seed`
/// and each parameter's name: adding a layer changes no other layer's start. Norms and free parameters are left as they are.
/// Layers below a child that is called "momentum" start as those that they copy: the ones of the same name without it.
/// `prefix` stands before the names, for a part that will be registered under it. `range`: standard deviation of a normal distribution (BERT's initializer_range); absent: uniform in +-1 / sqrt(fan-in), PyTorch's default.
void initialize(torch::nn::Module& module, std::uint64_t seed, std::optional<double> range, const std::string& prefix = "");

/// Fills `value` from a normal distribution of mean 0, without gradient, as a pure function of (seed, purpose): for parameters that are no layer's weight.
void draw_normal(at::Tensor value, std::uint64_t seed, std::string_view purpose, double std);

}  // namespace fgvl
