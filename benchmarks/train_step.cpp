// Where one training step of a configuration spends its time: benchmark_train_step CONFIG [steps] [--json FILE]
// Prints medians of the stages, and the operators by their own time, as PyTorch's profiler saw them. Peak memory is the process's, the same for all stages.
#include <algorithm>
#include <chrono>
#include <iostream>
#include <map>

#include <CLI/CLI.hpp>
#include <torch/torch.h>

#include "cases.hpp"
#include "fgvl/core/config.hpp"
#include "fgvl/data/data_config.hpp"
#include "fgvl/eval/probes.hpp"
#include "fgvl/losses/criterion.hpp"
#include "fgvl/train/run_config.hpp"
#include "operator_times.hpp"

using namespace fgvl;
using Clock = std::chrono::steady_clock;

namespace {

double seconds(Clock::time_point begin, Clock::time_point end) { return std::chrono::duration<double>(end - begin).count(); }

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  std::string file, json;
  int steps = 30;
  CLI::App app("Where one training step of a configuration spends its time");
  app.add_option("config", file, "Configuration, as for fgvl train")->required();
  app.add_option("steps", steps, "Measured, after two that warm up")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--json", json, "File for the table's rows");
  CLI11_PARSE(app, argc, argv);
  train::RunRegistries registries;
  registries.probes = eval::builtin_probes();
  const auto document = config::Document::load(file);
  if (!document.ok()) return std::cerr << document.status().message() << std::endl, 2;
  const auto read = config::read(*document, train::RunConfig(registries));
  if (!read.ok()) return std::cerr << read.status().message() << std::endl, 2;
  const train::RunConfig& config = *read;
  auto streams = data::open_streams(config.data, data::Split::kTrain);
  if (!streams.ok()) return std::cerr << streams.status().message() << std::endl, 3;
  const auto texts = data::make_text_pipeline(config.data, *streams).value();
  auto loader = data::Loader::make(*streams, config.data.image, texts, config.data.loader).value();
  const auto model = models::make_model(config.model, train::text_context(texts->tokenizer()), 1);
  const auto criterion = losses::make_criterion(config.losses, model->spec(), data::stream_names(config.data));
  std::vector<torch::Tensor> parameters = model->parameters();
  for (const torch::Tensor& parameter : criterion->parameters()) parameters.push_back(parameter);
  torch::optim::AdamW optimizer(parameters, 1e-3);

  std::map<std::string, std::vector<double>> stages;
  std::map<std::string, double> operators;
  for (int step = 0; step < steps + 3; ++step) {
    using namespace torch::autograd::profiler;
    const bool profiled = step == steps + 2;
    const Clock::time_point start = Clock::now();
    const RegionBatch batch = loader->next().value();
    const Clock::time_point loaded = Clock::now();
    if (profiled) enableProfilerLegacy(ProfilerConfig(ProfilerState::CPU, false, false));
    auto pass = model->begin(batch, {.seed = 1, .step = static_cast<std::uint64_t>(step)});
    const losses::LossReport report = criterion->forward(*pass);
    const Clock::time_point forward = Clock::now();
    optimizer.zero_grad();
    report.total.backward();
    const Clock::time_point backward = Clock::now();
    if (profiled) {
      operators = fgvl::benchmark::own_times(disableProfilerLegacy());
      break;
    }
    optimizer.step();
    const Clock::time_point end = Clock::now();
    if (step < 2) continue;  // warm-up
    stages["1 wait for data"].push_back(seconds(start, loaded));
    stages["2 forward"].push_back(seconds(loaded, forward));
    stages["3 backward"].push_back(seconds(forward, backward));
    stages["4 optimizer"].push_back(seconds(backward, end));
    stages["5 whole step"].push_back(seconds(start, end));
  }
  std::vector<benchmark::Case> cases;
  for (const auto& [stage, times] : stages) {
    cases.push_back({.name = "train_step." + stage.substr(2),
                     .parameters = {{"config", file}, {"threads", at::get_num_threads()}, {"images", config.data.loader.batch_size}, {"steps", steps}},
                     .ours = {.seconds = median(times), .peak_bytes = benchmark::peak_bytes()}});
  }
  std::cout << "medians of " << steps << " steps\n";
  benchmark::print_table(std::cout, cases);
  std::cout << "operators by own time, one step\n";
  fgvl::benchmark::print_largest(std::cout, operators, 15);
  try {
    benchmark::write_json(json, cases);
  } catch (const std::exception& error) {
    return std::cerr << error.what() << std::endl, 1;
  }
  return 0;
}
