#include <filesystem>
#include <iostream>

#include <absl/strings/str_cat.h>

#include "commands.hpp"
#include "console.hpp"
#include "fgvl/core/device.hpp"
#include "fgvl/core/files.hpp"
#include "fgvl/train/explain.hpp"
#include "run_report.hpp"

namespace fgvl::app {
namespace {

struct TrainArguments {
  std::string config, out, resume;
  bool dry_run = false, explain = false;
  std::vector<std::string> overrides;
};

absl::StatusOr<ExitCode> train(const TrainArguments& arguments) {
  FGVL_ASSIGN_OR_RETURN(const train::RunConfig config, read_config(arguments.config, arguments.overrides));
  if (arguments.explain) {
    FGVL_ASSIGN_OR_RETURN(const std::string text, train::explain(config, arguments.config));
    std::cout << text << std::flush;
    return ExitCode::kOk;
  }
  const std::string out = arguments.out.empty() ? absl::StrCat("runs/", std::filesystem::path(arguments.config).stem().string()) : arguments.out;
  Console console(std::filesystem::path(out).filename().string());
  train::TrainerOptions options{.out = arguments.dry_run ? "" : out, .resume = !arguments.resume.empty(), .stop = &stop_requested(), .progress = &console};
  FGVL_ASSIGN_OR_RETURN(const std::unique_ptr<train::Trainer> trainer, train::Trainer::make(config, options));
  if (arguments.dry_run) {
    std::cout << config::to_yaml(config) << std::flush;
    std::cerr << "configuration, data and model are in order; nothing was trained (--dry-run)" << std::endl;
    return ExitCode::kOk;
  }
  console.on_message("writing to " + out);
  const absl::StatusOr<train::TrainResult> finished = [&] {
    const StopOnSignal scope;
    return trainer->run();
  }();
  if (!finished.ok()) return finished.status();
  const train::TrainResult& result = *finished;
  if (result.interrupted) {
    console.on_message(absl::StrCat("interrupted at step ", result.step, " and saved; go on with --resume latest"));
    return ExitCode::kInterrupted;
  }
  trainer->model().eval();
  const at::Device device = parse_device(config.device);
  eval::ReportContent content{.title = "fgvl run: " + std::filesystem::path(out).filename().string(), .introduction = absl::StrCat("Trained for ", result.step, " steps from ", arguments.config, ".")};
  FGVL_ASSIGN_OR_RETURN(eval::ReportArm arm, report_arm(std::filesystem::path(out).filename().string(), "", out, result));
  content.arms.push_back(std::move(arm));
  const bool with_predictions = learns_boxes(config);
  FGVL_ASSIGN_OR_RETURN(content.pictures, report_pictures({trainer->model(), trainer->criterion(), device}, config.data, *trainer->texts(), with_predictions, 12));
  content.pictures_caption = pictures_caption(with_predictions);
  content.settings = {{"config.yaml", config::to_yaml(config)}};
  content.environment = environment_text(device.str());
  FGVL_RETURN_IF_ERROR(with_exit_code(write_file_atomically(out + "/report.html", eval::render_report(content)), ExitCode::kCheckpoint));
  std::int64_t skipped = 0;
  for (const auto& [cause, number] : result.counts.skipped) skipped += number;
  std::cout << train::to_json(result.metrics) << std::endl;
  console.on_message(absl::StrCat("done: ", result.step, " steps in ", duration_text(result.seconds), ", ", skipped, " records or regions left out; report: ", out, "/report.html"));
  return ExitCode::kOk;
}

}  // namespace

void add_train(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<TrainArguments>();
  CLI::App* command = app.add_subcommand("train", "Train a model from a configuration file");
  command->add_option("CONFIG", arguments->config, "YAML file; see docs/configuration.md")->required();
  command->add_option("--out", arguments->out, "Folder of the run (default: runs/<name of CONFIG>)");
  command->add_option("--resume", arguments->resume, "`latest`: go on from the newest valid checkpoint in the folder")->check(CLI::IsMember({"latest"}));
  command->add_flag("--dry-run", arguments->dry_run, "Check configuration, data and model, print the resolved configuration, and stop");
  command->add_flag("--explain", arguments->explain, "Print the objective as a person reads it: terms, weights, stages, which parts of the model run how often, what each term costs; train nothing");
  command->add_option("OVERRIDES", arguments->overrides, "key.sub=value, over the file");
  command->callback([arguments, &chosen] { chosen = [arguments] { return train(*arguments); }; });
}

}  // namespace fgvl::app
