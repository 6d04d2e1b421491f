#pragma once
#include "fgvl/core/batch.hpp"
#include "fgvl/core/config_visitor.hpp"

namespace fgvl::losses {

/// Which texts of a batch a term uses: all, those about whole images, those about regions. One term over image rows and another over region rows are X-VLM's two objectives (ITC, ITM and MLM on pictures, and
/// the same on visually masked regions), each with a weight of its own.
enum class Rows { kAll, kImage, kRegion };
config::EnumNames<Rows> enum_names(Rows);

/// [T] bool: the texts that `rows` means and for which `condition` [T] bool holds (undefined: all). Undefined where that is every text.
Tensor rows_condition(const RegionBatch& batch, Rows rows, const Tensor& condition = {});

}  // namespace fgvl::losses
