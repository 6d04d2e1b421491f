#include "train/stages.hpp"

#include <algorithm>

#include <absl/strings/str_cat.h>

#include "train/optimizer.hpp"

namespace fgvl::train {

namespace {

using Changes = std::vector<std::pair<std::string, std::optional<Schedule>>>;

/// Null where a stage says nothing of `name`.
const std::optional<Schedule>* change_of(const Changes& changes, const std::string& name) {
  const auto found = std::find_if(changes.begin(), changes.end(), [&](const auto& change) { return change.first == name; });
  return found == changes.end() ? nullptr : &found->second;
}

Schedule weight_in(const StageSpan* stage, const std::string& name, const Schedule& base, Changes StageConfig::* changes) {
  const std::optional<Schedule>* change = stage == nullptr ? nullptr : change_of(stage->config.*changes, name);
  return change == nullptr ? base : change->value_or(0.0).delayed(stage->begin);
}

/// Over the whole run.
Schedule weight_over(const std::vector<StageSpan>& stages, const std::string& name, const Schedule& base, Changes StageConfig::* changes) {
  std::vector<std::int64_t> begins;
  std::vector<Schedule> parts;
  bool changed = false;
  for (const StageSpan& stage : stages) {
    begins.push_back(stage.begin);
    parts.push_back(weight_in(&stage, name, base, changes));
    changed = changed || change_of(stage.config.*changes, name) != nullptr;
  }
  return changed ? Schedule::sequence(std::move(begins), std::move(parts)) : base;
}

}  // namespace

StageSpan span_of(const std::pair<std::string, StageConfig>& stage, std::int64_t begin, std::int64_t run_steps) {
  return {stage.first, stage.second, begin, stage.second.steps > 0 ? begin + stage.second.steps : run_steps};
}

Schedule term_weight_in(const StageSpan* stage, const std::string& term, const Schedule& base) { return weight_in(stage, term, base, &StageConfig::losses); }
Schedule stream_weight_in(const StageSpan* stage, const std::string& stream, const Schedule& base) { return weight_in(stage, stream, base, &StageConfig::streams); }

bool is_on(const Schedule& weight, std::int64_t begin, std::int64_t end) {
  // Between corners it rises, falls or holds, so that where it is 0 at all of these it is 0 everywhere.
  std::vector<std::int64_t> steps = weight.corners();
  steps.insert(steps.end(), {begin, end - 1});
  return std::any_of(steps.begin(), steps.end(), [&](std::int64_t step) { return step >= begin && step < end && weight.at(step) != 0; });
}

Stages::Stages(const RunConfig& config) {
  std::int64_t begin = 0;
  for (const auto& stage : config.stages) {
    spans_.push_back(span_of(stage, begin, config.train.steps));
    begin = spans_.back().end;
  }
}

const StageSpan* Stages::at(std::int64_t step) const {
  for (const StageSpan& span : spans_) {
    if (step < span.end) return &span;
  }
  return spans_.empty() ? nullptr : &spans_.back();
}

Schedule Stages::term_weight(const std::string& term, const Schedule& base) const { return weight_over(spans_, term, base, &StageConfig::losses); }
Schedule Stages::stream_weight(const std::string& stream, const Schedule& base) const { return weight_over(spans_, stream, base, &StageConfig::streams); }

double Stages::learning_rate(std::int64_t step, const TrainOptions& options) const {
  const StageSpan* stage = at(step);
  const double whole = options.optimizer.lr * schedule_factor(options.schedule, step, options.steps);
  if (stage == nullptr) return whole;
  const std::optional<ScheduleOptions>& own = stage->config.schedule;
  const double base = own ? options.optimizer.lr * schedule_factor(*own, step - stage->begin, stage->end - stage->begin) : whole;
  return base * stage->config.lr_factor.at(step - stage->begin);
}

std::string stages_problem(const RunConfig& config) {
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < config.stages.size(); ++i) {
    const auto& [name, stage] = config.stages[i];
    const bool last = i + 1 == config.stages.size();
    if (stage.steps == 0 && !last) return absl::StrCat("stages.", name, ".steps: required; only the last stage may go on to the end of the run");
    sum += stage.steps;
    if (last && (stage.steps == 0 ? sum >= config.train.steps : sum != config.train.steps)) {
      return absl::StrCat("stages: their steps are ", sum, stage.steps == 0 ? " before the last one" : " together", ", and train.steps is ", config.train.steps,
                          stage.steps == 0 ? ", which leaves nothing for it" : "; make them equal, or leave out the steps of the last stage, which then goes on to the end");
    }
  }
  const Stages stages(config);
  for (const StageSpan& span : stages.spans()) {
    const auto weighs = [](const Schedule& weight) { return weight.min() < 0 || weight.max() > 0; };
    const auto changed = [&](const std::string& term) {
      return std::find_if(span.config.losses.begin(), span.config.losses.end(), [&](const auto& change) { return change.first == term; });
    };
    const bool any = std::any_of(config.losses.begin(), config.losses.end(), [&](const auto& loss) {
      const auto change = changed(loss.first);
      return weighs(change == span.config.losses.end() ? loss.second.weight : change->second.value_or(0.0));
    });
    if (!any) return absl::StrCat("stages.", span.name, ".losses: every term is switched off, so that nothing would train");
  }
  return "";
}

losses::CriterionConfig staged_losses(const RunConfig& config) {
  const Stages stages(config);
  losses::CriterionConfig staged = config.losses;
  for (auto& [name, loss] : staged) loss.weight = stages.term_weight(name, loss.weight);
  return staged;
}

StageFreezer::StageFreezer(models::Model& model, losses::Criterion& criterion, const Stages& stages) : model_(&model), criterion_(&criterion) {
  for (const auto& [name, parameter] : named_parameters(model, criterion)) {
    if (parameter.requires_grad()) trained_.push_back(parameter);
  }
  for (const StageSpan& stage : stages.spans()) enter(stage);
  for (Tensor& parameter : trained_) parameter.set_requires_grad(true);
}

void StageFreezer::enter(const StageSpan& stage) {
  for (Tensor& parameter : trained_) parameter.set_requires_grad(true);
  if (!stage.config.freeze.empty()) freeze(*model_, *criterion_, stage.config.freeze, absl::StrCat("stages.", stage.name, ".freeze"));
}

}  // namespace fgvl::train
