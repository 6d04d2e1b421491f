#pragma once
#include <cstdint>

namespace fgvl::losses {

/// A term that may keep features of earlier batches in a queue says so here; a trainer looks that a batch fits in, and programs count its rows.
class QueueOwner {
 public:
  virtual ~QueueOwner() = default;
  /// How many rows the queue holds when it is full; 0: this term has none.
  virtual std::int64_t queue_rows() const = 0;
};

}  // namespace fgvl::losses
