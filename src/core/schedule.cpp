#include "fgvl/core/schedule.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <numbers>

#include <c10/util/Exception.h>

namespace fgvl {
namespace {

bool is_ramp(ScheduleType type) { return type == ScheduleType::kLinear || type == ScheduleType::kCosine; }

std::string number_text(double value) {
  char buffer[32];
  return {buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr};
}

}  // namespace

config::EnumNames<ScheduleType> enum_names(ScheduleType) {
  return {{ScheduleType::kConstant, "constant"}, {ScheduleType::kLinear, "linear"}, {ScheduleType::kCosine, "cosine"}, {ScheduleType::kStep, "step"}, {ScheduleType::kPiecewise, "piecewise"}};
}

Schedule Schedule::linear(const Ramp& ramp) {
  Schedule schedule;
  schedule.type_ = ScheduleType::kLinear;
  schedule.ramp_ = ramp;
  TORCH_CHECK(schedule.problem().empty(), "[Schedule::linear] ", schedule.problem());
  return schedule;
}

Schedule Schedule::cosine(const Ramp& ramp) {
  Schedule schedule = linear(ramp);
  schedule.type_ = ScheduleType::kCosine;
  return schedule;
}

Schedule Schedule::step(Points points) {
  Schedule schedule;
  schedule.type_ = ScheduleType::kStep;
  schedule.points_ = std::move(points);
  TORCH_CHECK(schedule.problem().empty(), "[Schedule::step] ", schedule.problem());
  return schedule;
}

Schedule Schedule::piecewise(Points points) {
  Schedule schedule = step(std::move(points));
  schedule.type_ = ScheduleType::kPiecewise;
  return schedule;
}

Schedule Schedule::sequence(std::vector<std::int64_t> starts, std::vector<Schedule> parts) {
  const bool rise = std::adjacent_find(starts.begin(), starts.end(), [](std::int64_t a, std::int64_t b) { return a >= b; }) == starts.end();
  TORCH_CHECK(!starts.empty() && starts.size() == parts.size() && starts[0] == 0 && rise, "[Schedule::sequence] starts: expected rising steps from 0, one a part");
  Schedule schedule;
  schedule.type_ = ScheduleType::kSequence;
  schedule.points_ = {std::move(starts), {}};
  schedule.parts_ = std::move(parts);
  return schedule;
}

Schedule Schedule::delayed(std::int64_t steps) const {
  Schedule schedule = *this;
  if (constant()) return schedule;
  schedule.ramp_.start += steps;
  for (std::int64_t& step : schedule.points_.steps) step += steps;
  for (Schedule& part : schedule.parts_) part = part.delayed(steps);
  if (type_ == ScheduleType::kSequence) schedule.points_.steps[0] = 0;
  return schedule;
}

double Schedule::at(std::int64_t step) const {
  if (is_ramp(type_)) {
    if (step <= ramp_.start) return ramp_.from;
    if (step - ramp_.start >= ramp_.steps) return ramp_.to;  // exactly, whatever the interpolation rounds to
    const double done = static_cast<double>(step - ramp_.start) / static_cast<double>(ramp_.steps);
    return ramp_.from + (ramp_.to - ramp_.from) * (type_ == ScheduleType::kLinear ? done : 0.5 * (1.0 - std::cos(std::numbers::pi * done)));
  }
  const auto& [steps, values] = points_;
  const auto after = static_cast<std::size_t>(std::upper_bound(steps.begin(), steps.end(), step) - steps.begin());  // the first point that is yet to come
  if (type_ == ScheduleType::kSequence) return parts_[after - 1].at(step);
  if (after == 0) return values.front();
  if (type_ != ScheduleType::kPiecewise || after == steps.size()) return values[after - 1];
  const double done = static_cast<double>(step - steps[after - 1]) / static_cast<double>(steps[after] - steps[after - 1]);
  return values[after - 1] + (values[after] - values[after - 1]) * done;
}

double Schedule::min() const {
  double least = std::numeric_limits<double>::infinity();
  for (const std::int64_t step : corners()) least = std::min(least, at(step));
  return least;
}

double Schedule::max() const {
  double most = -std::numeric_limits<double>::infinity();
  for (const std::int64_t step : corners()) most = std::max(most, at(step));
  return most;
}

std::vector<std::int64_t> Schedule::corners() const {
  std::vector<std::int64_t> steps = {0};
  if (is_ramp(type_)) {
    steps.insert(steps.end(), {ramp_.start, ramp_.start + ramp_.steps});
  } else {
    steps.insert(steps.end(), points_.steps.begin(), points_.steps.end());
  }
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    for (const std::int64_t step : parts_[i].corners()) {
      if (step > points_.steps[i] && (i + 1 == parts_.size() || step < points_.steps[i + 1])) steps.push_back(step);
    }
    if (i > 0) steps.push_back(points_.steps[i] - 1);  // where the part before ends, in the middle of a ramp perhaps
  }
  std::sort(steps.begin(), steps.end());
  steps.erase(std::unique(steps.begin(), steps.end()), steps.end());
  return steps;
}

std::string Schedule::words() const {
  if (is_ramp(type_)) {
    return std::string(type_ == ScheduleType::kLinear ? "linear" : "half a cosine") + " from " + number_text(ramp_.from) + " to " + number_text(ramp_.to) + " over steps " +
           std::to_string(ramp_.start) + " to " + std::to_string(ramp_.start + ramp_.steps);
  }
  if (type_ == ScheduleType::kConstant) return number_text(points_.values[0]);
  std::string text;
  for (std::size_t i = 0; i < parts_.size(); ++i) text += (i == 0 ? "" : "; ") + std::string("from step ") + std::to_string(points_.steps[i]) + ": " + parts_[i].words();
  if (type_ == ScheduleType::kSequence) return text;
  for (std::size_t i = 0; i < points_.steps.size(); ++i) {
    text += (i == 0 ? "" : ", ") + number_text(points_.values[i]) + (type_ == ScheduleType::kStep ? " from step " : " at step ") + std::to_string(points_.steps[i]);
  }
  return type_ == ScheduleType::kStep ? text : text + ", straight lines between";
}

bool operator==(const Schedule& a, const Schedule& b) {
  if (a.type_ != b.type_) return false;
  if (is_ramp(a.type_)) return a.ramp_.from == b.ramp_.from && a.ramp_.to == b.ramp_.to && a.ramp_.steps == b.ramp_.steps && a.ramp_.start == b.ramp_.start;
  return a.points_.steps == b.points_.steps && a.points_.values == b.points_.values && a.parts_ == b.parts_;
}

std::string Schedule::problem() const {
  if (is_ramp(type_)) return ramp_.steps < 1 ? "steps: expected how many steps the change takes, at least 1" : ramp_.start < 0 ? "start: expected a step, 0 or later" : "";
  const auto& [steps, values] = points_;
  if (steps.empty() || steps.size() != values.size()) return "steps, values: expected as many steps as values, at least one of each";
  const bool rise = std::adjacent_find(steps.begin(), steps.end(), [](std::int64_t a, std::int64_t b) { return a >= b; }) == steps.end();
  if (steps[0] >= 0 && rise) return "";
  std::string got;
  for (const std::int64_t step : steps) got += (got.empty() ? "" : ", ") + std::to_string(step);
  return "steps: expected rising steps, the first 0 or later, got [" + got + "]";
}

void Schedule::visit(config::Visitor& visitor, const config::Range& range) {
  TORCH_INTERNAL_ASSERT(type_ != ScheduleType::kSequence, "a sequence of schedules has no place in a configuration file");
  const std::string before = constant() ? "" : config::name_of(type_);
  std::vector<std::string> allowed;
  for (const auto& [type, name] : enum_names(type_)) allowed.emplace_back(name);
  std::string name = before;
  visitor.choice("type", name, allowed, "how it changes with the steps");
  if (name.empty()) {
    points_ = {};  // no type, or a wrong one: whoever called this reports it
    return;
  }
  if (name != before) {
    *this = Schedule();
    points_ = {};
    for (const auto& [type, known] : enum_names(type_)) {
      if (known == name) type_ = type;
    }
  }
  if (type_ == ScheduleType::kConstant) {
    points_ = {{0}, {0.0}};
    visitor("value", points_.values[0], "at every step", range);
  } else if (is_ramp(type_)) {
    visitor("from", ramp_.from, "at the start", range);
    visitor("to", ramp_.to, "at the end, and from there on", range);
    visitor("steps", ramp_.steps, "how many the change takes", {1, 1e12});
    visitor("start", ramp_.start, "step at which the change begins", {0, 1e12});
  } else {
    visitor("steps", points_.steps, "rising", {0, 1e12});
    visitor("values", points_.values, "one a step", range);
  }
  const std::string wrong = problem();
  visitor.check(wrong.empty(), wrong);
  if (!wrong.empty()) *this = Schedule(1.0);  // whoever looks at it before the problem is reported finds a number, and nothing that it would switch off
}

void config::Visitor::operator()(std::string_view key, Schedule& value, std::string_view doc, const Range& range) {
  if (is_plain_number(key, value.constant().has_value())) {
    double number = value.constant().value_or(0.0);
    visit_number(key, number, doc, range);
    value = number;
    return;
  }
  if (!enter(key, doc)) return;
  value.visit(*this, range);
  if (value.type() == ScheduleType::kConstant && value.points_.values.empty()) {
    check(present("type", false, ""), "type: required: constant, linear, cosine, step or piecewise");
    // Which other keys there may be is not known without a type, so that none is called unknown.
    for (const char* other : {"value", "from", "to", "steps", "start", "values"}) present(other, false, "");
    value = Schedule(1.0);
  }
  leave();
}

void config::Visitor::entries(std::string_view key, std::vector<std::pair<std::string, std::optional<Schedule>>>& values, std::string_view doc, const Range& range) {
  std::vector<std::string> names;
  for (const auto& [name, value] : values) names.push_back(name);
  if (!enter(key, doc)) return;
  std::vector<std::pair<std::string, std::optional<Schedule>>> kept;
  for (const std::string& name : entry_names(names)) {
    std::optional<Schedule> value = Schedule(1.0);
    for (const auto& [known, existing] : values) {
      if (known == name) value = existing;
    }
    (*this)(name, value, doc, range);
    kept.emplace_back(name, std::move(value));
  }
  leave();
  values = std::move(kept);
}

}  // namespace fgvl
