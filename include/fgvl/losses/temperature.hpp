#pragma once
#include <torch/nn/module.h>

#include "fgvl/core/schedule.hpp"
#include "fgvl/core/tensor.hpp"

namespace fgvl::losses {

enum class TemperatureKind {
  kDivisor,   ///< logits = similarity / temperature; X-VLM, ALBEF, BLIP. Parameter `temp`, clamped to [min, max] in place before every use
  kLogScale,  ///< logits = similarity * exp(log_scale), log_scale starting at ln(1 / init); CLIP. Parameter `logit_scale`, clamped likewise
};
config::EnumNames<TemperatureKind> enum_names(TemperatureKind);

struct TemperatureOptions {
  TemperatureKind kind = TemperatureKind::kDivisor;
  Schedule init = 0.07;  ///< a fixed temperature may change with the optimizer steps; a learned one starts from one number
  bool learn = true;
  double min = 0.001;  ///< X-VLM's clamp (models/xvlm.py); CLIP's limit exp(log_scale) <= 100 is min = 0.01
  double max = 0.5;
};
void visit_fields(config::Visitor& visitor, TemperatureOptions& options);

/// A learned or fixed temperature.
class Temperature final : public torch::nn::Module {
 public:
  /// Throws c10::Error for a learned temperature whose `init` changes with the steps.
  explicit Temperature(const TemperatureOptions& options);
  /// Where `init` changes with the steps: takes what it says of optimizer step `step`. A Criterion does so for every temperature inside its terms before it runs them; whoever runs a
  /// term alone does it himself.
  void move_to(std::int64_t step);
  /// Scalar by which similarities are divided, with gradient; clamps the parameter in place first, without gradient, as X-VLM does.
  Tensor divisor();

 private:
  TemperatureOptions options_;
  Tensor value_;
  double init_;         ///< what `value_` was last made of
  bool moved_ = false;  ///< by move_to()
};

/// A term that owns a temperature which others may refer to by the term's name.
class TemperatureSource {
 public:
  virtual ~TemperatureSource() = default;
  virtual Tensor divisor() = 0;
};

}  // namespace fgvl::losses
