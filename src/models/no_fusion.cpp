#include "fgvl/models/fusion_encoder.hpp"

namespace fgvl::models {
namespace {

class NoFusion final : public FusionEncoder {
 public:
  std::int64_t width() const override { return 0; }
  ProjectedVisuals project(const Tensor&) override { refuse(); }
  Tensor prepare(const Tensor&, const Tensor&, Dropout&) override { refuse(); }
  Tensor fuse(const FusionPairs&, const ProjectedVisuals&, Dropout&) override { refuse(); }
  double flops_per_pair(std::int64_t, std::int64_t) const override { return 0; }
  double flops_per_sequence(std::int64_t) const override { return 0; }

 private:
  [[noreturn]] static void refuse() { TORCH_CHECK(false, "[FusionEncoder] this model has no fusion encoder (model.fusion.type is none): it has features of pictures and texts, and no fused tokens"); }
};

}  // namespace

void visit_fields(config::Visitor&, NoFusionOptions&) {}

FusionEncoderPtr make_fusion_encoder(const NoFusionOptions&, const FusionContext&) { return std::make_shared<NoFusion>(); }

}  // namespace fgvl::models
