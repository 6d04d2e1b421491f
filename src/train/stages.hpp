#pragma once
#include <string>
#include <vector>

#include "fgvl/train/run_config.hpp"

namespace fgvl::train {

/// A stage with its place in the run: optimizer steps [begin, end), counted as ForwardPass::step() counts them.
struct StageSpan {
  std::string name;
  StageConfig config;
  std::int64_t begin = 0, end = 0;
};

StageSpan span_of(const std::pair<std::string, StageConfig>& stage, std::int64_t begin, std::int64_t run_steps);

/// What a term or a stream weighs in `stage`, where `base` is what it has outside stages that name it. Null: in a run without stages.
Schedule term_weight_in(const StageSpan* stage, const std::string& term, const Schedule& base);
Schedule stream_weight_in(const StageSpan* stage, const std::string& stream, const Schedule& base);
/// Whether `weight` is anything but 0 at one of the steps [begin, end).
bool is_on(const Schedule& weight, std::int64_t begin, std::int64_t end);

/// The stages of a run, one after the other; none: a run without stages. All of it is a function of the step, so that a resumed run needs nothing saved.
class Stages {
 public:
  Stages() = default;
  explicit Stages(const RunConfig& config);

  const std::vector<StageSpan>& spans() const { return spans_; }
  /// Null for a run without stages.
  const StageSpan* at(std::int64_t step) const;

  /// Weight of a term or a stream over the whole run, where `base` is what it has outside stages that name it.
  Schedule term_weight(const std::string& term, const Schedule& base) const;
  Schedule stream_weight(const std::string& stream, const Schedule& base) const;
  double learning_rate(std::int64_t step, const TrainOptions& options) const;

 private:
  std::vector<StageSpan> spans_;
};

/// What is wrong with one stage beside the others: names that the run has not, a stage in which nothing would train or be read. Each begins with its key, relative to the stage.
std::vector<std::string> stage_problems(const RunConfig& config, const StageSpan& stage);
/// What is wrong with the steps of all stages together, or with a run without stages in which nothing would train; it begins with the key. Empty: nothing.
std::string run_problem(const RunConfig& config);

/// The `losses:` section with the weights that the stages make of it.
losses::CriterionConfig staged_losses(const RunConfig& config);

/// What trains in which stage. Parameters that a stage freezes keep their value and their moments, and go on from both afterwards.
class StageFreezer {
 public:
  StageFreezer() = default;
  /// To be made after train.freeze was applied. Throws c10::Error for a glob that fits nothing and for a stage in which nothing would train.
  StageFreezer(models::Model& model, losses::Criterion& criterion, const Stages& stages);
  void enter(const StageSpan& stage);

 private:
  models::Model* model_ = nullptr;
  losses::Criterion* criterion_ = nullptr;
  std::vector<Tensor> trained_;  ///< whatever is not frozen for the whole run
};

}  // namespace fgvl::train
