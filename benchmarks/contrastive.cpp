// Losses over all pairs of a batch, forward and backward: benchmark_contrastive --threads 1 [--device cuda] [--bf16] [--peer "python3 contrastive_memory.py --impl open_clip"]
// softmax  tiled_contrastive, both directions, beside the full matrix as OpenCLIP's ClipLoss computes it: two matrices of logits, two cross-entropies
// sigmoid  tiled_sigmoid, beside the full matrix as OpenCLIP's SigLipLoss
// giou     paired_giou, beside the diagonal of an N x N matrix as X-VLM's get_bbox_loss
// Every case runs in a process of its own, because peak memory is a process's; what counts is resident memory above that before the first call, inputs being there. The sides take turns. A full matrix
// larger than --full-gib is computed, not run. On a GPU, memory is what PyTorch's allocator hands out above the inputs. With --bf16 rows are bfloat16, and the full matrix is computed as under autocast: products
// in bfloat16, cross-entropies of float32 copies.
// With --peer the official code runs in the same turns: a program that takes --n, --d, --threads and --runs and ends with a line of JSON with "seconds" {"min"}, "cpu_s" {"min"} and "peak_rss_delta_mb".
#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <limits>
#include <sstream>

#include <ATen/Parallel.h>
#include <CLI/CLI.hpp>
#include <torch/torch.h>

#include "cases.hpp"
#include "device_memory.hpp"
#include "fgvl/core/boxes.hpp"
#include "fgvl/core/device.hpp"
#include "fgvl/losses/tiled_contrastive.hpp"
#include "operator_times.hpp"

using namespace fgvl;
using benchmark::Case;
using benchmark::Measurement;

namespace {

struct Arguments {
  std::vector<std::string> losses{"softmax", "sigmoid", "giou"};
  std::vector<std::int64_t> rows{1024, 2048, 4096, 8192, 16384, 32768, 65536}, widths{256, 512};
  std::int64_t threads = 1, runs = 5, rounds = 1;
  double most_seconds = 60, full_gib = 8;
  bool processor_time = false, profile = false, bf16 = false;
  std::string device = "cpu";
  std::string peer{}, json{};
  std::string side{};  ///< "ours" or "full": measure that in this process
};

/// What one process measures.
struct Setting {
  std::string loss;
  std::int64_t rows, width;
  at::Device device;
  at::ScalarType dtype;
};

constexpr double kTemperature = 0.07, kScale = 10, kBias = -10;

Tensor uniform(std::int64_t count, double low, double high) { return at::rand({count}) * (high - low) + low; }

/// [N, 4] corners of boxes that lie in the unit square.
Tensor random_boxes(std::int64_t count) {
  const Tensor width = uniform(count, 0.1, 0.5), height = uniform(count, 0.1, 0.5), left = at::rand({count}) * (1 - width), top = at::rand({count}) * (1 - height);
  return at::stack({left, top, left + width, top + height}, 1);
}

/// [N, M] of all pairs, as torchvision's generalized_box_iou, which X-VLM carries.
Tensor all_giou(const Tensor& a, const Tensor& b) {
  const auto area = [](const Tensor& boxes) { return (boxes.select(1, 2) - boxes.select(1, 0)) * (boxes.select(1, 3) - boxes.select(1, 1)); };
  const Tensor a_low = a.slice(1, 0, 2).unsqueeze(1), a_high = a.slice(1, 2, 4).unsqueeze(1), b_low = b.slice(1, 0, 2), b_high = b.slice(1, 2, 4);
  const auto intersection = [&] {
    const Tensor sides = (at::min(a_high, b_high) - at::max(a_low, b_low)).clamp_min(0);
    return sides.select(2, 0) * sides.select(2, 1);
  };
  const Tensor common = intersection(), together = area(a).unsqueeze(1) + area(b) - common, iou = common / together;
  const Tensor hull_sides = (at::max(a_high, b_high) - at::min(a_low, b_low)).clamp_min(0), hull = hull_sides.select(2, 0) * hull_sides.select(2, 1);
  return iou - (hull - together) / hull;
}

/// Forward and backward once, with the value of the loss. Inputs are made here, before anything is measured.
std::function<double()> make_step(const Setting& setting, bool full) {
  torch::manual_seed(0);
  const auto leaf = [&](const Tensor& value) { return value.detach().to(setting.device).set_requires_grad(true); };
  const auto run = [](std::vector<Tensor> leaves, auto loss_of) {
    return [=]() mutable {
      for (Tensor& one : leaves) one.mutable_grad().reset();
      const Tensor loss = loss_of();
      loss.backward();
      return loss.item<double>();
    };
  };
  const std::int64_t rows = setting.rows;
  if (setting.loss == "giou") {
    const Tensor predicted = leaf(random_boxes(rows)), target = random_boxes(rows).to(setting.device);
    return run({predicted}, [=] { return 1 - (full ? all_giou(predicted, target).diagonal() : paired_giou(predicted, target)).mean(); });
  }
  const auto unit = [](const Tensor& values) { return values / values.norm(2, {1}, true); };
  const Tensor pictures = unit(at::randn({rows, setting.width})), texts = unit(pictures + 0.7 * at::randn({rows, setting.width}));
  const Tensor image = leaf(pictures.to(setting.dtype)), text = leaf(texts.to(setting.dtype)), labels = at::arange(rows, image.options().dtype(at::kLong));
  if (setting.loss == "softmax") {
    const Tensor temperature = leaf(at::scalar_tensor(kTemperature));
    if (full) {
      return run({image, text, temperature}, [=] {
        const Tensor scale = 1 / temperature, to_text = at::mm(scale * image, text.t()), to_image = at::mm(scale * text, image.t());
        return (at::cross_entropy_loss(to_text.to(at::kFloat), labels) + at::cross_entropy_loss(to_image.to(at::kFloat), labels)) / 2;
      });
    }
    return run({image, text, temperature}, [=] {
      const losses::ContrastiveLosses each =
          losses::tiled_contrastive({.queries = image, .keys = text, .temperature = temperature, .pairs = losses::PairRules::diagonal(rows, setting.device), .both = true});
      return (each.to_keys.mean() + each.to_queries.mean()) / 2;
    });
  }
  const Tensor scale = leaf(at::scalar_tensor(kScale)), bias = leaf(at::scalar_tensor(kBias));
  if (full) {
    return run({image, text, scale, bias}, [=] {
      const Tensor logits = at::mm(scale * image, text.t()).add_(bias), signs = 2 * at::eye(rows, logits.options()) + at::full({rows, rows}, -1.0, logits.options());
      return -at::log_sigmoid(signs * logits).sum() / rows;
    });
  }
  return run({image, text, scale, bias}, [=] {
    return losses::tiled_sigmoid({.queries = image, .keys = text, .scale = scale, .bias = bias, .pairs = losses::PairRules::diagonal(rows, setting.device)}) / rows;
  });
}

/// Bytes that the full way holds at once when it holds most, for each element of N x N.
std::int64_t bytes_of_pair(const Setting& setting) {
  const auto element = static_cast<std::int64_t>(c10::elementSize(setting.dtype));
  // Logits and their logarithms of softmax, twice; in backward the latter with their gradients. Of bfloat16 logits a float32 copy is there as well.
  if (setting.loss == "softmax") return element == 4 ? 16 : 20;
  if (setting.loss == "sigmoid") return 6 * element;  // logits, labels, their product, its exponentials for backward, the logarithm and its negative
  return 41 * 4;                                      // measured at 1024 and 2048 boxes: what every operator of the overlap, and its backward pass, makes
}

std::int64_t computed_bytes(const Setting& setting) {
  const std::int64_t features = setting.loss == "giou" ? 0 : 4 * static_cast<std::int64_t>(sizeof(float)) * setting.rows * setting.width;  // two scaled copies and two gradients
  return bytes_of_pair(setting) * setting.rows * setting.rows + features;
}

/// Bytes that /proc/self/status gives for "VmRSS" (now) or "VmHWM" (the largest so far).
std::int64_t resident(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(field + ":")) return std::stoll(line.substr(field.size() + 1)) * 1024;
  }
  throw std::runtime_error("/proc/self/status: no " + field);
}

/// The most memory that is used from here on, above what is used now: of the GPU, or of this process.
class Peak {
 public:
  explicit Peak(at::Device device) : device_(device) {
    if (device.is_cuda()) {
      benchmark::restart_device_peak(device);
    } else {
      std::ofstream("/proc/self/clear_refs") << 5;  // VmHWM starts anew, where this is allowed
    }
    before_ = device.is_cuda() ? benchmark::device_memory(device).now : resident("VmRSS");
  }
  [[nodiscard]] std::int64_t bytes() const { return (device_.is_cuda() ? benchmark::device_memory(device_).peak : resident("VmHWM")) - before_; }

 private:
  at::Device device_;
  std::int64_t before_ = 0;
};

double processor_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double wall_seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// {"seconds", "cpu_seconds", "peak_bytes", "loss"}: least times of the runs after one that warms up; where one alone takes longer than there is time for, of that one.
nlohmann::json measure(const Setting& setting, const Arguments& arguments) {
  const std::function<double()> step = make_step(setting, arguments.side == "full");
  const auto small = at::TensorOptions(setting.device).dtype(setting.dtype);
  at::mm(at::randn({64, 64}, small).set_requires_grad(true), at::randn({64, 64}, small)).sum().backward();  // loads what any loss needs
  const Peak peak(setting.device);
  double seconds = std::numeric_limits<double>::infinity(), cpu_seconds = seconds, loss = 0;
  const double begin = wall_seconds();
  for (std::int64_t run = 0; run <= arguments.runs; ++run) {
    const double wall = wall_seconds(), cpu = processor_seconds();
    loss = step();
    const bool no_time_left = wall_seconds() - begin > arguments.most_seconds;
    if (run == 0 && !no_time_left) continue;
    seconds = std::min(seconds, wall_seconds() - wall);
    cpu_seconds = std::min(cpu_seconds, processor_seconds() - cpu);
    if (no_time_left) break;
  }
  return {{"seconds", seconds}, {"cpu_seconds", cpu_seconds}, {"peak_bytes", peak.bytes()}, {"loss", loss}};
}

/// Least of several turns.
struct Side {
  Measurement measured{};
  double loss = 0;

  void add(double seconds, std::int64_t peak_bytes, double value) {
    measured.peak_bytes = measured.seconds ? std::min(measured.peak_bytes, peak_bytes) : peak_bytes;
    measured.seconds = std::min(measured.seconds.value_or(seconds), seconds);
    loss = value;
  }
};

void measure_in_process(Side& side, const std::string& name, const Setting& setting, const Arguments& arguments) {
  std::ostringstream command;
  command << "'" << std::filesystem::read_symlink("/proc/self/exe").string() << "' --side " << name << " --loss " << setting.loss << " --n " << setting.rows << " --width " << setting.width << " --threads "
          << arguments.threads << " --runs " << arguments.runs << " --most-seconds " << arguments.most_seconds << " --device " << arguments.device << (arguments.bf16 ? " --bf16" : "");
  const nlohmann::json result = benchmark::last_json_of(command.str());
  side.add(result[arguments.processor_time ? "cpu_seconds" : "seconds"], result["peak_bytes"], result["loss"]);
}

void measure_peer(Side& side, const Setting& setting, const Arguments& arguments) {
  std::ostringstream command;
  command << arguments.peer << " --n " << setting.rows << " --d " << setting.width << " --threads " << arguments.threads << " --runs " << arguments.runs;
  const nlohmann::json result = benchmark::last_json_of(command.str());
  side.add(result[arguments.processor_time ? "cpu_s" : "seconds"]["min"], std::llround(result["peak_rss_delta_mb"].get<double>() * (1 << 20)), result.value("loss", 0.0));
}

void add_cases(std::vector<Case>& cases, const Setting& setting, const Arguments& arguments) {
  const bool runs_full = static_cast<double>(computed_bytes(setting)) <= arguments.full_gib * (1 << 30), runs_peer = runs_full && setting.loss == "softmax" && setting.device.is_cpu() && !arguments.peer.empty();
  Side ours, full, peer;
  for (std::int64_t round = 0; round < arguments.rounds; ++round) {
    measure_in_process(ours, "ours", setting, arguments);
    if (runs_full) measure_in_process(full, "full", setting, arguments);
    if (runs_peer) measure_peer(peer, setting, arguments);
  }
  const double tolerance = arguments.bf16 ? 2e-2 : 1e-4;  // products in bfloat16 are rounded to it where a matrix holds them
  if (runs_full && std::abs(full.loss - ours.loss) > tolerance * std::max(1.0, std::abs(full.loss))) {
    throw std::runtime_error(setting.loss + ": ours gives " + std::to_string(ours.loss) + ", the full matrix " + std::to_string(full.loss));
  }
  nlohmann::ordered_json parameters{{"n", setting.rows}};
  if (setting.loss != "giou") parameters["d"] = setting.width;
  parameters["threads"] = arguments.threads;
  parameters["device"] = arguments.device;
  if (setting.loss != "giou") parameters["bf16"] = arguments.bf16;
  parameters["clock"] = arguments.processor_time ? "processor" : "wall";
  const Measurement reference = runs_full ? full.measured : Measurement{.peak_bytes = computed_bytes(setting)};
  cases.push_back({"contrastive." + setting.loss + ", full matrix", parameters, ours.measured, reference});
  if (runs_peer) cases.push_back({"contrastive." + setting.loss + ", official code", parameters, ours.measured, peer.measured});
}

void print_operators(const Setting& setting, const Arguments& arguments) {
  using namespace torch::autograd::profiler;
  const std::function<double()> step = make_step(setting, arguments.side == "full");
  step();
  enableProfilerLegacy(ProfilerConfig(ProfilerState::CPU, false, false));
  step();
  std::cout << setting.loss << ", n=" << setting.rows << ", d=" << setting.width << ": operators by own time\n";
  benchmark::print_largest(std::cout, benchmark::own_times(disableProfilerLegacy()), 15);
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("Contrastive losses and box pairs, forward and backward, beside what holds a matrix of all pairs");
  app.add_option("--loss", arguments.losses, "softmax, sigmoid (contrastive), giou (box pairs); several are given one after another")->check(CLI::IsMember({"softmax", "sigmoid", "giou"}))->capture_default_str();
  app.add_option("--n", arguments.rows, "Rows of a batch, each with one partner")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--width", arguments.widths, "Of the rows; giou has none")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--threads", arguments.threads, "Of tensor operations")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--runs", arguments.runs, "Measured in one process, after one that is not; the least time counts")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--rounds", arguments.rounds, "Turns of ours and the others, a process each")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--most-seconds", arguments.most_seconds, "After which a process begins no further run")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--full-gib", arguments.full_gib, "Full matrices that need more memory are computed, not run")->check(CLI::NonNegativeNumber)->capture_default_str();
  app.add_option("--device", arguments.device, "cpu, cuda or cuda:N")->capture_default_str();
  app.add_flag("--bf16", arguments.bf16, "Rows in bfloat16");
  app.add_flag("--processor-time", arguments.processor_time, "Seconds of the processor instead of the clock's, for a machine that does other work");
  app.add_option("--peer", arguments.peer, "Command that measures the official code's softmax loss");
  app.add_option("--json", arguments.json, "File for the table's rows");
  app.add_option("--side", arguments.side, "ours or full: measures that alone, in this process, and prints a line of JSON")->check(CLI::IsMember({"ours", "full"}));
  app.add_flag("--profile", arguments.profile, "Operators of one step by own time instead of a measurement; of the full matrix with --side full");
  CLI11_PARSE(app, argc, argv);
  at::set_num_threads(static_cast<int>(arguments.threads));
  try {
    const at::Device device = parse_device(arguments.device);
    std::vector<Case> cases;
    for (const std::string& loss : arguments.losses) {
      for (const std::int64_t width : loss == "giou" ? std::vector<std::int64_t>{4} : arguments.widths) {
        for (const std::int64_t rows : arguments.rows) {
          const Setting setting{loss, rows, width, device, arguments.bf16 ? at::kBFloat16 : at::kFloat};
          if (arguments.profile) {
            print_operators(setting, arguments);
          } else if (!arguments.side.empty()) {
            std::cout << measure(setting, arguments).dump() << std::endl;
          } else {
            add_cases(cases, setting, arguments);
            benchmark::write_json(arguments.json, cases);  // what a long measurement has so far
          }
        }
      }
    }
    if (!cases.empty()) benchmark::print_table(std::cout, cases);
  } catch (const std::exception& error) {
    return std::cerr << error.what() << std::endl, 1;
  }
  return 0;
}
