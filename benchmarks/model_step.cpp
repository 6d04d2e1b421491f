// One X-VLM training step by stages: benchmark_model_step --size mid384 --threads 1 [--peer "python3 xvlm_step.py"]
// The batch is random, with texts as long as those of real region annotations; everything that X-VLM's Pretrain.py does in a region step is in it: five losses, backward,
// clipping, AdamW. With --peer, the official code runs the same setting in the same call, as many steps, in turn with ours: a program that takes --size, --threads, --steps, --dropout
// and --max_tokens and ends with a line of JSON with "step_s" {"min", "median"} and "peak_rss_mb". The table and --json hold least times and the peak memory of each process.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <iomanip>
#include <iostream>
#include <numeric>
#include <random>

#include <ATen/Parallel.h>
#include <CLI/CLI.hpp>
#include <torch/torch.h>

#include "cases.hpp"
#include "device_memory.hpp"
#include "fgvl/core/device.hpp"
#include "fgvl/losses/box_regression.hpp"
#include "fgvl/losses/contrastive.hpp"
#include "fgvl/losses/criterion.hpp"
#include "fgvl/losses/masked_language.hpp"
#include "fgvl/losses/matching.hpp"
#include "fgvl/models/bert.hpp"
#include "fgvl/models/clip_vit.hpp"
#include "fgvl/models/region_vlm.hpp"
#include "fgvl/models/swin.hpp"
#include "operator_times.hpp"
#include "train/optimizer.hpp"

using namespace fgvl;
using Clock = std::chrono::steady_clock;

namespace {

struct Size {
  std::string name;
  std::int64_t image_size;
  std::function<models::VisionEncoderPtr(bool dropout)> vision;
  std::int64_t embed_dim, width, heads, layers, vocab_size, max_tokens, images, regions_per_image;
};

models::VisionEncoderPtr swin(models::SwinOptions options, bool dropout) {
  if (!dropout) options.drop_path = 0;
  return make_vision_encoder(options);
}

const std::vector<Size>& sizes() {
  static const std::vector<Size> all = {
      {"small_clip", 96,
       [](bool) { return make_vision_encoder(models::ClipVitOptions{.image_size = 96, .patch_size = 16, .width = 96, .layers = 4, .heads = 6, .mlp_width = 384, .local_attn_depth = 2}); },
       64, 96, 6, 2, 2000, 64, 16, 2},
      {"small_swin", 64, [](bool dropout) { return swin({.image_size = 64, .width = 12, .depths = {2, 2, 2, 2}, .heads = {1, 2, 4, 8}, .window = 4}, dropout); }, 64, 96, 6, 2, 2000, 64, 16, 2},
      {"mid384", 224, [](bool dropout) { return swin({.width = 96, .depths = {2, 2, 6, 2}, .heads = {3, 6, 12, 24}}, dropout); }, 256, 384, 6, 6, 30522, 512, 4, 3},
      {"mid768", 224, [](bool dropout) { return swin({.width = 96, .depths = {2, 2, 6, 2}, .heads = {3, 6, 12, 24}}, dropout); }, 256, 768, 12, 6, 30522, 512, 4, 3},
      {"base", 224, [](bool dropout) { return swin({}, dropout); }, 256, 768, 12, 6, 30522, 512, 4, 3}};
  return all;
}

struct Arguments {
  std::string size = "small_clip", device = "cpu", peer, json;
  std::int64_t threads = 1, steps = 5, rounds = 1, warmup = 2, images = 0, max_tokens = 40;
  bool dropout = true, bf16 = false, image_batch = false, profile = false;
};

/// Texts of captions 12 to 20 and of regions 2 to 12 tokens, [CLS] among them: the lengths of X-VLM's example annotations. One masked word in four.
RegionBatch make_batch(const Size& size, const Arguments& arguments) {
  std::mt19937_64 random(0);
  const auto uniform = [&](double low, double high) { return std::uniform_real_distribution<double>(low, high)(random); };
  const auto one_of = [&](const std::vector<std::int64_t>& values) { return values[std::uniform_int_distribution<std::size_t>(0, values.size() - 1)(random)]; };
  constexpr std::int64_t kMaskToken = 103, kFirstWord = 104, kMostMasked = 8;
  const std::int64_t images = arguments.images > 0 ? arguments.images : size.images;
  std::vector<std::int64_t> lengths, image_of;
  std::vector<bool> is_region;
  std::vector<std::array<float, 4>> boxes;
  for (std::int64_t image = 0; image < images; ++image) {
    for (std::int64_t text = 0; text < 1 + (arguments.image_batch ? 0 : size.regions_per_image); ++text) {
      const bool region = text > 0;
      const auto width = static_cast<float>(uniform(0.15, 0.65)), height = static_cast<float>(uniform(0.15, 0.65));
      const auto left = static_cast<float>(uniform(0, 1 - width)), top = static_cast<float>(uniform(0, 1 - height));
      lengths.push_back(region ? one_of({2, 3, 3, 4, 5, 6, 7, 8, 8, 9, 10, 12}) : one_of({12, 13, 14, 15, 16, 17, 18, 20}));
      image_of.push_back(image);
      is_region.push_back(region);
      boxes.push_back(region ? std::array<float, 4>{left + width / 2, top + height / 2, width, height} : std::array<float, 4>{0.5f, 0.5f, 1.f, 1.f});
    }
  }
  const auto texts = static_cast<std::int64_t>(lengths.size());
  const std::int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  torch::manual_seed(0);
  RegionBatch batch;
  batch.images = torch::randn({images, 3, size.image_size, size.image_size});
  batch.text_to_image = torch::tensor(image_of);
  batch.is_region = torch::zeros({texts}, at::kBool);
  batch.boxes = torch::empty({texts, 4});
  batch.text_ids = torch::zeros({texts, longest}, at::kLong);
  batch.text_mask = torch::zeros({texts, longest}, at::kBool);
  batch.masked_positions = torch::zeros({texts, kMostMasked}, at::kLong);
  batch.masked_labels = torch::full({texts, kMostMasked}, -100, at::kLong);
  batch.text_key = torch::arange(texts);
  for (std::int64_t row = 0; row < texts; ++row) {
    const auto index = static_cast<std::size_t>(row);
    const std::int64_t length = lengths[index];
    batch.is_region[row] = static_cast<bool>(is_region[index]);
    batch.boxes[row] = torch::tensor({boxes[index][0], boxes[index][1], boxes[index][2], boxes[index][3]});
    batch.text_ids[row].slice(0, 0, length) = torch::randint(kFirstWord, size.vocab_size, {length}, at::kLong);
    batch.text_mask[row].slice(0, 0, length) = true;
    std::vector<std::int64_t> positions(static_cast<std::size_t>(length - 1));
    std::iota(positions.begin(), positions.end(), 1);
    std::shuffle(positions.begin(), positions.end(), random);
    const std::int64_t masked = std::min({kMostMasked, length - 1, std::max<std::int64_t>(1, std::llround(static_cast<double>(length) * 0.25))});
    for (std::int64_t slot = 0; slot < masked; ++slot) {
      const std::int64_t position = positions[static_cast<std::size_t>(slot)];
      batch.masked_positions[row][slot] = position;
      batch.masked_labels[row][slot] = batch.text_ids[row][position];
    }
  }
  batch.masked_ids = batch.text_ids.clone();
  for (std::int64_t row = 0; row < texts; ++row) {
    const at::Tensor used = batch.masked_positions[row].index({batch.masked_labels[row] >= 0});
    batch.masked_ids[row].index_fill_(0, used, kMaskToken);
  }
  batch.validate();
  return batch.to(parse_device(arguments.device));
}

/// Milliseconds, or MiB.
struct Measured {
  std::vector<std::pair<std::string, double>> fastest{};  ///< stages of the fastest step
  double least = 0, median = 0;
  double peak_mib = 0, built_mib = 0;
};

/// Of the GPU's memory since `restart_device_peak`, or of this process since its start.
double peak_mib(at::Device device) { return static_cast<double>(device.is_cuda() ? benchmark::device_memory(device).peak : benchmark::peak_bytes()) / (1 << 20); }

Measured measure(const Size& size, const Arguments& arguments, const std::function<void()>& before_round) {
  const at::Device device = parse_device(arguments.device);
  const double dropout = arguments.dropout ? 0.1 : 0;
  const models::BertOptions bert{.width = size.width, .layers = size.layers, .heads = size.heads, .mlp_width = 4 * size.width, .max_tokens = size.max_tokens, .dropout = dropout, .attention_dropout = dropout};
  const models::VisionEncoderPtr vision = size.vision(arguments.dropout);
  const auto model = models::make_region_vlm({vision, make_text_encoder(bert, {.vocab_size = size.vocab_size}),
                                              make_fusion_encoder(models::BertFusionOptions{.layers = size.layers, .heads = size.heads, .mlp_width = 4 * size.width, .dropout = dropout,
                                                                                            .attention_dropout = dropout},
                                                                  {.text_width = size.width, .vision_width = vision->width()})},
                                             {.embed_dim = size.embed_dim});
  losses::Criterion criterion(model->spec());
  criterion.add("itc", losses::ContrastiveOptions{}).add("itm", losses::MatchingOptions{.temperature = "itc"}).add("mlm", losses::MaskedLanguageOptions{});
  if (!arguments.image_batch) criterion.add("box", losses::BoxRegressionOptions{});
  model->to(device);
  criterion.to(device);
  model->train();
  criterion.train();
  train::AdamW optimizer(train::named_parameters(*model, criterion), {.lr = 1e-4});
  const RegionBatch batch = make_batch(size, arguments);
  Measured measured{.built_mib = peak_mib(device)};

  const auto finished = [&] {
    if (device.is_cuda()) torch::cuda::synchronize();
    return Clock::now();
  };
  std::vector<double> totals;
  std::uint64_t number = 0;
  // Where each stage of one step ends.
  const auto step = [&] {
    std::vector<std::pair<std::string, Clock::time_point>> ends{{"start", finished()}};
    optimizer.zero_grad();
    const auto pass = model->begin(batch, {.seed = 1, .step = number++, .bf16 = arguments.bf16});
    pass->regions();
    ends.emplace_back("forward: images and regions", finished());
    pass->text();
    pass->masked_text();
    ends.emplace_back("forward: texts", finished());
    const losses::LossReport report = criterion.forward(*pass);
    ends.emplace_back("forward: fusion and losses", finished());
    report.total.backward();
    ends.emplace_back("backward", finished());
    optimizer.clip(1.0);
    ends.emplace_back("clipping", finished());
    optimizer.step(1e-4);
    ends.emplace_back("AdamW", finished());
    return ends;
  };
  for (std::int64_t round = 0; round < arguments.rounds; ++round) {
    before_round();
    for (std::int64_t i = 0; i < arguments.warmup; ++i) step();
    for (std::int64_t i = 0; i < arguments.steps; ++i) {
      const auto ends = step();
      const auto milliseconds = [](Clock::time_point begin, Clock::time_point end) { return std::chrono::duration<double, std::milli>(end - begin).count(); };
      totals.push_back(milliseconds(ends.front().second, ends.back().second));
      if (totals.back() > *std::min_element(totals.begin(), totals.end())) continue;
      measured.fastest.clear();
      for (std::size_t stage = 1; stage < ends.size(); ++stage) measured.fastest.emplace_back(ends[stage].first, milliseconds(ends[stage - 1].second, ends[stage].second));
    }
  }
  if (arguments.profile) {
    using namespace torch::autograd::profiler;
    enableProfilerLegacy(ProfilerConfig(ProfilerState::CPU, false, false));
    step();
    std::cout << "operators by own time, one step\n";
    benchmark::print_largest(std::cout, benchmark::own_times(disableProfilerLegacy()), 15);
  }
  std::sort(totals.begin(), totals.end());
  measured.least = totals.front();
  measured.median = totals[totals.size() / 2];
  measured.peak_mib = peak_mib(device);
  return measured;
}

nlohmann::json run_peer(const Arguments& arguments) {
  return benchmark::last_json_of(arguments.peer + " --size " + arguments.size + " --threads " + std::to_string(arguments.threads) + " --steps " + std::to_string(arguments.steps) + " --warmup " +
                                 std::to_string(arguments.warmup) + " --dropout " + (arguments.dropout ? "1" : "0") + " --max_tokens " + std::to_string(arguments.max_tokens));
}

/// The least of the peer's calls counts.
benchmark::Case as_case(const Arguments& arguments, const Measured& ours, const std::vector<nlohmann::json>& peers) {
  benchmark::Case one{.name = "model_step." + arguments.size,
                      .parameters = {{"threads", arguments.threads},
                                     {"device", arguments.device},
                                     {"dropout", arguments.dropout},
                                     {"bf16", arguments.bf16},
                                     {"image_batch", arguments.image_batch},
                                     {"images", arguments.images},
                                     {"steps", arguments.steps * arguments.rounds}},
                      .ours = {.seconds = ours.least / 1000, .peak_bytes = std::llround(ours.peak_mib * (1 << 20))}};
  if (!peers.empty()) one.parameters["reference_tokens"] = arguments.max_tokens;
  for (const nlohmann::json& peer : peers) {
    const double seconds = peer["step_s"]["min"];
    if (!one.reference || seconds < *one.reference->seconds) one.reference = benchmark::Measurement{.seconds = seconds, .peak_bytes = std::llround(peer["peak_rss_mb"].get<double>() * (1 << 20))};
  }
  return one;
}

void print(const std::string& who, double least, double median, double peak) {
  std::cout << std::fixed << std::setprecision(1) << std::left << std::setw(10) << who << std::right << std::setw(10) << least << " ms (median " << median << ")   peak " << std::setprecision(0) << peak
            << " MiB" << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("One X-VLM training step by stages, beside the official code");
  std::vector<std::string> names;
  for (const Size& size : sizes()) names.push_back(size.name);
  app.add_option("--size", arguments.size, "Of the model and its batch")->check(CLI::IsMember(names))->capture_default_str();
  app.add_option("--threads", arguments.threads, "Of tensor operations")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--steps", arguments.steps, "Measured in a round")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--rounds", arguments.rounds, "Of the official code, then ours: as many steps of both, in turns")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--warmup", arguments.warmup, "Before those of a round, not measured")->check(CLI::NonNegativeNumber)->capture_default_str();
  app.add_option("--images", arguments.images, "A step; 0: the size's own")->check(CLI::NonNegativeNumber)->capture_default_str();
  app.add_option("--dropout", arguments.dropout, "As published, or none")->capture_default_str();
  app.add_option("--device", arguments.device, "cpu, cuda or cuda:N")->capture_default_str();
  app.add_flag("--bf16", arguments.bf16, "Matrix products in bfloat16");
  app.add_flag("--image-batch", arguments.image_batch, "Captions alone, no regions and no boxes");
  app.add_flag("--profile", arguments.profile, "Operators of one more step by own time");
  app.add_option("--peer", arguments.peer, "Command that measures the official code; runs before ours in every round");
  app.add_option("--peer-tokens", arguments.max_tokens, "Tokens that the official code fills texts up to; ours computes what is there")->capture_default_str();
  app.add_option("--json", arguments.json, "File for the table's row");
  CLI11_PARSE(app, argc, argv);
  at::set_num_threads(static_cast<int>(arguments.threads));
  const Size& size = *std::find_if(sizes().begin(), sizes().end(), [&](const Size& one) { return one.name == arguments.size; });
  try {
    std::cout << arguments.size << ", " << arguments.threads << " threads, " << (arguments.dropout ? "dropout as published" : "no dropout") << (arguments.bf16 ? ", bf16" : "") << std::endl;
    std::vector<nlohmann::json> peers;
    const Measured ours = measure(size, arguments, [&] {
      if (!arguments.peer.empty()) peers.push_back(run_peer(arguments));
    });
    print("ours", ours.least, ours.median, ours.peak_mib);
    for (const auto& [stage, milliseconds] : ours.fastest) std::cout << "  " << std::left << std::setw(30) << stage << std::right << std::setprecision(1) << std::setw(9) << milliseconds << " ms\n";
    std::cout << "  memory after building " << std::setprecision(0) << ours.built_mib << " MiB\n";
    for (const nlohmann::json& peer : peers) print("official", peer["step_s"]["min"].get<double>() * 1000, peer["step_s"]["median"].get<double>() * 1000, peer["peak_rss_mb"]);
    const std::vector<benchmark::Case> cases{as_case(arguments, ours, peers)};
    benchmark::print_table(std::cout, cases);
    benchmark::write_json(arguments.json, cases);
  } catch (const std::exception& error) {
    return std::cerr << error.what() << std::endl, 1;
  }
  return 0;
}
