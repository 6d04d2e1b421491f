#include "fgvl/models/swin.hpp"

#include <array>
#include <cmath>
#include <numeric>

#include <torch/torch.h>

#include "fgvl/core/initialize.hpp"
#include "models/recompute.hpp"
#include "models/region_tokens.hpp"
#include "models/swin_block.hpp"

namespace fgvl::models {
namespace {

constexpr double kBiasStd = 0.02;
constexpr const char* kBiasTable = "relative_position_bias_table";

/// Blocks whose windows lie alike share one mask.
class StageMask {
 public:
  explicit StageMask(const WindowGrid& grid) : mask_(window_mask(grid)) {}
  const Tensor& on(at::Device device) {
    if (mask_.defined() && mask_.device() != device) mask_ = mask_.to(device);
    return mask_;
  }

 private:
  Tensor mask_;
};

std::int64_t stage_side(const SwinOptions& options, std::size_t stage) { return options.image_size / options.patch_size >> stage; }

WindowGrid block_grid(const SwinOptions& options, std::size_t stage, std::int64_t block) { return make_window_grid(stage_side(options, stage), options.window, block % 2 == 1); }

class SwinStage final : public torch::nn::Module {
 public:
  /// `first`: blocks of earlier stages, of `total`.
  SwinStage(const SwinOptions& options, std::size_t stage, std::int64_t first, std::int64_t total)
      : masks_{StageMask(block_grid(options, stage, 0)), StageMask(block_grid(options, stage, 1))} {
    const std::int64_t width = options.width << stage;
    const auto blocks = register_module("blocks", torch::nn::ModuleList());
    for (std::int64_t i = 0; i < options.depths[stage]; ++i) {
      const SwinBlockOptions block{width, options.heads[stage], options.mlp_ratio * width, block_grid(options, stage, i), path_probability(options.drop_path, first + i, total)};
      blocks_.push_back(std::make_shared<SwinBlock>(block));
      blocks->push_back(blocks_.back());
      flops_ += swin_block_flops(block);
    }
    if (stage + 1 < options.depths.size()) {
      merging_ = register_module("downsample", std::make_shared<PatchMerging>(width));
      flops_ += 4.0 * static_cast<double>(stage_side(options, stage) * stage_side(options, stage) * width * width);
    }
  }

  Tensor forward(Tensor map, bool checkpointed, Dropout& dropout) {
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
      map = recompute(checkpointed, blocks_[i], {map}, dropout, [block = blocks_[i], mask = masks_[i % 2].on(map.device())](const std::vector<Tensor>& in, Dropout& drops) { return block->forward(in[0], mask, drops); });
    }
    return merging_ ? merging_->forward(map) : map;
  }

  double flops() const { return flops_; }

 private:
  std::array<StageMask, 2> masks_;  ///< of even and of odd blocks
  std::vector<std::shared_ptr<SwinBlock>> blocks_;
  std::shared_ptr<PatchMerging> merging_;
  double flops_ = 0;
};

std::string problem_of(const SwinOptions& options) {
  const std::size_t stages = options.depths.size();
  if (stages == 0 || options.heads.size() != stages) return mismatch("heads", "one number a stage of depths, that is " + std::to_string(stages), static_cast<std::int64_t>(options.heads.size()));
  const std::int64_t stride = options.patch_size << (stages - 1);
  if (stride <= 0 || options.image_size <= 0 || options.image_size % stride != 0) {
    return mismatch("image_size", "a multiple of patch_size * 2^(stages - 1) = " + std::to_string(stride), options.image_size);
  }
  if (options.window <= 0) return mismatch("window", "a positive number", options.window);
  for (std::size_t i = 0; i < stages; ++i) {
    const std::string stage = std::to_string(i);
    if (options.depths[i] <= 0) return mismatch("depths", "a positive number in stage " + stage, options.depths[i]);
    if (options.heads[i] <= 0 || (options.width << i) % options.heads[i] != 0) {
      return mismatch("heads", "a divisor of the width " + std::to_string(options.width << i) + " of stage " + stage, options.heads[i]);
    }
  }
  return "";
}

class Swin final : public VisionEncoder {
 public:
  explicit Swin(const SwinOptions& options) : options_(options) {
    check_sizes("SwinOptions", problem_of(options));
    const auto patch_embed = register_module("patch_embed", std::make_shared<torch::nn::Module>());
    patch_proj_ = patch_embed->register_module("proj", torch::nn::Conv2d(torch::nn::Conv2dOptions(3, options.width, options.patch_size).stride(options.patch_size)));
    patch_norm_ = patch_embed->register_module("norm", layer_norm(options.width, kSwinNormEps));
    const auto layers = register_module("layers", torch::nn::ModuleList());
    const std::int64_t total = std::accumulate(options.depths.begin(), options.depths.end(), std::int64_t{0});
    std::int64_t first = 0;
    for (std::size_t i = 0; i < options.depths.size(); ++i) {
      stages_.push_back(std::make_shared<SwinStage>(options, i, first, total));
      layers->push_back(stages_.back());
      first += options.depths[i];
    }
    norm_ = register_module("norm", layer_norm(width(), kSwinNormEps));
  }

  std::int64_t width() const override { return options_.width << (options_.depths.size() - 1); }
  std::int64_t image_size() const override { return options_.image_size; }
  std::int64_t grid() const override { return stage_side(options_, options_.depths.size() - 1); }

  VisualTokens encode(const Tensor& images, const RegionRows& rows, Dropout& dropout) override {
    Tensor map = patch_norm_(patch_proj_(images).permute({0, 2, 3, 1}));
    for (const auto& stage : stages_) map = stage->forward(map, gradient_checkpointing(), dropout);
    return pooled_regions(norm_(map).flatten(1, 2), rows);
  }

  void initialize_embeddings(std::uint64_t seed) override {
    for (auto& parameter : named_parameters()) {
      if (parameter.key().find(kBiasTable) == std::string::npos) continue;
      draw_normal(parameter.value(), seed, "swin." + parameter.key(), kBiasStd);
    }
  }

  double flops_per_image() const override {
    double flops = patch_embed_flops(stage_side(options_, 0), options_.width, options_.patch_size);
    for (const auto& stage : stages_) flops += stage->flops();
    return flops;
  }

 private:
  SwinOptions options_;
  torch::nn::Conv2d patch_proj_{nullptr};
  torch::nn::LayerNorm patch_norm_{nullptr}, norm_{nullptr};
  std::vector<std::shared_ptr<SwinStage>> stages_;
};

}  // namespace

void visit_fields(config::Visitor& visitor, SwinOptions& options) {
  visitor("image_size", options.image_size, "pixels a side; a multiple of patch_size * 2^(stages - 1)", {8, 4096});
  visitor("patch_size", options.patch_size, "pixels a side of one patch of the first stage", {1, 256});
  visitor("width", options.width, "of the first stage's tokens; doubles with every stage", {1, 8192});
  visitor("depths", options.depths, "blocks a stage", {1, 256});
  visitor("heads", options.heads, "of attention, a stage", {1, 256});
  visitor("window", options.window, "tokens a side of a window", {1, 256});
  visitor("mlp_ratio", options.mlp_ratio, "width of the MLP in units of width", {1, 64});
  visitor("drop_path", options.drop_path, "probability that an image skips the last block in training; rises linearly from 0 at the first", {0.0, 0.9});
  check_sizes(visitor, problem_of(options));
}

VisionEncoderPtr make_vision_encoder(const SwinOptions& options) { return std::make_shared<Swin>(options); }

std::vector<std::pair<std::string, Tensor>> derived_tensors(const SwinOptions& options) {
  check_sizes("SwinOptions", problem_of(options));
  std::vector<std::pair<std::string, Tensor>> derived;
  for (std::size_t stage = 0; stage < options.depths.size(); ++stage) {
    for (std::int64_t block = 0; block < options.depths[stage]; ++block) {
      const std::string name = "layers." + std::to_string(stage) + ".blocks." + std::to_string(block) + ".";
      const WindowGrid grid = block_grid(options, stage, block);
      if (grid.shift > 0) derived.emplace_back(name + "attn_mask", window_mask(grid));
      derived.emplace_back(name + "attn.relative_position_index", relative_position_index(grid.window));
    }
  }
  return derived;
}

}  // namespace fgvl::models
