#include <exception>
#include <filesystem>
#include <functional>
#include <iostream>
#include <thread>

#include <ATen/Parallel.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "commands.hpp"
#include "console.hpp"
#include "demo_config.hpp"
#include "fgvl/core/device.hpp"
#include "fgvl/core/files.hpp"
#include "fgvl/data/synthetic.hpp"
#include "run_report.hpp"
#include "side_by_side_console.hpp"

namespace fgvl::app {
namespace {

struct DemoArguments {
  std::string out = "runs/demo";
  std::int64_t seed = 1, steps = 0;
};

struct Arm {
  const char* name;
  const char* description;
  const char* config;  ///< of demo_files()
};

const std::vector<Arm>& arms() {
  static const std::vector<Arm> all = {
      {"captions", "whole pictures and captions only", "configs/ablations/captions_only.yaml"},
      {"regions", "also region descriptions and boxes", "configs/demo.yaml"},
      {"foils", "as regions, and foils ranked below true texts", "configs/demo_foils.yaml"},
  };
  return all;
}

constexpr int kProbesDuringTraining = 6;

absl::StatusOr<train::RunConfig> arm_config(const Arm& arm, const DemoArguments& arguments) {
  FGVL_ASSIGN_OR_RETURN(config::Document document, config::Document::parse(demo_files(), arm.config));
  FGVL_RETURN_IF_ERROR(document.override_with({absl::StrCat("seed=", arguments.seed)}));
  FGVL_ASSIGN_OR_RETURN(train::RunConfig config, config::read(document, train::RunConfig(registries())));
  if (arguments.steps > 0) config.train.steps = arguments.steps;
  config.probe_every = std::max<std::int64_t>(1, config.train.steps / kProbesDuringTraining);
  return config;
}

/// One arm on its way.
struct Running {
  train::RunConfig config;
  std::unique_ptr<train::Trainer> trainer{};
  train::TrainResult result{};
  absl::Status status{};
  std::exception_ptr thrown{};
};

void train_arm(const std::string& folder, train::Progress& progress, Running& own) {
  try {
    absl::StatusOr<std::unique_ptr<train::Trainer>> made = train::Trainer::make(own.config, {.out = folder, .stop = &stop_requested(), .progress = &progress});
    own.status = made.status();
    if (made.ok()) {
      own.trainer = std::move(*made);
      absl::StatusOr<train::TrainResult> result = own.trainer->run();
      own.status = result.status();
      if (result.ok()) own.result = std::move(*result);
    }
  } catch (...) {
    own.thrown = std::current_exception();  // thrown again in the thread that reports it
  }
  if (!own.status.ok() || own.thrown) request_stop();
}

/// All arms to their end. On the CPU side by side, each with its share of the cores: operators this small do not keep several threads busy, so that three steps
/// at once take a fifth less time than three one after the other. A GPU takes them in turn.
absl::StatusOr<std::vector<Running>> train_arms(const DemoArguments& arguments, const std::vector<train::RunConfig>& configs, bool side_by_side) {
  std::vector<Running> running;
  for (const train::RunConfig& config : configs) running.push_back({config});
  std::vector<std::string> names;
  for (const Arm& arm : arms()) names.emplace_back(arm.name);
  {
    SideBySideConsole console(names);
    const StopOnSignal scope;
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < running.size(); ++i) {
      if (side_by_side) running[i].config.threads = std::max<std::int64_t>(1, at::get_num_threads() / static_cast<std::int64_t>(running.size()));
      threads.emplace_back(train_arm, absl::StrCat(arguments.out, "/", names[i]), std::ref(console.of(i)), std::ref(running[i]));
      if (!side_by_side) threads.back().join();
    }
    for (std::thread& thread : threads) {
      if (thread.joinable()) thread.join();
    }
  }
  for (const Running& own : running) {
    if (own.thrown) std::rethrow_exception(own.thrown);
    FGVL_RETURN_IF_ERROR(own.status);
  }
  return running;
}

/// summary.json: what programs read.
std::string summary(const std::vector<eval::ReportArm>& finished, double seconds, std::int64_t seed, std::int64_t steps) {
  train::Metrics all = {{"seconds", seconds}, {"seed", seed}, {"steps", steps}};
  const auto copy = [&](const eval::ReportArm& arm, const std::string& name, const std::string& as) {
    train::MetricValue found;
    for (const auto& [known, value] : arm.metrics) {
      if (known == name) found = value;
    }
    all.emplace_back(absl::StrCat("arms/", arm.name, "/", as), found);
  };
  for (const eval::ReportArm& arm : finished) {
    for (const std::string& skill : data::synthetic_skills()) {
      for (const char* what : {"accuracy", "n", "shuffled_accuracy", "unseen_accuracy", "unseen_n"}) copy(arm, absl::StrCat("skills/", skill, "/", what), absl::StrCat("skills/", skill, "/", what));
    }
    copy(arm, "box_mean_iou", "box_mean_iou");
    all.emplace_back(absl::StrCat("arms/", arm.name, "/samples_per_second"), arm.samples_per_second);
  }
  return train::to_json(all) + "\n";
}

void print_table(const std::vector<eval::ReportArm>& finished) {
  absl::PrintF("\n%-12s", "skill");
  for (const eval::ReportArm& arm : finished) absl::PrintF("%12s", arm.name);
  absl::PrintF("%10s\n", "pairs");
  for (const std::string& skill : data::synthetic_skills()) {
    const std::string name = absl::StrCat("skills/", skill, "/");
    absl::PrintF("%-12s", skill);
    for (const eval::ReportArm& arm : finished) absl::PrintF("%11.1f%%", 100 * train::metric(arm.metrics, name + "accuracy", 0));
    absl::PrintF("%10.0f\n", train::metric(finished[0].metrics, name + "n", 0));
  }
  absl::PrintF("%-12s", "boxes (IoU)");
  for (const eval::ReportArm& arm : finished) {
    const double iou = train::metric(arm.metrics, "box_mean_iou", -1);
    absl::PrintF("%12s", iou < 0 ? "-" : absl::StrFormat("%.3f", iou));
  }
  absl::PrintF("\n\n");
}

absl::StatusOr<ExitCode> demo(const DemoArguments& arguments) {
  const auto start = std::chrono::steady_clock::now();
  std::error_code error;
  if (std::filesystem::exists(arguments.out, error) && !std::filesystem::is_empty(arguments.out, error)) {
    return absl::InvalidArgumentError(absl::StrCat(arguments.out, ": this folder already holds something; choose another with --out, or remove it"));
  }
  eval::ReportContent content;
  content.title = "fgvl demo: what regions and foils teach";
  content.introduction =
      "Three small models saw the same generated scenes, in the same order, for the same number of steps. The first read whole-image captions only, the second also descriptions of regions "
      "and their boxes, the third also texts made false by rule.";
  std::vector<train::RunConfig> configs;
  for (const Arm& arm : arms()) {
    FGVL_ASSIGN_OR_RETURN(train::RunConfig config, arm_config(arm, arguments));
    configs.push_back(std::move(config));
  }
  const std::int64_t steps = configs.front().train.steps;
  const at::Device device = parse_device(configs.front().device);
  const bool side_by_side = device.is_cpu();
  FGVL_ASSIGN_OR_RETURN(const std::vector<Running> running, train_arms(arguments, configs, side_by_side));
  for (std::size_t i = 0; i < running.size(); ++i) {
    const Arm& arm = arms()[i];
    const Running& own = running[i];
    const std::string folder = absl::StrCat(arguments.out, "/", arm.name);
    if (own.result.interrupted) {
      absl::FPrintF(stderr, "%s  interrupted at step %d; this arm is saved in %s, the demo has to start again\n", arm.name, own.result.step, folder);
      return ExitCode::kInterrupted;
    }
    FGVL_ASSIGN_OR_RETURN(eval::ReportArm finished, report_arm(arm.name, arm.description, folder, own.result));
    content.arms.push_back(std::move(finished));
    content.settings.emplace_back(arm.name, config::to_yaml(own.config));
    if (std::string(arm.name) == "regions") {
      own.trainer->model().eval();
      content.environment = environment_text(device.str());
      FGVL_ASSIGN_OR_RETURN(content.pictures, report_pictures({own.trainer->model(), own.trainer->criterion(), device}, own.config.data, *own.trainer->texts(), /*with_predictions=*/true, 12));
    }
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  content.pictures_caption = absl::StrCat("Twelve held-out scenes, by the arm “regions”. ", pictures_caption(true));
  content.notes = {"All arms share pictures, batch size, learning rate and the losses ITC, ITM and MLM. “regions” adds region descriptions to all of them, and box prediction (L1 and GIoU).",
                   "“foils” saw foils of the kinds that relation and swap test, on other scenes: that it passes these two says that ranking such foils works, not that they are learned from nothing.",
                   "Scenes, texts and pairs are generated; no number here is about photographs.",
                   absl::StrFormat("Everything together took %s: three arms of %d steps%s.", duration_text(seconds), steps, side_by_side ? ", trained side by side" : "")};
  FGVL_RETURN_IF_ERROR(with_exit_code(write_file_atomically(arguments.out + "/summary.json", summary(content.arms, seconds, arguments.seed, steps)), ExitCode::kCheckpoint));
  FGVL_RETURN_IF_ERROR(with_exit_code(write_file_atomically(arguments.out + "/report.html", eval::render_report(content)), ExitCode::kCheckpoint));
  print_table(content.arms);
  absl::PrintF("%s; report: %s/report.html\n", duration_text(seconds), arguments.out);
  return ExitCode::kOk;
}

}  // namespace

void add_demo(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<DemoArguments>();
  CLI::App* command = app.add_subcommand("demo", "Train three small models on generated scenes and write a report");
  command->add_option("--out", arguments->out, "Folder (default: runs/demo)");
  command->add_option("--seed", arguments->seed, "Of weights, order, masking and negatives; the scenes are the same for every seed")->check(at_least(0));
  command->add_option("--steps", arguments->steps, "Steps of every arm (default: as in configs/demo.yaml)")->check(at_least(1));
  command->callback([arguments, &chosen] { chosen = [arguments] { return demo(*arguments); }; });
}

}  // namespace fgvl::app
