#include "train/shares.hpp"

#include <cmath>
#include <limits>

#include <torch/torch.h>

namespace fgvl::train {

std::vector<GradientShare> gradient_shares(const losses::LossReport& report, const std::vector<Tensor>& parameters) {
  std::vector<Tensor> trained;
  for (const Tensor& parameter : parameters) {
    if (parameter.requires_grad()) trained.push_back(parameter);
  }
  std::vector<GradientShare> shares;
  double sum = 0;
  for (const auto& [term, value] : report.shares) {
    double square = 0;
    if (value.requires_grad() && !trained.empty()) {
      for (const Tensor& gradient : torch::autograd::grad({value}, trained, {}, /*retain_graph=*/true, /*create_graph=*/false, /*allow_unused=*/true)) {
        if (!gradient.defined()) continue;
        const Tensor dense = gradient.is_sparse() ? gradient.coalesce().values() : gradient;  // look-ups of words
        square += dense.to(at::kDouble).square().sum().item<double>();
      }
    }
    shares.push_back({term, std::sqrt(square), 0.0});
    sum += shares.back().norm;
  }
  for (GradientShare& share : shares) share.share = sum > 0 ? share.norm / sum : std::numeric_limits<double>::quiet_NaN();
  return shares;
}

}  // namespace fgvl::train
