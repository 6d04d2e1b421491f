#include "train/optimizer.hpp"

#include <map>

#include <absl/strings/str_cat.h>

namespace fgvl::train {

AdamW::AdamW(const std::vector<std::pair<std::string, Tensor>>& parameters, const OptimizerOptions& options) : options_(options) {
  for (const auto& [name, parameter] : parameters) {
    slots_.push_back({name, parameter, torch::zeros_like(parameter), torch::zeros_like(parameter), torch::zeros({}, parameter.options().dtype(at::kFloat)), parameter.dim() >= 2,
                      name.rfind("losses.", 0) == 0});
    for (Tensor* own : {&slots_.back().first_moment, &slots_.back().second_moment, &slots_.back().steps}) own->set_requires_grad(false);
  }
}

void AdamW::zero_grad() {
  for (Slot& slot : slots_) slot.parameter.mutable_grad() = Tensor();
}

double AdamW::clip(double clip_norm) {
  torch::NoGradGuard guard;
  std::vector<Tensor> gradients;
  for (const Slot& slot : slots_) {
    if (slot.parameter.grad().defined()) gradients.push_back(slot.parameter.grad());
  }
  if (gradients.empty()) return 0;
  const double norm = at::stack(at::_foreach_norm(gradients)).norm().item<double>();
  if (clip_norm > 0 && norm > clip_norm) at::_foreach_mul_(gradients, clip_norm / (norm + 1e-6));
  return norm;
}

void AdamW::step(double lr) {
  torch::NoGradGuard guard;
  for (const bool decayed : {true, false}) {
    for (const bool of_losses : {false, true}) {
      std::vector<Tensor> parameters, gradients, first, second, steps;
      for (Slot& slot : slots_) {
        if (slot.decayed != decayed || slot.of_losses != of_losses || !slot.parameter.grad().defined()) continue;
        slot.steps.add_(1);
        parameters.push_back(slot.parameter);
        gradients.push_back(slot.parameter.grad());
        first.push_back(slot.first_moment);
        second.push_back(slot.second_moment);
        steps.push_back(slot.steps);
      }
      if (parameters.empty()) continue;
      at::_fused_adamw_(parameters, gradients, first, second, {}, steps, lr * (of_losses ? options_.losses_lr_factor : 1.0), options_.beta1, options_.beta2,
                        decayed ? options_.weight_decay : 0.0, options_.eps, /*amsgrad=*/false, /*maximize=*/false);
    }
  }
}

NamedTensors AdamW::state() const {
  NamedTensors state;
  for (const Slot& slot : slots_) {
    state.emplace_back("exp_avg." + slot.name, slot.first_moment);
    state.emplace_back("exp_avg_sq." + slot.name, slot.second_moment);
    state.emplace_back("step." + slot.name, slot.steps);
  }
  return state;
}

absl::Status AdamW::load(const NamedTensors& state) {
  torch::NoGradGuard guard;
  const std::map<std::string, Tensor> by_name(state.begin(), state.end());
  for (Slot& slot : slots_) {
    for (auto& [prefix, target] : {std::pair<const char*, Tensor*>{"exp_avg.", &slot.first_moment}, {"exp_avg_sq.", &slot.second_moment}, {"step.", &slot.steps}}) {
      const auto found = by_name.find(prefix + slot.name);
      if (found == by_name.end() || found->second.sizes() != target->sizes()) {
        return with_exit_code(absl::InvalidArgumentError(absl::StrCat("optimizer state: ", prefix, slot.name, " is missing or has another shape: the checkpoint belongs to another model")),
                              ExitCode::kCheckpoint);
      }
      target->copy_(found->second);
    }
  }
  return absl::OkStatus();
}

}  // namespace fgvl::train
