#include "train/stages.hpp"

#include <algorithm>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include "core/config_tree.hpp"
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

bool any_term_on(const RunConfig& config, const StageSpan* stage, std::int64_t begin, std::int64_t end) {
  return std::any_of(config.losses.begin(), config.losses.end(), [&](const auto& loss) { return is_on(term_weight_in(stage, loss.first, loss.second.weight), begin, end); });
}

/// "steps 1 to 150", as progress and logs count them.
std::string steps_text(std::int64_t begin, std::int64_t end) { return absl::StrCat("steps ", begin + 1, " to ", end); }

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

std::vector<std::string> stage_problems(const RunConfig& config, const StageSpan& stage) {
  std::vector<std::string> problems;
  const auto check_names = [&](const char* key, const char* kind, const Changes& changes, const std::vector<std::string>& known) {
    for (const auto& [name, value] : changes) {
      if (std::find(known.begin(), known.end(), name) != known.end()) continue;
      const std::string near = config::nearest(name, known);
      problems.push_back(absl::StrCat(key, ".", name, ": there is no ", kind, " of this name ", near.empty() ? absl::StrCat("(there are ", absl::StrJoin(known, ", "), ")") : absl::StrCat("(did you mean \"", near, "\"?)")));
    }
  };
  std::vector<std::string> terms;
  for (const auto& [name, loss] : config.losses) terms.push_back(name);
  const std::vector<std::string> streams = data::stream_names(config.data);
  check_names("losses", "term", stage.config.losses, terms);
  check_names("streams", "stream", stage.config.streams, streams);
  if (!problems.empty() || stage.begin >= stage.end) return problems;

  const std::string here = absl::StrCat(" in this stage (", steps_text(stage.begin, stage.end), ")");
  if (!any_term_on(config, &stage, stage.begin, stage.end)) {
    problems.push_back(absl::StrCat("losses: every term is switched off", here, ", so that nothing would train; give one a weight above 0 here, or remove the stage"));
  }
  const bool reads = std::any_of(streams.begin(), streams.end(), [&](const std::string& name) {
    const auto own = std::find_if(config.data.streams.begin(), config.data.streams.end(), [&](const auto& stream) { return stream.first == name; });
    return is_on(stream_weight_in(&stage, name, own == config.data.streams.end() ? Schedule(1.0) : own->second.weight), stage.begin, stage.end);
  });
  if (!reads) problems.push_back(absl::StrCat("streams: every stream is switched off", here, ", so that nothing would be read; give one a weight above 0 here, or remove the stage"));
  return problems;
}

std::string run_problem(const RunConfig& config) {
  if (config.stages.empty()) {
    if (config.losses.empty() || any_term_on(config, nullptr, 0, config.train.steps)) return "";
    return absl::StrCat("losses: the weight of every term is 0 in all steps (", config.train.steps, "), so that nothing would train; give one a weight above 0");
  }
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
