#pragma once
#include <csignal>
#include <filesystem>
#include <string>

#include "fgvl/core/config.hpp"
#include "fgvl/train/trainer.hpp"
#include "support/folders.hpp"

namespace fgvl::test {

/// A run of a few seconds: two mixed streams, two workers, dropout, accumulation, a probe.
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
  bomb: {type: bomb}
data:
  dataset: {type: synthetic, options: {scenes: 40}}
  image: {size: 32}
  batch_size: 4
  workers: 2
  streams:
    captions: {max_regions: 0}
    regions: {weight: 2, captions_per_image: 0, max_regions: 2, augment: {min_crop_side: 0.8}}
train: {steps: 30, accumulate: 2, log_every: 1, checkpoint_every: 4, keep_checkpoints: 2}
probe_every: 5
probes: {norm: {type: norm}}
)";

/// Scores the weights themselves: a number that any difference of state shows.
struct NormProbeOptions {};
inline void visit_fields(config::Visitor&, NormProbeOptions&) {}
class NormProbe final : public train::Probe {
 public:
  absl::StatusOr<train::Metrics> run(const train::ProbeInput& input) override {
    double sum = 0;
    for (const Tensor& parameter : input.model.parameters()) sum += parameter.square().sum().item<double>();
    return train::Metrics{{"norm", sum}};
  }
};

/// A term without a loss that ends the process when it is asked the `kill_at_forward`-th time: in the middle of a step, where that is not its last batch.
struct BombOptions {};
inline void visit_fields(config::Visitor&, BombOptions&) {}
inline std::int64_t kill_at_forward = -1;
class BombTerm final : public losses::LossTerm {
 public:
  losses::Loss forward(ForwardPass&) override {
    if (++forwards_ == kill_at_forward) std::raise(SIGKILL);
    return {};
  }

 private:
  std::int64_t forwards_ = 0;
};

inline train::RunRegistries tiny_registries() {
  train::RunRegistries all;
  all.probes->add("norm", [](const NormProbeOptions&, const train::ProbeContext&) -> absl::StatusOr<train::ProbePtr> { return std::make_shared<NormProbe>(); }, NormProbeOptions{});
  all.terms->add("bomb", [](const BombOptions&, const FeatureSpec&) -> losses::LossTermPtr { return std::make_shared<BombTerm>(); }, BombOptions{});
  return all;
}

inline train::RunConfig tiny_run(const std::vector<std::string>& overrides = {}) {
  auto document = config::Document::parse(kTinyRun, "tiny.yaml").value();
  const absl::Status status = document.override_with(overrides);
  if (!status.ok()) throw std::runtime_error(std::string(status.message()));
  auto config = config::read(document, train::RunConfig(tiny_registries()));
  if (!config.ok()) throw std::runtime_error(std::string(config.status().message()));
  return *config;
}

/// A path for a run's folder, with nothing there.
inline std::string fresh_run(const std::string& name) { return fresh_path("run_" + name).string(); }

}  // namespace fgvl::test
