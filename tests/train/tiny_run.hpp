#pragma once
#include <filesystem>
#include <string>

#include "fgvl/core/config.hpp"
#include "fgvl/train/trainer.hpp"

namespace fgvl::test {

/// A run of a few seconds: two mixed streams, two workers, dropout, accumulation.
inline constexpr char kTinyRun[] = R"(
seed: 5
device: cpu
threads: 1
model:
  embed_dim: 8
  vision: {type: vit, options: {image_size: 32, patch_size: 8, width: 16, layers: 1, heads: 2, mlp_ratio: 2, stem: conv}}
  text: {type: bert, options: {width: 16, layers: 1, heads: 2, mlp_width: 32, max_tokens: 40, dropout: 0.1}}
  fusion: {type: bert, options: {layers: 1, heads: 2, mlp_width: 32, dropout: 0.1}}
losses:
  itc: {type: contrastive}
  itm: {type: matching, options: {temperature: itc}}
  mlm: {type: masked_language}
  box: {type: box_regression}
data:
  dataset: {type: synthetic, options: {scenes: 40}}
  image: {size: 32}
  batch_size: 4
  workers: 2
  streams:
    captions: {max_regions: 0}
    regions: {weight: 2, captions_per_image: 0, max_regions: 2, augment: {min_crop_side: 0.8}}
train: {steps: 30, accumulate: 2, log_every: 1, checkpoint_every: 4, keep_checkpoints: 2}
)";

inline train::RunConfig tiny_run(const std::vector<std::string>& overrides = {}) {
  auto document = config::Document::parse(kTinyRun, "tiny.yaml").value();
  const absl::Status status = document.override_with(overrides);
  if (!status.ok()) throw std::runtime_error(std::string(status.message()));
  auto config = config::read(document, train::RunConfig(train::RunRegistries()));
  if (!config.ok()) throw std::runtime_error(std::string(config.status().message()));
  return *config;
}

inline std::string fresh_run(const std::string& name) {
  const auto path = std::filesystem::temp_directory_path() / ("fgvl_run_" + name);
  std::filesystem::remove_all(path);
  return path.string();
}

}  // namespace fgvl::test
