#pragma once
#include <cstdint>
#include <memory>

#include "fgvl/core/tensor.hpp"

namespace fgvl {

/// What ranks tell one another. Every call is collective: all ranks make the same calls in the same order.
/// Means over ranks are made from sums and counts, because ranks have different numbers of rows.
class Collective {
 public:
  virtual ~Collective() = default;
  virtual std::int64_t rank() const = 0;
  virtual std::int64_t size() const = 0;

  /// Element-wise sum over ranks, the same shape everywhere. Carries no gradient: for counts, logged sums and statistics.
  virtual Tensor all_reduce_sum(const Tensor& value) = 0;
  /// Rows of all ranks one after the other, [N_0 + ... + N_W-1, ...]; ranks may hold different numbers of rows.
  /// The gradient is exact: each rank receives the sum over ranks of the gradient of its own rows.
  virtual Tensor all_gather_rows(const Tensor& rows) = 0;
  /// Rank 0's value on every rank.
  virtual Tensor broadcast(const Tensor& value) = 0;
  virtual void barrier() = 0;
};
using CollectivePtr = std::shared_ptr<Collective>;

/// One process: sums and gathers are the identity.
CollectivePtr make_single_process();

}  // namespace fgvl
