#pragma once
#include <torch/torch.h>

#include "fgvl/core/random.hpp"

namespace fgvl::models {

/// Dropout of one stage of one pass, drawn from a stream of its own, so that a stage which does not run changes no other stage's numbers.
class Dropout {
 public:
  /// No dropout at all: evaluation.
  Dropout() = default;
  Dropout(const GeneratorKey& key, at::Device device) : generator_(Generator(key).torch_generator(device)) {}

  Tensor operator()(const Tensor& input, double probability) {
    if (!generator_.defined() || probability <= 0) return input;
    const Tensor kept = at::empty_like(input).bernoulli_(1 - probability, generator_);
    return input * kept.mul_(1 / (1 - probability));
  }

 private:
  at::Generator generator_{};
};

}  // namespace fgvl::models
