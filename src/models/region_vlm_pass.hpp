#pragma once
#include <torch/torch.h>

#include "core/mlp_head.hpp"

#include "fgvl/models/region_vlm.hpp"

namespace fgvl::models {

constexpr double kHeadNormEps = 1e-5;

class RegionVlm final : public Model {
 public:
  RegionVlm(RegionVlmParts parts, const RegionVlmOptions& options, std::uint64_t seed);
  FeatureSpec spec() const override;
  std::unique_ptr<ForwardPass> begin(const RegionBatch& batch, const PassOptions& options) override;

  VisionEncoderPtr vision;
  TextEncoderPtr text;
  FusionEncoderPtr fusion;
  Linear vision_proj{nullptr}, text_proj{nullptr};
  std::shared_ptr<MlpHead> bbox_head;  ///< null without fusion

 private:
  RegionVlmOptions options_;
  std::uint64_t seed_;
};

std::unique_ptr<ForwardPass> make_pass(RegionVlm& model, const RegionBatch& batch, const PassOptions& options);

}  // namespace fgvl::models
