#include "fgvl/models/pretrained.hpp"

#include <sstream>
#include <vector>

#include <torch/torch.h>

namespace fgvl::models {
namespace {

struct Prefix {
  const char* ours;
  const char* theirs;
};
// Terms are found by what they hold, because their names are the user's.
constexpr Prefix kTermParts[] = {{".itm_head.", "itm_head."},
                                 {".temperature.temp", "temp"},
                                 {".dense.", "text_encoder.cls.predictions.transform.dense."},
                                 {".LayerNorm.", "text_encoder.cls.predictions.transform.LayerNorm."},
                                 {".bias", "text_encoder.cls.predictions.bias"}};

}  // namespace

std::string xvlm_name(const std::string& name, std::int64_t text_layers) {
  const auto after = [&](const std::string& prefix) { return name.substr(prefix.size()); };
  const std::string fusion = "model.fusion_encoder.layer.", text = "model.text_encoder.", model = "model.", losses = "losses.";
  if (name.rfind(fusion, 0) == 0) {
    const std::string rest = after(fusion);
    const std::size_t dot = rest.find('.');
    return "text_encoder.bert.encoder.layer." + std::to_string(std::stoll(rest.substr(0, dot)) + text_layers) + rest.substr(dot);
  }
  if (name.rfind(text + "layer.", 0) == 0) return "text_encoder.bert.encoder." + after(text);
  if (name.rfind(text, 0) == 0) return "text_encoder.bert." + after(text);
  if (name.rfind(model, 0) == 0) return after(model);
  if (name.rfind(losses, 0) == 0) {
    const std::size_t dot = name.find('.', losses.size());
    const std::string rest = name.substr(dot);
    for (const Prefix& part : kTermParts) {
      if (rest.rfind(part.ours, 0) == 0) return part.theirs + rest.substr(std::string(part.ours).size());
    }
  }
  return name;
}

std::vector<std::pair<std::string, Tensor>> named_state(const torch::nn::Module& module, const std::string& prefix) {
  std::vector<std::pair<std::string, Tensor>> state;
  for (const auto& parameter : module.named_parameters()) state.emplace_back(prefix + parameter.key(), parameter.value());
  for (const auto& buffer : module.named_buffers()) state.emplace_back(prefix + buffer.key(), buffer.value());
  return state;
}

void load_tensors(torch::nn::Module& module, const std::string& prefix, const std::map<std::string, Tensor>& tensors,
                  const std::function<std::string(const std::string&)>& rename) {
  std::ostringstream problems;
  int count = 0;
  std::vector<std::pair<Tensor, Tensor>> copies;
  for (const auto& [name, target] : named_state(module, prefix)) {
    const std::string wanted = rename(name);
    const auto found = tensors.find(wanted);
    if (found == tensors.end()) {
      if (++count <= 8) problems << "\n  " << wanted << ": not in the checkpoint";
    } else if (found->second.sizes() != target.sizes()) {
      if (++count <= 8) problems << "\n  " << wanted << ": " << found->second.sizes() << " in the checkpoint, " << target.sizes() << " in the model";
    } else {
      copies.emplace_back(target, found->second);
    }
  }
  TORCH_CHECK(count == 0, "[load_tensors] the checkpoint belongs to another model: ", count, " tensors do not fit", problems.str(), count > 8 ? "\n  ..." : "");
  torch::NoGradGuard guard;
  for (auto& [target, source] : copies) target.copy_(source);
}

}  // namespace fgvl::models
