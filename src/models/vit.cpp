#include "fgvl/models/vit.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include <torch/torch.h>

#include "fgvl/core/initialize.hpp"
#include "models/region_tokens.hpp"
#include "models/vit_blocks.hpp"

namespace fgvl::models {
namespace {

constexpr double kLearnedPositionStd = 0.02;
constexpr double kOctaves = 5;  // sine-cosine frequencies run from pi to 2^5 pi over the image side

/// [1, grid^2, width] fixed 2-D sine-cosine positions: a quarter of the channels each for sin x, cos x, sin y, cos y at cell centres.
Tensor sincos_positions(std::int64_t grid, std::int64_t width, double amplitude) {
  const std::int64_t quarter = width / 4;
  const Tensor centre = (at::arange(grid, at::kDouble) + 0.5) / static_cast<double>(grid);
  const Tensor frequency = at::pow(2.0, at::arange(quarter, at::kDouble) * (kOctaves / static_cast<double>(quarter))) * std::numbers::pi;
  const Tensor angle = centre.unsqueeze(1) * frequency.unsqueeze(0);
  const Tensor axis = at::cat({angle.sin(), angle.cos()}, 1);  // [grid, width / 2]
  const Tensor x = axis.unsqueeze(0).expand({grid, grid, -1}), y = axis.unsqueeze(1).expand({grid, grid, -1});
  return (at::cat({x, y}, 2).reshape({1, grid * grid, width}) * amplitude).to(at::kFloat);
}

/// Of a conv stem, each of which halves the image.
std::int64_t convolutions(const VitOptions& options) { return std::lround(std::log2(static_cast<double>(options.patch_size))); }

std::string problem_of(const VitOptions& options) {
  if (const std::string problem = size_problem(options); !problem.empty()) return problem;
  if (options.width % 4 != 0) return mismatch("width", "a multiple of 4", options.width);
  if (options.stem != Stem::kConv) return "";
  const std::int64_t count = convolutions(options), channels = static_cast<std::int64_t>(options.stem_channels.size());
  if (count < 1 || (std::int64_t{1} << count) != options.patch_size) return mismatch("patch_size", "a power of two above 1, as a conv stem needs", options.patch_size);
  if (channels != 0 && channels != count - 1) return mismatch("stem_channels", std::to_string(count - 1) + " numbers for a patch of " + std::to_string(options.patch_size), channels);
  return "";
}

class Vit final : public VisionEncoder {
 public:
  explicit Vit(const VitOptions& options) : options_(options), grid_(options.image_size / options.patch_size) {
    check_sizes("VitOptions", problem_of(options));
    stem_ = register_module("stem", options.stem == Stem::kConv ? conv_stem() : linear_stem());
    if (options.position == PositionEmbedding::kSincos) {
      position_ = register_buffer("pos_embed", sincos_positions(grid_, options.width, options.position_amplitude));
    } else {
      position_ = register_parameter("pos_embed", torch::zeros({1, grid_ * grid_, options.width}));
    }
    const auto layers = register_module("layers", torch::nn::ModuleList());
    for (std::int64_t i = 0; i < options.layers; ++i) {
      blocks_.push_back(std::make_shared<VitBlock>(options.width, options.heads, options.mlp_ratio * options.width, Activation::kGelu));
      layers->push_back(blocks_.back());
    }
    norm_ = register_module("norm", layer_norm(options.width, kVitNormEps));
  }

  std::int64_t width() const override { return options_.width; }
  std::int64_t image_size() const override { return options_.image_size; }
  std::int64_t grid() const override { return grid_; }

  VisualTokens encode(const Tensor& images, const RegionRows& rows, Dropout& dropout) override {
    // Channels last: convolutions and norms over channels are faster that way, and the patches come out as rows.
    Tensor tokens = stem_->forward(images.contiguous(at::MemoryFormat::ChannelsLast)).flatten(2).transpose(1, 2) + position_;
    for (const auto& block : blocks_) tokens = run_block(gradient_checkpointing(), block, tokens, {}, dropout);
    tokens = norm_(tokens);
    const Tensor pooled = tokens.mean(1, /*keepdim=*/true);
    // [CLS] is pooled over the whole image, so that a region must not see it.
    const Tensor mask = at::cat({rows.is_region.logical_not().unsqueeze(1), rows.patch_mask}, 1);
    return {at::cat({pooled, tokens}, 1), rows.text_to_image, region_means(tokens, rows), mask};
  }

  void initialize_embeddings(std::uint64_t seed) override {
    if (options_.position == PositionEmbedding::kLearned) draw_normal(position_, seed, "vit.pos_embed", kLearnedPositionStd);
  }

  double flops_per_image() const override {
    const std::int64_t tokens = grid_ * grid_;
    return stem_flops_ + static_cast<double>(options_.layers) * vit_block_flops(tokens, options_.width, options_.mlp_ratio * options_.width);
  }

 private:
  torch::nn::Sequential linear_stem() {
    stem_flops_ = patch_embed_flops(grid_, options_.width, options_.patch_size);
    return torch::nn::Sequential(torch::nn::Conv2d(torch::nn::Conv2dOptions(3, options_.width, options_.patch_size).stride(options_.patch_size)));
  }

  torch::nn::Sequential conv_stem() {
    const std::int64_t count = convolutions(options_);
    std::vector<std::int64_t> channels = options_.stem_channels;
    if (channels.empty()) channels.assign(static_cast<std::size_t>(count - 1), 0);
    for (std::int64_t i = 0; i < count - 1; ++i) {
      if (channels[static_cast<std::size_t>(i)] == 0) channels[static_cast<std::size_t>(i)] = std::max<std::int64_t>(8, options_.width >> (count - 1 - i));
    }
    channels.push_back(options_.width);
    torch::nn::Sequential stem;
    std::int64_t inputs = 3, side = options_.image_size;
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t outputs = channels[static_cast<std::size_t>(i)];
      stem->push_back(torch::nn::Conv2d(torch::nn::Conv2dOptions(inputs, outputs, 3).stride(2).padding(1)));
      if (i + 1 < count) {
        stem->push_back(torch::nn::BatchNorm2d(outputs));
        stem->push_back(torch::nn::GELU());
      }
      side /= 2;
      stem_flops_ += 2.0 * static_cast<double>(side * side * outputs * inputs * 9);
      inputs = outputs;
    }
    return stem;
  }

  VitOptions options_;
  std::int64_t grid_;
  double stem_flops_ = 0;  ///< of one image
  torch::nn::Sequential stem_{nullptr};
  Tensor position_;
  TransformerBlocks blocks_;
  torch::nn::LayerNorm norm_{nullptr};
};

}  // namespace

config::EnumNames<Stem> enum_names(Stem) { return {{Stem::kLinear, "linear"}, {Stem::kConv, "conv"}}; }
config::EnumNames<PositionEmbedding> enum_names(PositionEmbedding) { return {{PositionEmbedding::kSincos, "sincos"}, {PositionEmbedding::kLearned, "learned"}}; }

void visit_fields(config::Visitor& visitor, VitOptions& options) {
  visitor("image_size", options.image_size, "pixels a side", {8, 4096});
  visitor("patch_size", options.patch_size, "pixels a side of one patch", {1, 256});
  visitor("width", options.width, "of the tokens", {4, 8192});
  visitor("layers", options.layers, "transformer blocks", {0, 256});
  visitor("heads", options.heads, "of attention", {1, 256});
  visitor("mlp_ratio", options.mlp_ratio, "width of the MLP in units of width", {1, 64});
  visitor("stem", options.stem, "how pixels become patches: one linear map, or convolutions");
  visitor("stem_channels", options.stem_channels, "of the convolutions but the last; empty: halves of width", {1, 8192});
  visitor("position", options.position, "fixed sine-cosine, or learned");
  visitor("position_amplitude", options.position_amplitude, "of the sine-cosine embedding", config::kNonNegative);
  check_sizes(visitor, problem_of(options));
}

VisionEncoderPtr make_vision_encoder(const VitOptions& options) { return std::make_shared<Vit>(options); }

}  // namespace fgvl::models
