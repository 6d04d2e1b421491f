#include "fgvl/losses/rows.hpp"

#include <torch/torch.h>

namespace fgvl::losses {

config::EnumNames<Rows> enum_names(Rows) { return {{Rows::kAll, "all"}, {Rows::kImage, "image"}, {Rows::kRegion, "region"}}; }

Tensor rows_condition(const RegionBatch& batch, Rows rows, const Tensor& condition) {
  if (rows == Rows::kAll) return condition;
  const Tensor meant = rows == Rows::kRegion ? batch.is_region : batch.is_region.logical_not();
  return condition.defined() ? condition.logical_and(meant) : meant;
}

}  // namespace fgvl::losses
