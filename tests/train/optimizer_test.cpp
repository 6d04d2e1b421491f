#include <torch/torch.h>

#include "support/catch.hpp"
#include "train/optimizer.hpp"

namespace fgvl::train {
namespace {

TEST_CASE("AdamW equals torch.optim's, with decay on matrices only", "[optimizer]") {
  torch::manual_seed(1);
  const Tensor start = torch::randn({4, 3}), bias_start = torch::randn({3});
  Tensor ours = start.clone().set_requires_grad(true), our_bias = bias_start.clone().set_requires_grad(true);
  Tensor theirs = start.clone().set_requires_grad(true), their_bias = bias_start.clone().set_requires_grad(true);
  AdamW optimizer({{"model.weight", ours}, {"model.bias", our_bias}}, {.lr = 0.1, .beta2 = 0.98, .weight_decay = 0.3});
  const auto options = [](double decay) { return std::make_unique<torch::optim::AdamWOptions>(torch::optim::AdamWOptions(0.1).betas({0.9, 0.98}).weight_decay(decay)); };
  torch::optim::AdamW reference(std::vector<torch::optim::OptimizerParamGroup>{{{theirs}, options(0.3)}, {{their_bias}, options(0.0)}});
  const Tensor input = torch::randn({5, 4});
  for (int step = 0; step < 5; ++step) {
    optimizer.zero_grad();
    (input.matmul(ours) + our_bias).pow(2).sum().backward();
    optimizer.step(0.1);
    reference.zero_grad();
    (input.matmul(theirs) + their_bias).pow(2).sum().backward();
    reference.step();
  }
  CHECK(at::allclose(ours, theirs, 1e-5, 1e-6));
  CHECK(at::allclose(our_bias, their_bias, 1e-5, 1e-6));
}

TEST_CASE("clipping scales the gradients of one step together, and a parameter without gradient is not touched", "[optimizer]") {
  Tensor a = torch::ones({2, 2}).set_requires_grad(true), b = torch::ones({3}).set_requires_grad(true), idle = torch::ones({2, 2}).set_requires_grad(true);
  AdamW optimizer({{"model.a", a}, {"model.b", b}, {"model.idle", idle}}, {.weight_decay = 0.5});
  (3 * a.sum() + 4 * b.sum()).backward();
  const double norm = std::sqrt(4 * 9.0 + 3 * 16.0);
  CHECK(optimizer.clip(1.0) == Approx(norm));
  optimizer.step(0.1);
  std::map<std::string, Tensor> state;
  for (const auto& [name, value] : optimizer.state()) state[name] = value;
  CHECK(state["exp_avg.model.a"][0][0].item<double>() == Approx(0.1 * 3 / norm).epsilon(1e-4));
  CHECK(state["exp_avg.model.b"][0].item<double>() == Approx(0.1 * 4 / norm).epsilon(1e-4));
  CHECK(at::equal(idle, torch::ones({2, 2})));
}

TEST_CASE("both updates are their formulas, with a clipped step, and for a parameter that joins later", "[optimizer]") {
  constexpr double kLr = 0.1, kDecay = 0.3, kBeta1 = 0.9, kBeta2 = 0.98, kEps = 1e-3;
  for (const Update update : {Update::kTorch, Update::kTransformers}) {
    const auto doubles = [](std::initializer_list<double> values) { return torch::tensor(std::vector<double>(values), torch::kDouble).view({1, -1}); };
    Tensor early = doubles({1, -2, 3}).requires_grad_(), late = doubles({0.5, 4}).requires_grad_();
    AdamW optimizer({{"model.early", early}, {"model.late", late}}, {.beta1 = kBeta1, .beta2 = kBeta2, .eps = kEps, .weight_decay = kDecay, .update = update});
    struct Expected {
      Tensor value, first, second;
      double steps = 0;
    };
    Expected of_early{early.detach().clone(), at::zeros_like(early), at::zeros_like(early)}, of_late{late.detach().clone(), at::zeros_like(late), at::zeros_like(late)};
    const auto expect_step = [&](Expected& of, const Tensor& gradient) {
      of.steps += 1;
      of.first = kBeta1 * of.first + (1 - kBeta1) * gradient;
      of.second = kBeta2 * of.second + (1 - kBeta2) * gradient.square();
      const double bias1 = 1 - std::pow(kBeta1, of.steps), bias2 = 1 - std::pow(kBeta2, of.steps);
      if (update == Update::kTorch) {
        of.value = of.value * (1 - kLr * kDecay) - kLr / bias1 * of.first / ((of.second / bias2).sqrt() + kEps);
      } else {
        of.value = (of.value - kLr * std::sqrt(bias2) / bias1 * of.first / (of.second.sqrt() + kEps)) * (1 - kLr * kDecay);
      }
    };
    for (int step = 0; step < 4; ++step) {
      const bool clipped = step == 1, joined = step >= 2;
      optimizer.zero_grad();
      const Tensor of_first = (step + 1) * doubles({0.5, -1, 2}), of_second = (step + 1) * doubles({0.01, -0.3});
      early.mutable_grad() = of_first.clone();
      if (joined) late.mutable_grad() = of_second.clone();
      const double norm = optimizer.clip(clipped ? 0.7 : 0);
      optimizer.step(kLr);
      expect_step(of_early, clipped ? of_first * (0.7 / (norm + 1e-6)) : of_first);
      if (joined) expect_step(of_late, of_second);
    }
    CHECK(at::allclose(early, of_early.value, 1e-7, 1e-7));
    CHECK(at::allclose(late, of_late.value, 1e-7, 1e-7));
  }
}

TEST_CASE("groups: parameters move by their group's factor of the others' step, under our names or the official ones; the last group wins", "[optimizer]") {
  Tensor plain = torch::zeros({2, 2}).set_requires_grad(true), temperature = torch::zeros({2, 2}).set_requires_grad(true), fusion = torch::zeros({2, 2}).set_requires_grad(true);
  AdamW optimizer({{"model.text_encoder.layer.0.a", plain}, {"model.fusion_encoder.layer.0.a", fusion}, {"losses.itc.temperature.temp", temperature}},
                  {.weight_decay = 0, .groups = {{"losses", {{"losses.*"}, 0.25}}, {"new", {{"temp", "text_encoder.bert.encoder.layer.1.*"}, 2.0}}}});
  (plain.sum() + fusion.sum() + temperature.sum()).backward();
  optimizer.step(0.1);
  // Adam's first step is lr in size, whatever the gradient.
  CHECK(plain[0][0].item<double>() == Approx(-0.1).epsilon(1e-4));
  CHECK(fusion[0][0].item<double>() == Approx(-0.2).epsilon(1e-4));
  CHECK(temperature[0][0].item<double>() == Approx(-0.2).epsilon(1e-4));
}

TEST_CASE("a group that fits no parameter is refused by its name", "[optimizer]") {
  Tensor parameter = torch::zeros({2, 2}).set_requires_grad(true);
  CHECK_THROWS_WITH(AdamW({{"model.a", parameter}}, {.groups = {{"heads", {{"lossess.*"}, 2.0}}}}), Catch::Contains("train.optimizer.groups.heads.parameters: [lossess.*] fits no parameter"));
}

TEST_CASE("the optimizer goes on from its saved state as if it had never stopped, with either update", "[optimizer]") {
  for (const Update update : {Update::kTorch, Update::kTransformers}) {
    torch::manual_seed(3);
    const Tensor input = torch::randn({5, 4});
    Tensor whole = torch::randn({4, 3}).set_requires_grad(true), stopped = whole.detach().clone().set_requires_grad(true);
    const OptimizerOptions options{.lr = 0.1, .weight_decay = 0.3, .update = update};
    const auto train = [&](AdamW& optimizer, Tensor& parameter, int steps) {
      for (int step = 0; step < steps; ++step) {
        optimizer.zero_grad();
        input.matmul(parameter).pow(2).sum().backward();
        optimizer.step(0.1);
      }
    };
    AdamW without({{"model.w", whole}}, options), before({{"model.w", stopped}}, options);
    train(without, whole, 6);
    train(before, stopped, 3);
    AdamW after({{"model.w", stopped}}, options);
    REQUIRE(after.load(before.state()).ok());
    train(after, stopped, 3);
    CHECK(at::equal(whole, stopped));
  }
}

TEST_CASE("schedules: warm-up to the peak, then to zero at the last step", "[optimizer]") {
  const ScheduleOptions linear{.decay = Decay::kLinear, .warmup_steps = 10}, cosine{.decay = Decay::kCosine, .warmup_steps = 10};
  CHECK(schedule_factor(linear, 0, 110) == Approx(0.1));
  CHECK(schedule_factor(linear, 9, 110) == Approx(1.0));
  CHECK(schedule_factor(linear, 60, 110) == Approx(0.5));
  CHECK(schedule_factor(cosine, 60, 110) == Approx(0.5));
  CHECK(schedule_factor(cosine, 110, 110) == Approx(0.0).margin(1e-12));
  const ScheduleOptions late{.decay = Decay::kLinear, .warmup_steps = 10, .decay_steps = 20};
  CHECK(schedule_factor(late, 89, 110) == 1.0);
  CHECK(schedule_factor(late, 100, 110) == Approx(0.5));
  CHECK(schedule_factor({.decay = Decay::kConstant}, 500, 110) == 1.0);
  // To a tenth of the peak instead, halfway down in the middle.
  for (const Decay decay : {Decay::kLinear, Decay::kCosine}) {
    const ScheduleOptions floor{.decay = decay, .warmup_steps = 10, .min_factor = 0.1};
    CHECK(schedule_factor(floor, 10, 110) == Approx(1.0));
    CHECK(schedule_factor(floor, 60, 110) == Approx(0.55));
    CHECK(schedule_factor(floor, 110, 110) == Approx(0.1));
  }
}

TEST_CASE("schedules: decay `step` is BLIP's, with its warm-up in the first epoch", "[optimizer]") {
  // salesforce/BLIP 470b41e, pretrain.py and utils.py: warmup_lr_schedule in epoch 0 (here from 0), step_lr_schedule before each epoch.
  constexpr double kInit = 3e-4, kMin = 1e-4, kRate = 0.9;
  constexpr std::int64_t kEpoch = 40, kEpochs = 20, kWarmup = 30;
  const ScheduleOptions options{.decay = Decay::kStep, .warmup_steps = kWarmup, .warmup_from_zero = true, .min_factor = kMin / kInit, .decay_factor = kRate, .every_steps = kEpoch};
  bool reached_min = false;
  for (std::int64_t epoch = 0; epoch < kEpochs; ++epoch) {
    const double of_epoch = std::max(kMin, kInit * std::pow(kRate, static_cast<double>(epoch)));
    reached_min = reached_min || of_epoch == kMin;
    for (std::int64_t i = 0; i < kEpoch; ++i) {
      const double official = epoch == 0 ? std::min(kInit, kInit * static_cast<double>(i) / static_cast<double>(kWarmup)) : of_epoch;
      INFO("epoch " << epoch << ", step " << i);
      CHECK(kInit * schedule_factor(options, epoch * kEpoch + i, kEpochs * kEpoch) == Approx(official).epsilon(1e-12));
    }
  }
  CHECK(reached_min);
  // Of the last 80 steps alone: the peak, then two steps down.
  const ScheduleOptions late{.decay = Decay::kStep, .decay_steps = 80, .decay_factor = 0.5, .every_steps = 40};
  CHECK(schedule_factor(late, 119, 200) == 1.0);
  CHECK(schedule_factor(late, 159, 200) == 1.0);
  CHECK(schedule_factor(late, 160, 200) == 0.5);
  CHECK_THROWS_WITH(schedule_factor({.decay = Decay::kStep}, 0, 10), Catch::Contains("[schedule_factor] every_steps: expected at least 1"));
}

}  // namespace
}  // namespace fgvl::train
