#include "checkpoint_info.hpp"

#include <algorithm>
#include <set>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>
#include <torch/torch.h>

#include "fgvl/core/checkpoint_file.hpp"
#include "fgvl/core/glob.hpp"
#include "fgvl/models/name_map.hpp"
#include "fgvl/train/import.hpp"
#include "model_settings.hpp"

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

/// What it takes to use the file, and what to type.
void print_next(const std::string& path, const train::Recognised& recognised) {
  if (recognised.family == nullptr) return;
  if (recognised.family->rules.empty() || !recognised.model.problems.empty()) {
    absl::PrintF("to run     this version cannot use it%s%s\n", recognised.model.problems.empty() ? "" : ": ", absl::StrJoin(recognised.model.problems, "; "));
    return;
  }
  std::string command = absl::StrCat("fgvl import ", path, " FOLDER --vocabulary vocab.txt");
  for (const models::Setting& setting : recognised.settings) {
    if (setting.source == models::SettingSource::kUnknown) absl::StrAppend(&command, " ", setting.key, "=...");
  }
  absl::PrintF("to run     the vocabulary of %d words that it was trained with\nnext       %s\n", recognised.model.vocab_size, command);
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
  const train::Recognised recognised = train::recognise(file);
  const models::NameMap* map = recognised.family;
  absl::PrintF("weights    %s\n", absl::StrJoin(file.files, ", "));
  absl::PrintF("format     %s", format_name(file.format));
  if (!file.section.empty()) absl::PrintF(", under \"%s\"", file.section);
  if (!file.wrapper.empty()) absl::PrintF(", names below \"%s\"", file.wrapper);
  if (!file.others.empty()) absl::PrintF("; not weights: %s", absl::StrJoin(file.others, ", "));
  absl::PrintF("\nfamily     %s\n", map == nullptr ? "unknown" : map->title);
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
  absl::PrintF("tensors    %d (%s)\n", file.tensors.size(), absl::StrJoin(dtypes, ", ", [](std::string* out, const auto& entry) { absl::StrAppend(out, entry.second, " ", entry.first); }));
  print_settings(recognised.settings);
  absl::PrintF("\nparameters\n");
  for (const auto& [module, count] : modules) absl::PrintF("  %-24s %12d\n", module, count);
  absl::PrintF("  %-24s %12d\n\nmemory: %.1f MiB to run, %.1f MiB to train (weights, gradients and optimizer; activations come on top)\n", "total", total, bytes / kMega,
               kTrainingBytes * static_cast<double>(total) / kMega);
  print_next(path, recognised);
  print_not_finite(file);
  return ExitCode::kOk;
}

}  // namespace fgvl::app
