#include "train/stages.hpp"

#include <algorithm>

#include <absl/strings/str_cat.h>

#include "train/optimizer.hpp"

namespace fgvl::train {

Stages::Stages(const RunConfig& config) {
  std::int64_t begin = 0;
  for (const auto& [name, stage] : config.stages) {
    spans_.push_back({name, stage, begin, stage.steps > 0 ? begin + stage.steps : config.train.steps});
    begin = spans_.back().end;
  }
}

const StageSpan* Stages::at(std::int64_t step) const {
  for (const StageSpan& span : spans_) {
    if (step < span.end) return &span;
  }
  return spans_.empty() ? nullptr : &spans_.back();
}

Schedule Stages::weight(const std::string& name, const Schedule& base, Named StageConfig::* changes) const {
  std::vector<std::int64_t> begins;
  std::vector<Schedule> parts;
  bool changed = false;
  for (const StageSpan& span : spans_) {
    begins.push_back(span.begin);
    parts.push_back(base);
    for (const auto& [known, value] : span.config.*changes) {
      if (known != name) continue;
      parts.back() = value.value_or(0.0).delayed(span.begin);
      changed = true;
    }
  }
  return changed ? Schedule::sequence(std::move(begins), std::move(parts)) : base;
}

Schedule Stages::term_weight(const std::string& term, const Schedule& base) const { return weight(term, base, &StageConfig::losses); }
Schedule Stages::stream_weight(const std::string& stream, const Schedule& base) const { return weight(stream, base, &StageConfig::streams); }

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
