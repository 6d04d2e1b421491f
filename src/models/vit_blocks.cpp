#include "models/vit_blocks.hpp"

#include "core/gelu.hpp"
#include "models/attention.hpp"
#include "models/recompute.hpp"

namespace fgvl::models {

config::EnumNames<Activation> enum_names(Activation) { return {{Activation::kGelu, "gelu"}, {Activation::kQuickGelu, "quick_gelu"}}; }

Mlp::Mlp(std::int64_t width, std::int64_t mlp_width, Activation activation) : activation_(activation) {
  widen_ = register_module("fc1", Linear(width, mlp_width));
  narrow_ = register_module("fc2", Linear(mlp_width, width));
}

Tensor Mlp::forward(const Tensor& tokens) {
  if (activation_ == Activation::kGelu) return narrow_(exact_gelu(widen_(tokens)));
  // x * sigmoid(1.702 x) is SiLU of 1.702 x, over 1.702: the products scale on their way, and one kernel each way remains.
  constexpr double kSteepness = 1.702;
  const Tensor wide = at::addmm(widen_->bias, tokens.flatten(0, -2), widen_->weight.t(), kSteepness, kSteepness);
  return at::addmm(narrow_->bias, at::silu(wide), narrow_->weight.t(), 1, 1 / kSteepness).view(tokens.sizes());
}

Tensor run_block(bool checkpointed, const std::shared_ptr<TransformerBlock>& block, const Tensor& tokens, const Tensor& mask, Dropout& dropout) {
  std::vector<Tensor> inputs{tokens};
  if (mask.defined()) inputs.push_back(mask);  // a bias that all blocks share is learned
  return recompute(checkpointed, block, inputs, dropout, [block](const std::vector<Tensor>& in, Dropout& drops) { return block->forward(in[0], in.size() > 1 ? in[1] : Tensor(), drops); });
}

VitBlock::VitBlock(std::int64_t width, std::int64_t heads, std::int64_t mlp_width, Activation activation) : heads_(heads) {
  const auto attention = register_module("self_attn", std::make_shared<torch::nn::Module>());
  key_ = attention->register_module("k_proj", Linear(width, width));
  value_ = attention->register_module("v_proj", Linear(width, width));
  query_ = attention->register_module("q_proj", Linear(width, width));
  out_ = attention->register_module("out_proj", Linear(width, width));
  norm1_ = register_module("layer_norm1", layer_norm(width, kVitNormEps));
  mlp_ = register_module("mlp", std::make_shared<Mlp>(width, mlp_width, activation));
  norm2_ = register_module("layer_norm2", layer_norm(width, kVitNormEps));
}

Tensor VitBlock::forward(const Tensor& tokens, const Tensor& mask, Dropout&) {
  const Tensor normed = norm1_(tokens);
  const Tensor mixed = tokens + out_(attend(query_(normed), key_(normed), value_(normed), heads_, mask));
  return mixed + mlp_->forward(norm2_(mixed));
}

QkvBlock::QkvBlock(const QkvBlockOptions& options) : options_(options) {
  norm1_ = register_module("norm1", layer_norm(options.width, options.norm_eps));
  const auto attention = register_module("attn", std::make_shared<torch::nn::Module>());
  qkv_ = attention->register_module("qkv", Linear(options.width, 3 * options.width));
  out_ = attention->register_module("proj", Linear(options.width, options.width));
  norm2_ = register_module("norm2", layer_norm(options.width, options.norm_eps));
  mlp_ = register_module("mlp", std::make_shared<Mlp>(options.width, options.mlp_width, Activation::kGelu));
}

Tensor QkvBlock::forward(const Tensor& tokens, const Tensor& mask, Dropout& dropout) {
  const Tensor mixed = dropout.add_branch(tokens, options_.drop_path, [&](const Tensor& stream, const Dropout::Rows& rows) {
    const std::vector<Tensor> query_key_value = qkv_(norm1_(stream)).unflatten(2, {3, options_.width}).unbind(2);
    return out_(attend(query_key_value[0], query_key_value[1], query_key_value[2], options_.heads, rows.of(mask)));
  });
  return dropout.add_branch(mixed, options_.drop_path, [&](const Tensor& stream, const Dropout::Rows&) { return mlp_->forward(norm2_(stream)); });
}

double path_probability(double last, std::int64_t index, std::int64_t count) { return count > 1 ? last * static_cast<double>(index) / static_cast<double>(count - 1) : 0.0; }

double patch_embed_flops(std::int64_t grid, std::int64_t width, std::int64_t patch_size) { return 2.0 * static_cast<double>(grid * grid * width * 3 * patch_size * patch_size); }

double vit_block_flops(std::int64_t tokens, std::int64_t width, std::int64_t mlp_width) {
  const double n = static_cast<double>(tokens), d = static_cast<double>(width), m = static_cast<double>(mlp_width);
  return 2 * n * (4 * d * d + 2 * d * m) + 4 * n * n * d;
}

}  // namespace fgvl::models
