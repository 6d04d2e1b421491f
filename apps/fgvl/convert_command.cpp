#include <algorithm>
#include <filesystem>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>

#include "commands.hpp"
#include "fgvl/core/checkpoint_file.hpp"
#include "fgvl/core/glob.hpp"
#include "fgvl/models/pretrained.hpp"

namespace fgvl::app {
namespace {

constexpr char kKeep[] = "keep";

struct ConvertArguments {
  std::string in, out, names = kKeep;
};

absl::Status refused(const std::string& path, const std::string& what) { return with_exit_code(absl::InvalidArgumentError(absl::StrCat(path, ": ", what)), ExitCode::kCheckpoint); }

/// "image_queue, visual_encoder_m.* (30)": state of an objective by the globs of its family.
std::string summary_of(const std::vector<std::string>& names, const std::vector<std::string>& globs) {
  std::vector<std::string> parts;
  for (const std::string& glob : globs) {
    const auto count = std::count_if(names.begin(), names.end(), [&](const std::string& name) { return matches_glob(glob, name); });
    if (count > 0) parts.push_back(count == 1 ? glob : absl::StrCat(glob, " (", count, ")"));
  }
  return absl::StrJoin(parts, ", ");
}

/// What is written, and what `convert` must say of what is not.
struct Renamed {
  NamedTensors tensors{};
  std::string left_out{};
};

absl::StatusOr<Renamed> renamed(const ConvertArguments& arguments, const CheckpointFile& file) {
  if (arguments.names == kKeep) return Renamed{file.tensors, ""};
  const models::NameMap *from = models::recognise(models::names_of(file.tensors)), *to = models::find_name_map(arguments.names);
  if (from == nullptr) return refused(arguments.in, "its names belong to no known family; --names keep leaves them as they are");
  if (from->rules.empty()) return refused(arguments.in, absl::StrCat("these are weights of ", from->title, ", whose names this version cannot translate; --names keep leaves them as they are"));
  models::Translated translated = models::translate(file.tensors, *from, *to);
  if (!translated.problems.empty()) {
    constexpr std::size_t kShown = 8;
    const std::size_t count = translated.problems.size();
    translated.problems.resize(std::min(count, kShown));
    return refused(arguments.in, absl::StrCat("cannot be written under the names of ", to->title, " (", count, " problems):\n  ", absl::StrJoin(translated.problems, "\n  "), count > kShown ? "\n  ..." : ""));
  }
  return Renamed{std::move(translated.tensors), summary_of(translated.left_out, from->objective_state)};
}

absl::StatusOr<ExitCode> convert(const ConvertArguments& arguments) {
  const std::string extension = std::filesystem::path(arguments.out).extension().string();
  const bool safetensors = extension == ".safetensors", flat = extension == ".bin", torch = flat || extension == ".th" || extension == ".pt" || extension == ".pth";
  if (!safetensors && !torch) return absl::InvalidArgumentError(absl::StrCat(arguments.out, ": what to write is chosen by the ending: .safetensors, .th, .pt, .pth or .bin (a folder that ground, score and rank use is made by `fgvl import`)"));
  std::error_code error;
  if (std::filesystem::equivalent(arguments.in, arguments.out, error)) return absl::InvalidArgumentError(absl::StrCat(arguments.out, ": would replace what is read"));
  FGVL_ASSIGN_OR_RETURN(const CheckpointFile file, open_checkpoint(arguments.in));
  FGVL_ASSIGN_OR_RETURN(const Renamed content, renamed(arguments, file));
  absl::Status written;
  if (safetensors) {
    std::map<std::string, std::string> metadata = file.metadata;
    if (arguments.names == kKeep) {
      metadata.try_emplace("format", "pt");
    } else {
      metadata["format"] = arguments.names == "fgvl" ? "fgvl 1" : "pt";
    }
    if (!file.config_json.empty()) metadata["config"] = file.config_json;
    written = write_safetensors(arguments.out, content.tensors, metadata);
  } else {
    written = write_torch_file(arguments.out, content.tensors, {.section = flat ? "" : "model", .config_json = flat ? "" : file.config_json});
  }
  if (!written.ok()) return with_exit_code(written, ExitCode::kCheckpoint);
  absl::PrintF("%s: %d tensors, %s\n", arguments.out, content.tensors.size(), safetensors ? "safetensors" : flat ? "PyTorch (zip)" : "PyTorch (zip), under \"model\"");
  if (!file.others.empty()) absl::FPrintF(stderr, "not weights, left out: %s\n", absl::StrJoin(file.others, ", "));
  if (!content.left_out.empty()) absl::FPrintF(stderr, "state of the official objective, left out: %s\n", content.left_out);
  if (flat && !file.config_json.empty()) absl::FPrintF(stderr, "a .bin file holds weights alone; the configuration that came with them was left out\n");
  return ExitCode::kOk;
}

}  // namespace

void add_convert(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<ConvertArguments>();
  std::vector<std::string> families = {kKeep};
  for (const models::NameMap& map : models::name_maps()) {
    if (!map.rules.empty()) families.push_back(map.family);
  }
  CLI::App* command = app.add_subcommand("convert", "Write weights in another format or under other names");
  command->add_option("IN", arguments->in, "File or folder of weights: PyTorch, safetensors, Hugging Face")->required();
  command->add_option("OUT", arguments->out, "File to write; its ending chooses the format: .safetensors, .th, .pt, .pth, or .bin (PyTorch, weights alone)")->required();
  command->add_option("--names", arguments->names, "Names to write: as they are, this library's, or a family's official ones")->check(CLI::IsMember(families))->capture_default_str();
  command->callback([arguments, &chosen] { chosen = [arguments] { return convert(*arguments); }; });
}

}  // namespace fgvl::app
