#pragma once
#include <torch/torch.h>

#include "core/mlp_head.hpp"

#include "fgvl/models/region_vlm.hpp"

namespace fgvl::models {

constexpr double kHeadNormEps = 1e-5;

class RegionVlm final : public Model {
 public:
  RegionVlm(RegionVlmParts parts, const RegionVlmOptions& options, std::uint64_t seed, RegionVlmParts copies = {});
  FeatureSpec spec() const override;
  std::unique_ptr<ForwardPass> begin(const RegionBatch& batch, const PassOptions& options) override;
  void update_momentum() override;
  const RegionVlmOptions& options() const { return options_; }

  VisionEncoderPtr vision;
  TextEncoderPtr text;
  FusionEncoderPtr fusion;
  Linear vision_proj{nullptr}, text_proj{nullptr};
  std::shared_ptr<MlpHead> bbox_head;  ///< null without fusion
  std::shared_ptr<RegionVlm> momentum;   ///< the momentum encoders and projections; null: none

 private:
  RegionVlmOptions options_;
  std::uint64_t seed_;
};

/// What a pass is to the model: its own, or that of the momentum encoders beside it.
struct PassRole {
  std::string stages{};  ///< stands before the names of its random streams
  bool dropout = true;   ///< in training
};
std::unique_ptr<ForwardPass> make_pass(RegionVlm& model, const RegionBatch& batch, const PassOptions& options, PassRole role = {});

}  // namespace fgvl::models
