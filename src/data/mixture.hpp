#pragma once
#include <cstdint>
#include <vector>

#include "fgvl/core/schedule.hpp"
#include "fgvl/data/loader.hpp"

namespace fgvl::data {

/// How many samples of each stream a batch holds: a pure function of (seed, weights, batch number), whatever was asked before.
class Mixture {
 public:
  /// `weights`: of the streams, over optimizer steps; batch n belongs to step n / batches_per_step.
  Mixture(std::vector<Schedule> weights, const LoaderOptions& options);

  /// Shares of the streams at batch `number`; they sum to 1.
  std::vector<double> shares(std::int64_t number) const;
  std::vector<std::int64_t> quotas(std::int64_t number);

 private:
  std::vector<std::int64_t> quotas_of_rows(std::int64_t number);

  std::vector<Schedule> weights_;
  LoaderOptions options_;
  bool constant_ = true;
  // Note [Rows by changing shares]
  // Where shares never change, the rows of a stream since the start are its part of all rows by Webster's method. Where they change, its part is the sum of its shares so far: the next row goes to the
  // stream with the smallest (rows + 1/2) / sum among those that have a share now. No fraction is lost from batch to batch, and a stream owes nothing for the time it was switched off. Rows and sums follow from
  // batch 0 on, so that nothing of them is in a checkpoint; asked for batches in order, each costs one step of it.
  std::int64_t next_ = 0;  ///< batch that the two stand before
  std::vector<std::int64_t> rows_;
  std::vector<double> sums_;
};

}  // namespace fgvl::data
