#pragma once
#include <string>

#include "fgvl/losses/criterion.hpp"
#include "fgvl/data/loader.hpp"
#include "fgvl/train/metrics.hpp"
#include "train/event_file.hpp"
#include "train/shares.hpp"

namespace fgvl::train {

/// One logged step.
struct StepLog {
  std::int64_t step = 0, epoch = 0;
  double lr = 0, gradient_norm = 0, seconds = 0, data_seconds = 0, images_per_second = 0;
  std::vector<std::pair<std::string, double>> losses{};  ///< means, only of what was computed
  double total = 0;
};

/// metrics.jsonl, events.* and skipped.jsonl of a run's folder.
class RunLog {
 public:
  /// Lines of later steps than `step` are cut off, so that a resumed run writes what an uninterrupted one would have; so are the start of a stage at `step`, which begins once more, and
  /// what the probes at the end (`steps`) measured, because they run again.
  static absl::StatusOr<RunLog> open(const std::string& folder, std::int64_t step, std::int64_t steps);
  absl::Status step(const StepLog& log);
  /// A stage begins after `step` steps.
  absl::Status stage(std::int64_t step, const std::string& name);
  /// What each term makes of the gradient of step `step`; see GradientShare.
  absl::Status shares(std::int64_t step, const std::vector<GradientShare>& shares);
  absl::Status probe(std::int64_t step, const Metrics& metrics);
  absl::Status skipped(std::int64_t step, const std::vector<data::Skipped>& skipped);

 private:
  RunLog(std::string folder, EventFile events) : folder_(std::move(folder)), events_(std::move(events)) {}
  std::string folder_;
  EventFile events_;
};

}  // namespace fgvl::train
