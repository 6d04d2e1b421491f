#pragma once
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <torch/nn/module.h>

#include "fgvl/core/tensor.hpp"

namespace fgvl::models {

/// The official X-VLM name of one of our parameters ("model.fusion.encoder.layer.0..." -> "text_encoder.bert.encoder.layer.6..."); `text_layers` is
/// the number of text layers before fusion. Names are as in a checkpoint: "model.<parameter>" or "losses.<term>.<parameter>".
std::string xvlm_name(const std::string& name, std::int64_t text_layers);

/// Copies tensors into the parameters and buffers of `module`, whose names are `prefix` + the module's own, found in `tensors` under `rename(name)`.
/// Throws c10::Error that lists every missing tensor and every difference in shape; nothing is changed then.
void load_tensors(torch::nn::Module& module, const std::string& prefix, const std::map<std::string, Tensor>& tensors,
                  const std::function<std::string(const std::string&)>& rename = [](const std::string& name) { return name; });

/// Every parameter and buffer of `module` by name, in a fixed order.
std::vector<std::pair<std::string, Tensor>> named_state(const torch::nn::Module& module, const std::string& prefix);

}  // namespace fgvl::models
