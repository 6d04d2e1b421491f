#include <iostream>

#include <torch/torch.h>

#include "commands.hpp"
#include "fgvl/core/device.hpp"
#include "fgvl/core/files.hpp"
#include "fgvl/train/checkpoint.hpp"

namespace fgvl::app {
namespace {

struct EvalArguments {
  std::string path, json;
  std::vector<std::string> overrides;
};

absl::StatusOr<ExitCode> evaluate(const EvalArguments& arguments) {
  std::vector<std::string> notes;
  FGVL_ASSIGN_OR_RETURN(const std::string checkpoint, train::find_checkpoint(arguments.path, &notes));
  for (const std::string& note : notes) std::cerr << note << std::endl;
  const absl::StatusOr<train::RunConfig> saved = read_config(checkpoint + "/config.yaml", {});
  if (!saved.ok()) return with_exit_code(saved.status(), ExitCode::kCheckpoint);
  const train::RunConfig& trained = *saved;
  // Scored is what the run held out, unless another part is asked for.
  std::vector<std::string> overrides = arguments.overrides;
  if (trained.data.split == data::Split::kTrain) overrides.insert(overrides.begin(), "data.split=held_out");
  FGVL_ASSIGN_OR_RETURN(train::LoadedRun run, train::load_run(checkpoint, registries(), overrides));
  const at::Device device = parse_device(run.config.device);
  run.model->to(device);
  run.criterion->to(device);
  const data::Split split = run.config.data.split;
  if (trained.data.split == data::Split::kAll && run.config.data.root == trained.data.root) std::cerr << "this run trained on all of its data: no picture of it is held out" << std::endl;
  if (split != data::Split::kHeldOut) std::cerr << "baselines are left out: they are fitted on the training split, which is among the scored pictures" << std::endl;
  const train::ProbeContext context{std::make_shared<data::DataConfig>(run.config.data), split, run.texts};
  if (run.config.probes.empty()) return absl::InvalidArgumentError("this run has no probes; add some, for example probes.boxes.type=boxes");
  torch::NoGradGuard guard;
  train::Metrics metrics;
  std::cerr << "checkpoint " << run.checkpoint << std::endl;
  for (const auto& [name, config] : run.config.probes) {
    if (config.when == train::When::kDuring) continue;  // the short form of one that runs at the end
    absl::StatusOr<train::ProbePtr> probe = config.probe.make(context);
    if (!probe.ok()) return annotate(probe.status(), "probes." + name);
    absl::StatusOr<train::Metrics> result = (*probe)->run({*run.model, *run.criterion, device});
    if (!result.ok()) return annotate(result.status(), "probes." + name);
    metrics.insert(metrics.end(), result->begin(), result->end());
  }
  for (const auto& [name, value] : metrics) {
    std::cout << name << "  ";
    if (const auto* number = std::get_if<double>(&value)) std::cout << *number;
    if (const auto* count = std::get_if<std::int64_t>(&value)) std::cout << *count;
    if (std::holds_alternative<std::monostate>(value)) std::cout << "-";
    std::cout << "\n";
  }
  std::cout << std::flush;
  if (!arguments.json.empty()) FGVL_RETURN_IF_ERROR(with_exit_code(write_file_atomically(arguments.json, train::to_json(metrics) + "\n"), ExitCode::kCheckpoint));
  return ExitCode::kOk;
}

}  // namespace

void add_eval(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<EvalArguments>();
  CLI::App* command = app.add_subcommand("eval", "Score a trained model on held-out data, or on other data of the same kind");
  command->add_option("RUN", arguments->path, "Folder of a run or of a checkpoint")->required();
  command->add_option("--json", arguments->json, "Also write the results to this file");
  command->add_option("OVERRIDES", arguments->overrides, "key.sub=value, such as data.root=OTHER data.split=all");
  command->callback([arguments, &chosen] { chosen = [arguments] { return evaluate(*arguments); }; });
}

}  // namespace fgvl::app
