#include "core/moving_average.hpp"

#include <vector>

#include <torch/torch.h>

namespace fgvl {

void never_train(torch::nn::Module& copy) {
  for (at::Tensor parameter : copy.parameters()) parameter.set_requires_grad(false);
}

void follow(torch::nn::Module& copy, const torch::nn::Module& original, double decay) {
  torch::NoGradGuard guard;
  const auto current = original.named_parameters();
  std::vector<at::Tensor> averages, values;
  for (const auto& parameter : copy.named_parameters()) {
    const at::Tensor* value = current.find(parameter.key());
    TORCH_CHECK(value != nullptr, "[follow] ", parameter.key(), ": the original has no such parameter");
    averages.push_back(parameter.value());
    values.push_back(*value);
  }
  if (averages.empty()) return;
  at::_foreach_mul_(averages, decay);
  at::_foreach_add_(averages, values, 1 - decay);
}

}  // namespace fgvl
