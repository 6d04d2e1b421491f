#include "models/vit_blocks.hpp"

#include "models/attention.hpp"

namespace fgvl::models {

VitBlock::VitBlock(std::int64_t width, std::int64_t heads, std::int64_t mlp_width, Activation activation) : heads_(heads), activation_(activation) {
  const auto norm = [&] { return torch::nn::LayerNorm(torch::nn::LayerNormOptions({width}).eps(kVitNormEps)); };
  const auto attention = register_module("self_attn", std::make_shared<torch::nn::Module>());
  key_ = attention->register_module("k_proj", Linear(width, width));
  value_ = attention->register_module("v_proj", Linear(width, width));
  query_ = attention->register_module("q_proj", Linear(width, width));
  out_ = attention->register_module("out_proj", Linear(width, width));
  norm1_ = register_module("layer_norm1", norm());
  const auto mlp = register_module("mlp", std::make_shared<torch::nn::Module>());
  widen_ = mlp->register_module("fc1", Linear(width, mlp_width));
  narrow_ = mlp->register_module("fc2", Linear(mlp_width, width));
  norm2_ = register_module("layer_norm2", norm());
}

Tensor VitBlock::forward(const Tensor& tokens, const Tensor& mask) {
  const Tensor normed = norm1_(tokens);
  const Tensor mixed = tokens + out_(attend(query_(normed), key_(normed), value_(normed), heads_, mask));
  const Tensor wide = widen_(norm2_(mixed));
  return mixed + narrow_(activation_ == Activation::kGelu ? at::gelu(wide) : wide * at::sigmoid(1.702 * wide));
}

double vit_block_flops(std::int64_t tokens, std::int64_t width, std::int64_t mlp_width) {
  const double n = static_cast<double>(tokens), d = static_cast<double>(width), m = static_cast<double>(mlp_width);
  return 2 * n * (4 * d * d + 2 * d * m) + 4 * n * n * d;
}

}  // namespace fgvl::models
