#include "fgvl/core/initialize.hpp"

#include <cmath>

#include <torch/torch.h>

#include "fgvl/core/random.hpp"

namespace fgvl {

namespace {

/// The name of what a momentum copy copies: the same without the parts "momentum".
std::string copied_name(std::string name) {
  constexpr std::string_view kPart = ".momentum.";
  for (std::size_t at = name.find(kPart); at != std::string::npos; at = name.find(kPart)) name.erase(at, kPart.size() - 1);
  return name;
}

}  // namespace

void initialize(torch::nn::Module& module, std::uint64_t seed, std::optional<double> range, const std::string& prefix) {
  torch::NoGradGuard guard;
  for (const auto& entry : module.named_modules(prefix, /*include_self=*/false)) {
    torch::nn::Module& layer = *entry.value();
    const bool embedding = layer.as<torch::nn::Embedding>() != nullptr;
    if (!embedding && layer.as<torch::nn::Linear>() == nullptr && layer.as<torch::nn::Conv2d>() == nullptr) continue;
    for (const auto& parameter : layer.named_parameters(/*recurse=*/false)) {
      at::Tensor value = parameter.value();
      if (parameter.key() == "bias") {
        value.zero_();
        continue;
      }
      const std::string name = copied_name(entry.key() + "." + parameter.key());
      at::Generator generator = Generator({.seed = seed, .purpose = name}).torch_generator(at::kCPU);
      const at::Tensor draw = at::empty(value.sizes(), at::kFloat);
      if (range) {
        draw.normal_(0.0, *range, generator);
      } else if (embedding) {
        draw.normal_(0.0, 1.0, generator);
      } else {
        const double bound = 1.0 / std::sqrt(static_cast<double>(value.numel() / value.size(0)));
        draw.uniform_(-bound, bound, generator);
      }
      value.copy_(draw);
    }
  }
}

void draw_normal(at::Tensor value, std::uint64_t seed, std::string_view purpose, double std) {
  torch::NoGradGuard guard;
  at::Generator generator = Generator({.seed = seed, .purpose = purpose}).torch_generator(at::kCPU);
  value.copy_(at::empty(value.sizes(), at::kFloat).normal_(0.0, std, generator));
}

}  // namespace fgvl
