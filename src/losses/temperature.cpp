#include "fgvl/losses/temperature.hpp"

#include <cmath>

#include <torch/torch.h>

namespace fgvl::losses {
namespace {

constexpr char kLearnedSchedule[] = "init: a learned temperature starts from one number; a schedule needs learn: false";

double parameter_of(double temperature, bool divisor) { return divisor ? temperature : -std::log(temperature); }

}  // namespace

config::EnumNames<TemperatureKind> enum_names(TemperatureKind) { return {{TemperatureKind::kDivisor, "divisor"}, {TemperatureKind::kLogScale, "log_scale"}}; }

void visit_fields(config::Visitor& visitor, TemperatureOptions& options) {
  visitor("kind", options.kind, "divisor: similarity / temperature (X-VLM); log_scale: similarity * exp(log_scale) (CLIP)");
  visitor("init", options.init, "temperature at the start; one that is not learned may change with the steps", config::kPositive);
  visitor("learn", options.learn, "train it");
  visitor("min", options.min, "lower limit of the temperature", config::kPositive);
  visitor("max", options.max, "upper limit of the temperature", config::kPositive);
  visitor.check(options.min <= options.max, "min: must not exceed max");
  visitor.check(!options.learn || options.init.constant(), kLearnedSchedule);
}

Temperature::Temperature(const TemperatureOptions& options) : options_(options), init_(options.init.at(0)) {
  TORCH_CHECK(!options.learn || options.init.constant(), "[Temperature] ", kLearnedSchedule);
  const bool divisor = options.kind == TemperatureKind::kDivisor;
  const Tensor start = torch::tensor(parameter_of(init_, divisor), torch::kFloat32);
  const char* name = divisor ? "temp" : "logit_scale";
  value_ = options.learn ? register_parameter(name, start) : register_buffer(name, start);
}

void Temperature::move_to(std::int64_t step) {
  if (options_.init.constant()) return;
  // What a checkpoint or a copy brought is of another step: always written, but never twice within a step, whose graphs may have saved it.
  if (moved_ && init_ == options_.init.at(step)) return;
  moved_ = true;
  init_ = options_.init.at(step);
  torch::NoGradGuard guard;
  value_.fill_(parameter_of(init_, options_.kind == TemperatureKind::kDivisor));
}

Tensor Temperature::divisor() {
  const bool divisor = options_.kind == TemperatureKind::kDivisor;
  {
    torch::NoGradGuard guard;
    // Through data(): a second call within one pass changes nothing and must not count as a change of what autograd saved.
    value_.data().clamp_(divisor ? options_.min : -std::log(options_.max), divisor ? options_.max : -std::log(options_.min));
  }
  return divisor ? value_ : (-value_).exp();
}

}  // namespace fgvl::losses
