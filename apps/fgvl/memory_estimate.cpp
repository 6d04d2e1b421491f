#include "memory_estimate.hpp"

#include <algorithm>
#include <cmath>

#include <absl/strings/match.h>
#include <torch/torch.h>

#include "fgvl/models/region_vlm.hpp"

namespace fgvl::app {
namespace {

constexpr double kNumber = 4;  // bytes

/// Most texts that one image brings, over the streams.
std::int64_t texts_per_image(const data::DataConfig& data) {
  if (data.streams.empty()) {
    const data::SampleOptions sample;
    return sample.captions_per_image + sample.max_regions;
  }
  std::int64_t most = 1;
  for (const auto& [name, stream] : data.streams) most = std::max(most, stream.sample.captions_per_image + stream.sample.max_regions);
  return most;
}

/// Output positions of the convolutions of one image, of which each shrinks the picture by its stride.
double convolution_numbers(const torch::nn::Module& vision, std::int64_t image_size) {
  double numbers = 0, side = static_cast<double>(image_size);
  for (const auto& module : vision.modules(/*include_self=*/false)) {
    const auto* convolution = module->as<torch::nn::Conv2dImpl>();
    if (convolution == nullptr) continue;
    const double before = side * side;
    side = std::ceil(side / static_cast<double>((*convolution->options.stride())[0]));
    numbers += before * static_cast<double>(convolution->options.in_channels()) + side * side * static_cast<double>(convolution->options.out_channels());
  }
  return numbers;
}

}  // namespace

MemoryEstimate estimate_memory(const train::RunConfig& config, const models::Model& model, const losses::Criterion& criterion) {
  const auto has = [&](const char* type) { return std::any_of(config.losses.begin(), config.losses.end(), [&](const auto& loss) { return loss.second.term.type() == type; }); };
  const bool masked = has("masked_language"), matching = has("matching"), foils = has("foil_matching");
  MemoryEstimate estimate;
  estimate.images = config.data.loader.batch_size;
  estimate.texts = estimate.images * texts_per_image(config.data);
  const models::ModelInfo info = models::describe(model, 1);
  const double images = static_cast<double>(estimate.images), tokens = static_cast<double>(estimate.texts * config.data.tokenizer.max_tokens);
  const double visual_rows = images * static_cast<double>(info.visual_tokens), text_rows = tokens * (1 + (masked ? 1 : 0) + (foils ? 1 : 0));
  const double fused_rows = tokens * ((matching || foils || has("box_regression") ? 1 : 0) + (matching ? 2 : 0) + (masked ? 1 : 0) + (foils ? 1 : 0));
  double numbers = 0;
  for (const torch::nn::Module* module : std::initializer_list<const torch::nn::Module*>{&model, &criterion}) {
    // Momentum copies have no gradient and no moments; queues are buffers.
    for (const Tensor& parameter : module->parameters()) estimate.state += (parameter.requires_grad() ? 4 : 1) * kNumber * static_cast<double>(parameter.numel());
    for (const Tensor& buffer : module->buffers()) estimate.state += static_cast<double>(buffer.nbytes());
  }
  for (const auto& child : model.named_children()) {
    if (child.key() == "vision_encoder") numbers += images * convolution_numbers(*child.value(), info.image_size);
    for (const auto& module : child.value()->named_modules()) {
      const auto* linear = module.value()->as<torch::nn::LinearImpl>();
      if (linear == nullptr) continue;
      const bool of_visual = absl::StrContains(module.key(), "crossattention.self.key") || absl::StrContains(module.key(), "crossattention.self.value");
      double rows = 0;  // heads and projections see one vector a text or image: too few to count
      if (child.key() == "vision_encoder") rows = visual_rows;
      if (child.key() == "text_encoder") rows = text_rows;
      if (child.key() == "fusion_encoder") rows = of_visual ? visual_rows : fused_rows;
      numbers += rows * static_cast<double>(linear->options.in_features() + linear->options.out_features());
    }
  }
  estimate.activations = kNumber * numbers;
  return estimate;
}

}  // namespace fgvl::app
