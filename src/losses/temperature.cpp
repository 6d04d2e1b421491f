#include "fgvl/losses/temperature.hpp"

#include <cmath>

#include <torch/torch.h>

namespace fgvl::losses {

config::EnumNames<TemperatureKind> enum_names(TemperatureKind) { return {{TemperatureKind::kDivisor, "divisor"}, {TemperatureKind::kLogScale, "log_scale"}}; }

void visit_fields(config::Visitor& visitor, TemperatureOptions& options) {
  visitor("kind", options.kind, "divisor: similarity / temperature (X-VLM); log_scale: similarity * exp(log_scale) (CLIP)");
  visitor("init", options.init, "temperature at the start", config::kPositive);
  visitor("learn", options.learn, "train it");
  visitor("min", options.min, "lower limit of the temperature", config::kPositive);
  visitor("max", options.max, "upper limit of the temperature", config::kPositive);
  visitor.check(options.min <= options.max, "min: must not exceed max");
}

Temperature::Temperature(const TemperatureOptions& options) : options_(options) {
  const bool divisor = options.kind == TemperatureKind::kDivisor;
  const Tensor start = torch::tensor(divisor ? options.init : -std::log(options.init), torch::kFloat32);
  const char* name = divisor ? "temp" : "logit_scale";
  value_ = options.learn ? register_parameter(name, start) : register_buffer(name, start);
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
