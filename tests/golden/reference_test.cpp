// Parity with the official X-VLM, ALBEF, BLIP and PEVL of what configs/reference/ holds, with nothing but overridden sizes: outputs, losses, gradients, momentum weights, queues and pointers.
#include <algorithm>
#include <iostream>

#include "fgvl/losses/masked_language.hpp"
#include "fgvl/losses/position_tokens.hpp"
#include "fgvl/losses/temperature.hpp"
#include "golden/reference_system.hpp"
#include "golden/visual_rows.hpp"
#include "support/catch.hpp"
#include "support/gpu.hpp"

namespace fgvl {
namespace {

using Json = nlohmann::json;
using test::check_close;
using test::kOutputTolerance;
using test::OfficialModel;
using test::OfficialRun;
using test::Tensors;
using test::with_prefix;

const std::map<std::string, std::string> kLossNames = {{"loss_itc", "itc"}, {"loss_ita", "itc"},     {"loss_itm", "itm"},     {"loss_mlm", "mlm"},
                                                       {"loss_lm", "lm"},   {"loss_bbox", "box.l1"}, {"loss_giou", "box.giou"}, {"loss_soft", "position"}};

void check_losses(const losses::LossReport& report, const Json& golden, bool twice) {
  for (const auto& [name, value] : golden.items()) {
    INFO(name << (twice ? " in float64" : ""));
    const double weight = name == "loss_soft" ? 2.0 : 1.0;  // postoken_temp, which stands in PEVL's loss
    const double ours = name == "total" ? report.total.item<double>() : weight * report.mean(kLossNames.at(name)).value(), expected = value.get<double>();
    CHECK(std::abs(ours - expected) <= (twice ? test::kDoubleTolerance * std::abs(expected) : test::kLossTolerance));
    ++test::compared_numbers;
  }
}

Tensor temperature_of(const OfficialRun& run) { return dynamic_cast<losses::TemperatureSource&>(*run.criterion->find("itc")).divisor(); }

/// Parameters and buffers of a run under their official names; those without one are left out.
Tensors official_state(const OfficialModel& official, const OfficialRun& run) {
  Tensors state;
  for (const auto& [prefix, module] : std::vector<std::pair<std::string, torch::nn::Module*>>{{"model.", run.model.get()}, {"losses.", run.criterion.get()}}) {
    for (const auto& [name, value] : models::named_state(*module, prefix)) {
      const auto part = models::part_of_ours(official.names(), name, official.text_layers());
      if (part) state[part->official] = part->transposed ? value.t() : value;
    }
  }
  return state;
}

void check_momentum(const OfficialModel& official, OfficialRun& run, const Tensors& scenario) {
  const Tensors out = with_prefix(scenario, "out."), state = official_state(official, run);
  check_close("image_feat_m", run.pass->momentum().image().features, out.at("image_feat_m"), kOutputTolerance);
  check_close("text_feat_m", run.pass->momentum().text().features, out.at("text_feat_m"), kOutputTolerance);
  for (const char* name : {"image_queue", "text_queue"}) check_close(name, state.at(name), out.at(name), kOutputTolerance);
  CHECK(at::equal(state.at("queue_ptr").cpu(), out.at("queue_ptr")));
  for (const auto& [name, value] : with_prefix(scenario, "momentum.")) {
    INFO(name);
    REQUIRE(state.count(name) == 1);
    check_close(name, state.at(name), value, kOutputTolerance);
  }
}

/// Logits of BLIP's decoder at real tokens.
void check_decoder(OfficialRun& run, const Tensor& golden) {
  const Tensor real = run.batch.text_mask, all = at::arange(run.batch.text_count(), run.batch.text_ids.options());
  const Tensor decoded = run.pass->decoded({.text_index = all, .visual_index = all});
  check_close("lm_logits", dynamic_cast<losses::WordPredictor&>(*run.criterion->find("lm")).word_logits(decoded.index({real}), run.pass->word_embedding()), golden.index({real.cpu()}), kOutputTolerance);
}

/// What the official code does between two steps.
void descend(OfficialRun& run, double learning_rate) {
  torch::NoGradGuard guard;
  for (torch::nn::Module* module : std::initializer_list<torch::nn::Module*>{run.model.get(), run.criterion.get()}) {
    for (Tensor& parameter : module->parameters()) {
      if (parameter.grad().defined()) parameter.sub_(parameter.grad() * learning_rate);
    }
    module->zero_grad();
  }
}

/// As train::Trainer takes a step.
void forward(OfficialRun& run, std::int64_t step) {
  run.model->update_momentum();
  run.criterion->update_momentum();
  run.pass = run.model->begin(run.batch, {.optimizer_step = step});
  run.report = run.criterion->forward(*run.pass);
}

/// In float32 and float64 on the CPU, where the official code computed; in float32 on a GPU.
std::vector<at::ScalarType> types_on(at::Device device) { return device.is_cpu() ? std::vector{at::kFloat, at::kDouble} : std::vector{at::kFloat}; }

int check_pretraining(const OfficialModel& official, at::Device device) {
  int steps = 0;
  for (const at::ScalarType dtype : types_on(device)) {
    const bool single = dtype == at::kFloat;
    OfficialRun run = test::prepare_reference(official, official.scenario("step1"), at::TensorOptions(device).dtype(dtype));
    const Json golden = official.json.value("steps", Json::array({official.json}));  // of one step there is no list
    for (std::size_t step = 0; step < golden.size(); ++step, ++steps) {
      INFO(official.name() << " step " << step + 1);
      const Tensors scenario = official.scenario("step" + std::to_string(step + 1)), out = with_prefix(scenario, "out."), gradients = with_prefix(scenario, "grad.");
      run.take_inputs(scenario);
      forward(run, static_cast<std::int64_t>(step));
      check_losses(run.report, golden[step][single ? "losses" : "losses_float64"], !single);
      if (single) {
        check_close("itm_logits", run.matching_logits(), out.at("itm_logits"), kOutputTolerance);
        check_momentum(official, run, scenario);
        if (out.count("temp_after") > 0) check_close("temp_after", temperature_of(run), out.at("temp_after"), 1e-7);
        if (out.count("lm_logits") > 0) check_decoder(run, out.at("lm_logits"));
        if (out.count("soft_label_rows_0_255_511") > 0) check_close("targets", losses::position_targets(torch::tensor({0, 255, 511}), 0.15), out.at("soft_label_rows_0_255_511"), 1e-7);
      }
      if (single && !gradients.empty()) {
        test::check_gradients(official, run, run.report.total, gradients);
      } else {
        run.report.total.backward();
      }
      if (step + 1 < golden.size()) descend(run, official.json["config"]["sgd_lr"]);
    }
  }
  return steps;
}

TEST_CASE("configs/reference/albef.yaml, blip.yaml and pevl.yaml equal the official code step by step: outputs, losses, gradients, momentum weights, queues and pointers", "[golden]") {
  FGVL_NEEDS_GOLDEN();
  for (const char* family : {"albef", "blip", "pevl"}) {
    int steps = 0;
    for (const OfficialModel& official : test::official_models(family)) steps += check_pretraining(official, at::kCPU);
    std::cout << family << ".yaml: " << steps << " steps in float32 and float64, " << test::compared_numbers << " numbers compared so far" << std::endl;
    CHECK(steps > 0);
  }
}

int check_xvlm(at::Device device) {
  int scenarios = 0;
  for (const OfficialModel& official : test::official_models("xvlm")) {
    for (const auto& [name, expected] : official.json["scenarios"].items()) {
      if (name == "retrieval") continue;  // fine-tuning, which is no part of that file
      INFO(official.name() << " " << name);
      const Tensors scenario = official.scenario(name), out = with_prefix(scenario, "out.");
      for (const at::ScalarType dtype : types_on(device)) {
        const bool single = dtype == at::kFloat;
        OfficialRun run = test::prepare_reference(official, scenario, at::TensorOptions(device).dtype(dtype));
        forward(run, 0);
        check_losses(run.report, expected[single ? "losses" : "losses_float64"], !single);
        if (!single) continue;
        check_close("image_feat", run.pass->regions().features, out.at("image_feat"), kOutputTolerance);
        check_close("text_feat", run.pass->text().features, out.at("text_feat"), kOutputTolerance);
        check_close("itm_logits", run.matching_logits(), out.at("itm_logits"), kOutputTolerance);
        check_close("temp_after", temperature_of(run), out.at("temp_after"), 1e-7);
        test::check_gradients(official, run, run.report.total, with_prefix(scenario, "grad."));
      }
      ++scenarios;
    }
  }
  return scenarios;
}

TEST_CASE("configs/reference/xvlm.yaml equals the official code: outputs, losses and gradients of image and region batches", "[golden]") {
  FGVL_NEEDS_GOLDEN();
  const int scenarios = check_xvlm(at::kCPU);
  std::cout << "xvlm.yaml: " << scenarios << " scenarios in float32 and float64, " << test::compared_numbers << " numbers compared so far" << std::endl;
  CHECK(scenarios > 0);
}

TEST_CASE("configs/reference/*.yaml equal the official code on a GPU", "[golden][cuda]") {
  FGVL_NEEDS_GOLDEN();
  FGVL_NEEDS_GPU();
  const at::Device device = parse_device("cuda");
  CHECK(check_xvlm(device) > 0);
  for (const char* family : {"albef", "blip", "pevl"}) {
    for (const OfficialModel& official : test::official_models(family)) CHECK(check_pretraining(official, device) > 0);
  }
}

TEST_CASE("official ALBEF, BLIP and PEVL files fill momentum encoders and queues; what they lack starts anew", "[golden]") {
  FGVL_NEEDS_GOLDEN();
  using models::LoadOutcome;
  for (const char* family : {"albef", "blip", "pevl"}) {
    for (const OfficialModel& official : test::official_models(family)) {
      INFO(official.name());
      OfficialRun run = test::prepare_reference(official, official.scenario("step1"), at::kFloat);
      const Tensors weights = official.weights(), state = official_state(official, run);
      for (const auto& [name, value] : state) {
        INFO(name);
        REQUIRE(weights.count(name) == 1);
        CHECK(at::equal(value, weights.at(name)));
      }
      for (const models::LoadRow& row : run.loaded.rows) {
        INFO(row.name << " <- " << row.official);
        if (row.outcome == LoadOutcome::kStarted) CHECK((row.name == "losses.itc.queue.key" || row.name.find("decoder_attention") != std::string::npos));
        if (row.outcome == LoadOutcome::kNotNeeded) CHECK((row.official.find("position_ids") != std::string::npos || row.official.find("idx_queue") != std::string::npos));  // PEVL never reads its queue of identities
      }
      // With a queue of another size, the queue alone starts anew.
      const OfficialRun other = test::prepare_reference(official, official.scenario("step1"), at::kFloat, {"losses.itc.options.queue.size=7"});
      CHECK(other.loaded.count(LoadOutcome::kStarted) == run.loaded.count(LoadOutcome::kStarted) + 2);
    }
  }
}

}  // namespace
}  // namespace fgvl
