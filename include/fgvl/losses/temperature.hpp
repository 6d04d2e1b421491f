#pragma once
#include <torch/nn/module.h>

#include "fgvl/core/config_visitor.hpp"
#include "fgvl/core/tensor.hpp"

namespace fgvl::losses {

enum class TemperatureKind {
  kDivisor,   ///< logits = similarity / temperature; X-VLM, ALBEF, BLIP. Parameter `temp`, clamped to [min, max] in place before every use
  kLogScale,  ///< logits = similarity * exp(log_scale), log_scale starting at ln(1 / init); CLIP. Parameter `logit_scale`, clamped likewise
};
config::EnumNames<TemperatureKind> enum_names(TemperatureKind);

struct TemperatureOptions {
  TemperatureKind kind = TemperatureKind::kDivisor;
  double init = 0.07;
  bool learn = true;
  double min = 0.001;  ///< X-VLM's clamp (models/xvlm.py); CLIP's limit exp(log_scale) <= 100 is min = 0.01
  double max = 0.5;
};
void visit_fields(config::Visitor& visitor, TemperatureOptions& options);

/// A learned or fixed temperature.
class Temperature final : public torch::nn::Module {
 public:
  explicit Temperature(const TemperatureOptions& options);
  /// Scalar by which similarities are divided, with gradient; clamps the parameter in place first, without gradient, as X-VLM does.
  Tensor divisor();

 private:
  TemperatureOptions options_;
  Tensor value_;
};

/// A term that owns a temperature which others may refer to by the term's name.
class TemperatureSource {
 public:
  virtual ~TemperatureSource() = default;
  virtual Tensor divisor() = 0;
};

}  // namespace fgvl::losses
