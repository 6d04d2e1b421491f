#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "fgvl/core/config_visitor.hpp"

namespace fgvl {

enum class ScheduleType {
  kConstant,   ///< one number
  kLinear,     ///< a straight line from one number to another
  kCosine,     ///< half a cosine from one number to another
  kStep,       ///< numbers that hold from a step on until the next
  kPiecewise,  ///< straight lines between numbers at given steps
  kSequence,   ///< schedules one after the other, each from a step on: what the stages of a run make of several; not written in a configuration file
};
config::EnumNames<ScheduleType> enum_names(ScheduleType);

/// A number over optimizer steps. In a configuration file a plain number, or a map:
/// ```yaml
/// weight: 0.5
/// weight: {type: linear, from: 0, to: 0.4, steps: 1000}            # also cosine; `start`: the step at which the change begins (0)
/// weight: {type: step, steps: [0, 2000], values: [0, 1]}           # 0, and 1 from step 2000 on
/// weight: {type: piecewise, steps: [0, 1000, 5000], values: [0, 1, 0.5]}
/// ```
/// Before its first step and after its last a schedule holds what it has there.
class Schedule {
 public:
  struct Ramp {
    double from = 0.0, to = 1.0;
    std::int64_t steps = 0;  ///< how long the change takes, at least 1
    std::int64_t start = 0;  ///< optimizer steps done before it begins
  };
  /// `steps` rise, beginning at 0 or later; as many `values`, at least one.
  struct Points {
    std::vector<std::int64_t> steps{};
    std::vector<double> values{};
  };

  Schedule(double value = 0.0) : points_{{0}, {value}} {}  // NOLINT(google-explicit-constructor): a number is a schedule
  /// These throw c10::Error for what a configuration file would be refused for.
  static Schedule linear(const Ramp& ramp);
  static Schedule cosine(const Ramp& ramp);
  static Schedule step(Points points);
  static Schedule piecewise(Points points);
  /// `parts[i]` holds from step `starts[i]` on, and counts steps as the whole does; `starts` rise from 0.
  static Schedule sequence(std::vector<std::int64_t> starts, std::vector<Schedule> parts);
  /// The same, `steps` later.
  Schedule delayed(std::int64_t steps) const;

  /// `step`: optimizer steps done before, >= 0 (ForwardPass::step).
  double at(std::int64_t step) const;
  ScheduleType type() const { return type_; }
  /// The number of a constant schedule.
  std::optional<double> constant() const { return type_ == ScheduleType::kConstant ? std::optional(points_.values[0]) : std::nullopt; }
  /// Smallest and largest number over all steps.
  double min() const;
  double max() const;
  /// Steps at which something begins or ends, rising from 0: between two of them it rises, falls or holds.
  std::vector<std::int64_t> corners() const;
  /// As a person reads it: "0.5"; "linear from 0 to 0.4 over steps 0 to 1000".
  std::string words() const;

  friend bool operator==(const Schedule& a, const Schedule& b);

 private:
  friend class config::Visitor;
  void visit(config::Visitor& visitor, const config::Range& range);
  std::string problem() const;  ///< what is wrong with it; empty: nothing

  ScheduleType type_ = ScheduleType::kConstant;
  Ramp ramp_{};      ///< of kLinear and kCosine
  Points points_{};  ///< of the others; one for kConstant; without values for kSequence
  std::vector<Schedule> parts_{};  ///< of kSequence
};

}  // namespace fgvl
