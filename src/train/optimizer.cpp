#include "train/optimizer.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include "core/config_tree.hpp"
#include "fgvl/core/glob.hpp"
#include "fgvl/models/name_map.hpp"

namespace fgvl::train {

namespace {

/// X-VLM's optim.py: substrings of official names.
bool decayed_by_name(const std::string& official) {
  for (const char* part : {"bias", "LayerNorm.weight", "norm.weight", "norm1.weight", "norm2.weight"}) {
    if (official.find(part) != std::string::npos) return false;
  }
  return true;
}

/// What a glob that fits nothing may have meant: a whole name, or everything below a beginning of one.
std::string nearest_glob(const std::string& glob, const NamedTensors& parameters, std::int64_t text_layers) {
  std::set<std::string> candidates;
  for (const auto& [ours, parameter] : parameters) {
    for (const std::string& name : {ours, models::xvlm_name(ours, text_layers)}) {
      candidates.insert(name);
      for (std::size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) candidates.insert(name.substr(0, dot + 1) + "*");
    }
  }
  return config::nearest(glob, {candidates.begin(), candidates.end()});
}

}  // namespace

NamedTensors named_parameters(const models::Model& model, const losses::Criterion& criterion) {
  NamedTensors parameters;
  for (const auto& parameter : model.named_parameters()) parameters.emplace_back("model." + parameter.key(), parameter.value());
  for (const auto& parameter : criterion.named_parameters()) parameters.emplace_back("losses." + parameter.key(), parameter.value());
  std::erase_if(parameters, [](const auto& parameter) { return models::is_objective_state(parameter.first); });
  return parameters;
}

Frozen freeze(models::Model& model, losses::Criterion& criterion, const std::vector<std::string>& globs, const std::string& key) {
  NamedTensors parameters = named_parameters(model, criterion);
  const std::int64_t text_layers = models::text_layers_of(models::names_of(parameters));
  for (const std::string& glob : globs) {
    bool used = false;
    for (auto& [ours, parameter] : parameters) {
      if (!matches_glob(glob, ours) && !matches_glob(glob, models::xvlm_name(ours, text_layers))) continue;
      parameter.set_requires_grad(false);
      used = true;
    }
    if (used) continue;
    const std::string near = nearest_glob(glob, parameters, text_layers);
    TORCH_CHECK(false, key, ": \"", glob, "\" fits no parameter of this run", near.empty() ? " (fgvl info shows the modules)" : absl::StrCat(" (did you mean \"", near, "\"?)"));
  }
  Frozen frozen;
  for (const auto& [name, parameter] : parameters) {
    frozen.total += parameter.numel();
    if (parameter.requires_grad()) frozen.trained += parameter.numel();
  }
  TORCH_CHECK(frozen.trained > 0, key, ": [", absl::StrJoin(globs, ", "), "] fits every parameter of this run, so that nothing would train");
  return frozen;
}

void train_unfrozen(torch::nn::Module& module) {
  module.train();
  for (const auto& part : module.modules()) {
    const auto own = part->parameters(/*recurse=*/false);
    const bool frozen = !own.empty() && std::none_of(own.begin(), own.end(), [](const Tensor& parameter) { return parameter.requires_grad(); });
    if (frozen && part->named_buffers(/*recurse=*/false).contains("running_mean")) part->eval();
  }
}

AdamW::AdamW(const NamedTensors& parameters, const OptimizerOptions& options) : options_(options) {
  const std::int64_t text_layers = models::text_layers_of(models::names_of(parameters));
  std::vector<bool> used(options.groups.size(), false);
  for (const auto& [name, parameter] : parameters) {
    const std::string official = models::xvlm_name(name, text_layers);
    Group wanted{.decayed = options.decayed == Decayed::kXvlm ? decayed_by_name(official) : parameter.dim() >= 2};
    for (std::size_t group = 0; group < options.groups.size(); ++group) {
      const std::vector<std::string>& globs = options.groups[group].second.parameters;
      if (!matches_any(globs, name) && !matches_any(globs, official)) continue;
      wanted.lr_factor = options.groups[group].second.lr_factor;
      used[group] = true;
    }
    if (!parameter.requires_grad()) continue;
    slots_.push_back({name, parameter, torch::zeros_like(parameter), torch::zeros_like(parameter), torch::zeros({}, parameter.options().dtype(at::kFloat)), 0});
    for (Tensor* own : {&slots_.back().first_moment, &slots_.back().second_moment, &slots_.back().steps}) own->set_requires_grad(false);
    auto found = std::find_if(groups_.begin(), groups_.end(), [&](const Group& group) { return group.decayed == wanted.decayed && group.lr_factor == wanted.lr_factor; });
    if (found == groups_.end()) found = groups_.insert(groups_.end(), wanted);
    found->slots.push_back(slots_.size() - 1);
  }
  for (std::size_t group = 0; group < used.size(); ++group) {
    TORCH_CHECK(used[group], "train.optimizer.groups.", options.groups[group].first, ".parameters: [", absl::StrJoin(options.groups[group].second.parameters, ", "), "] fits no parameter of this run; the first is ",
                parameters.empty() ? std::string("missing") : parameters.front().first, ", and fgvl info shows the modules");
  }
}

void AdamW::zero_grad() {
  gradient_factor_ = 1;
  for (Slot& slot : slots_) slot.parameter.mutable_grad() = Tensor();
}

double AdamW::clip(double clip_norm) {
  torch::NoGradGuard guard;
  gradient_factor_ = 1;
  std::vector<Tensor> gradients;
  for (const Slot& slot : slots_) {
    if (slot.parameter.grad().defined()) gradients.push_back(slot.parameter.grad());
  }
  if (gradients.empty()) return 0;
  const double norm = at::stack(at::_foreach_norm(gradients)).norm().item<double>();
  if (clip_norm > 0 && norm > clip_norm) gradient_factor_ = clip_norm / (norm + 1e-6);
  return norm;
}

// Both updates are PyTorch's fused kernel, one pass over memory. With s = 1 - beta2^t, PyTorch has p -= lr weight_decay p, then p -= lr / (1 - beta1^t) m / (sqrt(v / s) + eps). transformers has
// p -= lr sqrt(s) / (1 - beta1^t) m / (sqrt(v) + eps), which is the same with eps / sqrt(s) for eps, then p -= lr weight_decay p.
void AdamW::step(double lr) {
  torch::NoGradGuard guard;
  for (const Group& group : groups_) {
    std::map<double, Lists> by_eps;  // one, but where parameters have seen different numbers of steps
    for (const std::size_t index : group.slots) {
      Slot& slot = slots_[index];
      if (!slot.parameter.grad().defined()) continue;
      slot.steps.add_(1);
      Lists& lists = by_eps[eps_at(++slot.steps_done)];
      lists.parameters.push_back(slot.parameter);
      lists.gradients.push_back(slot.parameter.grad());
      lists.first.push_back(slot.first_moment);
      lists.second.push_back(slot.second_moment);
      lists.steps.push_back(slot.steps);
    }
    const double group_lr = lr * group.lr_factor, weight_decay = group.decayed ? options_.weight_decay : 0.0;
    const bool decays_last = options_.update == Update::kTransformers;
    for (const auto& [eps, lists] : by_eps) {
      // The kernel divides gradients by it, and writes them back.
      const auto scale = gradient_factor_ == 1 ? std::nullopt : std::optional<Tensor>(at::full({}, 1 / gradient_factor_, lists.steps.front().options()));
      at::_fused_adamw_(lists.parameters, lists.gradients, lists.first, lists.second, /*max_exp_avg_sqs=*/{}, lists.steps, group_lr, options_.beta1, options_.beta2, decays_last ? 0.0 : weight_decay, eps, /*amsgrad=*/false,
                        /*maximize=*/false, scale);
      if (decays_last && weight_decay > 0) at::_foreach_mul_(lists.parameters, 1 - group_lr * weight_decay);
    }
  }
  gradient_factor_ = 1;
}

double AdamW::eps_at(std::int64_t steps_done) const {
  return options_.update == Update::kTorch ? options_.eps : options_.eps / std::sqrt(1 - std::pow(options_.beta2, static_cast<double>(steps_done)));
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
        return with_exit_code(absl::InvalidArgumentError(absl::StrCat("optimizer state: ", prefix, slot.name,
                                                                      found == by_name.end() ? " is missing: the checkpoint belongs to another model, or to a run that did not train this parameter (train.freeze)"
                                                                                             : " has another shape: the checkpoint belongs to another model")),
                              ExitCode::kCheckpoint);
      }
      target->copy_(found->second);
    }
    slot.steps_done = static_cast<std::int64_t>(slot.steps.item<float>());
  }
  return absl::OkStatus();
}

}  // namespace fgvl::train
