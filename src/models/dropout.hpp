#pragma once
#include <vector>

#include <torch/torch.h>

#include "fgvl/core/random.hpp"
#include "fgvl/core/tensor.hpp"

namespace fgvl::models {

/// Dropout of one stage of one pass, drawn from a stream of its own, so that a stage which does not run changes no other stage's numbers.
class Dropout {
 public:
  /// No dropout at all: evaluation.
  Dropout() = default;
  Dropout(const GeneratorKey& key, at::Device device) : generator_(Generator(key).torch_generator(device)) {}

  /// Whether anything is dropped with this probability.
  bool drops(double probability) const { return generator_.defined() && probability > 0; }

  /// Will draw what this one will draw; neither moves the other.
  Dropout copy() const {
    Dropout other;
    if (generator_.defined()) other.generator_ = generator_.clone();
    return other;
  }

  /// Each element is dropped, or kept and divided by the probability of that.
  Tensor operator()(const Tensor& input, double probability);

  /// Stochastic depth (arXiv 1603.09382): each row of `input` [N, ...] is dropped as a whole, or kept and divided by the probability of that.
  Tensor skip_rows(const Tensor& input, double probability) {
    if (!drops(probability)) return input;
    std::vector<std::int64_t> shape(static_cast<std::size_t>(input.dim()), 1);
    shape[0] = input.size(0);
    const Tensor kept = at::empty(shape, input.options()).bernoulli_(1 - probability, generator_);
    return input * kept.mul_(1 / (1 - probability));
  }

 private:
  at::Generator generator_{};
};

}  // namespace fgvl::models
