#pragma once
#include <memory>

#include "fgvl/core/registry.hpp"
#include "fgvl/core/status.hpp"
#include "fgvl/data/data_config.hpp"
#include "fgvl/losses/criterion.hpp"
#include "fgvl/models/model.hpp"
#include "fgvl/train/metrics.hpp"

namespace fgvl::train {

/// A model as it stands.
struct ProbeInput {
  models::Model& model;
  losses::Criterion& criterion;
  at::Device device;
};

/// Scores one thing that a model should have learned, without changing it.
class Probe {
 public:
  virtual ~Probe() = default;
  virtual absl::StatusOr<Metrics> run(const ProbeInput& input) = 0;
};
using ProbePtr = std::shared_ptr<Probe>;

/// What a probe may use of the run.
struct ProbeContext {
  std::shared_ptr<const data::DataConfig> data;
  data::Split split = data::Split::kHeldOut;  ///< which part of the data is scored
  data::TextPipelinePtr texts;
};
using ProbeRegistry = Registry<absl::StatusOr<ProbePtr>, ProbeContext>;

}  // namespace fgvl::train
