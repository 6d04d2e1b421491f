#include "checkpoint_info.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>
#include <torch/torch.h>

#include "fgvl/core/checkpoint_file.hpp"
#include "fgvl/core/glob.hpp"
#include "fgvl/models/name_map.hpp"

namespace fgvl::app {
namespace {

constexpr double kMega = 1 << 20;
constexpr double kTrainingBytes = 16;  // weight, gradient and two moments in float32

/// Tensors that are weights of their own: no second name of a tied one, no derived table.
NamedTensors own_weights(const CheckpointFile& file, const models::NameMap* map) {
  NamedTensors own;
  std::set<std::tuple<const void*, std::vector<std::int64_t>>> seen;
  for (const auto& [name, tensor] : file.tensors) {
    const auto is_tied = [&, key = name](const models::TiedName& tie) { return tie.name == key; };
    if (map != nullptr && (matches_any(map->derived, name) || std::any_of(map->ties.begin(), map->ties.end(), is_tied))) continue;
    if (tensor.numel() > 0 && !seen.insert({tensor.const_data_ptr(), tensor.sizes().vec()}).second) continue;
    own.emplace_back(name, tensor);
  }
  return own;
}

/// "vision_encoder" of official names, "model.vision_encoder" of ours.
std::string module_of(const std::string& name) {
  std::size_t end = name.find('.');
  if (end != std::string::npos && (name.rfind("model.", 0) == 0 || name.rfind("losses.", 0) == 0)) end = name.find('.', end + 1);
  return name.substr(0, end);
}

const Tensor* find(const CheckpointFile& file, const std::string& name) {
  const auto found = std::find_if(file.tensors.begin(), file.tensors.end(), [&](const auto& entry) { return entry.first == name; });
  return found == file.tensors.end() ? nullptr : &found->second;
}

std::int64_t extent(const Tensor* tensor, std::int64_t dimension) { return tensor != nullptr && tensor->dim() > dimension ? tensor->size(dimension) : 0; }

/// Layers below `prefix`: one more than the largest number.
std::int64_t layers_below(const std::vector<std::string>& names, const std::string& prefix) {
  std::int64_t layers = 0;
  for (const std::string& name : names) {
    if (name.rfind(prefix, 0) == 0) layers = std::max<std::int64_t>(layers, std::atoll(name.c_str() + prefix.size()) + 1);
  }
  return layers;
}

/// The sizes of an X-VLM, read off its tensors under official or our names.
void print_xvlm(const CheckpointFile& file, const std::vector<std::string>& names, bool ours) {
  const std::string model = ours ? "model." : "", text = ours ? "model.text_encoder." : "text_encoder.bert.", vision = model + "vision_encoder.";
  const std::int64_t text_layers = models::text_layers_of(names);
  const std::int64_t fusion_layers = ours ? layers_below(names, "model.fusion_encoder.layer.") : layers_below(names, "text_encoder.bert.encoder.layer.") - text_layers;
  const Tensor* words = find(file, text + "embeddings.word_embeddings.weight");
  absl::PrintF("text       %d layers + %d fusion layers, %d wide, %d words, texts of up to %d tokens\n", text_layers, fusion_layers, extent(words, 1), extent(words, 0),
               extent(find(file, text + "embeddings.position_embeddings.weight"), 0));
  std::string kind = "unknown";
  std::int64_t patch = 0, patches = 0, layers = 0;
  if (const Tensor* clip = find(file, vision + "patch_embed.weight"); find(file, vision + "class_embedding") != nullptr) {
    kind = "CLIP-ViT";
    patch = extent(clip, 2);
    patches = extent(find(file, vision + "pos_embed.weight"), 0) - 1;
    layers = layers_below(names, vision + "encoder.layers.");
  } else if (find(file, vision + "layers.0.blocks.0.attn.relative_position_bias_table") != nullptr) {
    kind = "Swin";
    layers = layers_below(names, vision + "layers.");
  } else if (find(file, vision + "cls_token") != nullptr || find(file, vision + "pos_embed") != nullptr) {
    kind = "ViT";
    patch = extent(find(file, vision + "patch_embed.proj.weight"), 2);
    patches = extent(find(file, vision + "pos_embed"), 1) - 1;
    layers = layers_below(names, vision + "blocks.");
  }
  absl::PrintF("vision     %s, %d %s, output %d wide", kind, layers, kind == "Swin" ? "stages" : "layers", extent(find(file, model + "vision_proj.weight"), 1));
  if (patch > 0 && patches > 0) absl::PrintF(", patches of %d, images of %d", patch, patch * static_cast<std::int64_t>(std::llround(std::sqrt(static_cast<double>(patches)))));
  absl::PrintF("\nembedding  %d wide\n", extent(find(file, model + "vision_proj.weight"), 0));
}

void print_not_finite(const CheckpointFile& file) {
  constexpr int kShown = 10;
  int tensors = 0;
  for (const auto& [name, tensor] : file.tensors) {
    if (!tensor.is_floating_point() || tensor.numel() == 0) continue;
    const std::int64_t bad = tensor.numel() - tensor.isfinite().sum().item<std::int64_t>();
    file.release(tensor);
    if (bad == 0) continue;
    if (++tensors == 1) absl::PrintF("\nNOT FINITE\n");
    if (tensors <= kShown) absl::PrintF("  %s: %d of %d numbers\n", name, bad, tensor.numel());
  }
  if (tensors > kShown) absl::PrintF("  ... %d tensors in all\n", tensors);
}

}  // namespace

absl::StatusOr<ExitCode> checkpoint_info(const std::string& path) {
  FGVL_ASSIGN_OR_RETURN(const CheckpointFile file, open_checkpoint(path));
  const std::vector<std::string> names = models::names_of(file.tensors);
  const models::NameMap* map = models::recognise(names);
  absl::PrintF("weights    %s\n", absl::StrJoin(file.files, ", "));
  absl::PrintF("format     %s", format_name(file.format));
  if (!file.section.empty()) absl::PrintF(", under \"%s\"", file.section);
  if (!file.others.empty()) absl::PrintF("; not weights: %s", absl::StrJoin(file.others, ", "));
  absl::PrintF("\nfamily     %s\n", map == nullptr ? "unknown" : map->title);
  if (map != nullptr && (map->family == "xvlm" || map->family == "fgvl")) print_xvlm(file, names, map->family == "fgvl");
  if (!file.config_json.empty()) absl::PrintF("config     %d bytes of JSON came with the weights\n", file.config_json.size());
  for (const auto& [key, value] : file.metadata) {
    if (key != "config") absl::PrintF("metadata   %s: %s\n", key, value);
  }
  if (!file.constants.empty()) absl::PrintF("constants  %d tensors of its code, which is not read\n", file.constants.size());

  std::map<std::string, std::int64_t> dtypes;
  double bytes = 0;
  for (const auto& [name, tensor] : file.tensors) ++dtypes[c10::toString(tensor.scalar_type())];
  std::vector<std::pair<std::string, std::int64_t>> modules;
  std::int64_t total = 0;
  for (const auto& [name, tensor] : own_weights(file, map)) {
    const std::string module = module_of(name);
    auto found = std::find_if(modules.begin(), modules.end(), [&](const auto& entry) { return entry.first == module; });
    if (found == modules.end()) found = modules.insert(modules.end(), {module, 0});
    found->second += tensor.numel();
    total += tensor.numel();
    bytes += static_cast<double>(tensor.nbytes());
  }
  absl::PrintF("tensors    %d (%s)\n\nparameters\n", file.tensors.size(), absl::StrJoin(dtypes, ", ", [](std::string* out, const auto& entry) { absl::StrAppend(out, entry.second, " ", entry.first); }));
  for (const auto& [module, count] : modules) absl::PrintF("  %-24s %12d\n", module, count);
  absl::PrintF("  %-24s %12d\n\nmemory: %.1f MiB to run, %.1f MiB to train (weights, gradients and optimizer; activations come on top)\n", "total", total, bytes / kMega,
               kTrainingBytes * static_cast<double>(total) / kMega);
  print_not_finite(file);
  return ExitCode::kOk;
}

}  // namespace fgvl::app
