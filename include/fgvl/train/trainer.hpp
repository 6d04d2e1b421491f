#pragma once
#include <atomic>
#include <memory>
#include <string>

#include "fgvl/train/run_config.hpp"

namespace fgvl::train {

/// Hears how a run goes. All calls come from the thread that runs it.
class Progress {
 public:
  struct Step {
    std::int64_t step = 0, steps = 0;
    double images_per_second = 0;
    const losses::LossReport* report = nullptr;  ///< of this step; null on steps that are not logged
  };
  virtual ~Progress() = default;
  virtual void on_step(const Step&) {}
  virtual void on_probe(std::int64_t /*step*/, const Metrics&) {}
  virtual void on_message(const std::string&) {}
};

struct TrainerOptions {
  std::string out;                              ///< the run's folder
  bool resume = false;                          ///< go on from its newest valid checkpoint
  const std::atomic<bool>* stop = nullptr;      ///< set from outside: save and return
  Progress* progress = nullptr;
};

struct TrainResult {
  bool interrupted = false;           ///< stopped from outside, state saved
  std::int64_t step = 0;
  double seconds = 0;                 ///< of training steps, without probes
  double images_per_second = 0;
  Metrics metrics{};                  ///< of the last probes
  data::LoaderCounts counts{};
};

/// One training run in one folder: config.yaml, metrics.jsonl, events.*, skipped.jsonl, checkpoints/step_<n>/.
class Trainer {
 public:
  /// Opens the data, builds the model, and prepares the folder, in this order: whatever is wrong is found before anything is written.
  /// Errors: a folder that exists without `resume` (exit code 2), data (3), checkpoints (4).
  static absl::StatusOr<std::unique_ptr<Trainer>> make(const RunConfig& config, const TrainerOptions& options);
  ~Trainer();

  absl::StatusOr<TrainResult> run();

  models::Model& model();
  losses::Criterion& criterion();
  data::TextPipelinePtr texts() const;

 private:
  struct Impl;
  explicit Trainer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace fgvl::train
