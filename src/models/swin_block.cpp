#include "models/swin_block.hpp"

#include "models/attention.hpp"

namespace fgvl::models {
SwinBlock::SwinBlock(const SwinBlockOptions& options) : options_(options) {
  const std::int64_t offsets = 2 * options.grid.window - 1;
  norm1_ = register_module("norm1", layer_norm(options.width, kSwinNormEps));
  const auto attention = register_module("attn", std::make_shared<torch::nn::Module>());
  bias_table_ = attention->register_parameter("relative_position_bias_table", torch::zeros({offsets * offsets, options.heads}));
  qkv_ = attention->register_module("qkv", Linear(options.width, 3 * options.width));
  out_ = attention->register_module("proj", Linear(options.width, options.width));
  norm2_ = register_module("norm2", layer_norm(options.width, kSwinNormEps));
  mlp_ = register_module("mlp", std::make_shared<Mlp>(options.width, options.mlp_width, Activation::kGelu));
}

Tensor SwinBlock::forward(const Tensor& map, const Tensor& mask, Dropout& dropout) {
  const Tensor mixed = dropout.add_branch(map, options_.drop_path, [&](const Tensor& stream, const Dropout::Rows&) { return attend_in_windows(norm1_(stream), mask); });
  return dropout.add_branch(mixed, options_.drop_path, [&](const Tensor& stream, const Dropout::Rows&) { return mlp_->forward(norm2_(stream)); });
}

Tensor SwinBlock::attend_in_windows(const Tensor& map, const Tensor& mask) {
  const WindowGrid& grid = options_.grid;
  const std::vector<Tensor> windows = to_windows(qkv_(fill_and_roll(map, grid)), grid, options_.heads);  // queries, keys, values
  Tensor bias = relative_position_bias(bias_table_, grid.window);
  // A mask differs between windows and repeats over images: windows then count as heads, so that it is broadcast and not copied for every image.
  // Without one the bias is the same in every window, which then count as images.
  const bool masked = mask.defined();
  if (masked) bias = (mask.unsqueeze(1) + bias).flatten(0, 1);
  const auto shaped = [&](std::size_t which) { return masked ? windows[which].flatten(1, 2) : windows[which].flatten(0, 1); };
  const Tensor seen = attend_with_bias(shaped(0), shaped(1), shaped(2), bias.unsqueeze(0).to(windows[0].scalar_type()));
  return out_(from_windows(seen.reshape(windows[0].sizes()), grid));
}

PatchMerging::PatchMerging(std::int64_t width) {
  reduction_ = register_module("reduction", Linear(torch::nn::LinearOptions(4 * width, 2 * width).bias(false)));
  norm_ = register_module("norm", layer_norm(4 * width, kSwinNormEps));
}

Tensor PatchMerging::forward(const Tensor& map) {
  const std::int64_t images = map.size(0), half = map.size(1) / 2, width = map.size(3);
  // Channels of the four neighbours (row, column) in the official order (0, 0), (1, 0), (0, 1), (1, 1): column first.
  const Tensor neighbours = map.reshape({images, half, 2, half, 2, width}).permute({0, 1, 3, 4, 2, 5}).reshape({images, half, half, 4 * width});
  return reduction_(norm_(neighbours));
}

double swin_block_flops(const SwinBlockOptions& options) {
  const double window = static_cast<double>(options.grid.tokens()), seen = static_cast<double>(options.grid.windows()) * window;
  const double tokens = static_cast<double>(options.grid.side * options.grid.side), d = static_cast<double>(options.width);
  return 2 * seen * 3 * d * d + 4 * seen * window * d + 2 * tokens * (d * d + 2 * d * static_cast<double>(options.mlp_width));
}

}  // namespace fgvl::models
