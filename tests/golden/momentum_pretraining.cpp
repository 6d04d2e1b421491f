#include "golden/momentum_pretraining.hpp"

#include <algorithm>

#include "fgvl/losses/temperature.hpp"
#include "support/catch.hpp"

namespace fgvl::test {
namespace {

using Json = nlohmann::json;

std::vector<torch::nn::Module*> modules(const OfficialRun& run) { return {run.model.get(), run.criterion.get()}; }

void check_losses(const Tensors& ours, const Json& golden, bool twice) {
  REQUIRE(ours.size() == golden.size());
  for (const auto& [name, value] : golden.items()) {
    INFO(name << (twice ? " in float64" : ""));
    REQUIRE(ours.count(name) == 1);
    const double expected = value.get<double>();
    CHECK(std::abs(ours.at(name).item<double>() - expected) <= (twice ? test::kDoubleTolerance * std::abs(expected) : kLossTolerance));
  }
}

}  // namespace

Tensor soft_cross_entropy(const Tensor& logits, const Tensor& targets, std::int64_t normalised) { return -(at::log_softmax(logits, normalised) * targets).sum(-1); }

Tensor mean_of(const losses::Loss& loss) { return loss.parts().at(0).sum / loss.parts().at(0).count; }

MomentumPretraining::MomentumPretraining(const OfficialModel& official, const Tensors& scenario, at::ScalarType dtype)
    : live(prepare(official, scenario, dtype)), momentum(prepare_momentum(official, scenario, dtype)), official_(official) {
  const Tensors weights = official.weights();
  image_queue = weights.at("image_queue").to(dtype);
  text_queue = weights.at("text_queue").to(dtype);
  queue_place = weights.at("queue_ptr").item<std::int64_t>();
}

Tensors MomentumPretraining::forward(const Tensors& scenario, double alpha) {
  live.take_inputs(scenario);
  momentum.take_inputs(scenario);
  update_momentum();
  live.pass = live.model->begin(live.batch);
  temperature = dynamic_cast<losses::TemperatureSource&>(*live.criterion->find("itc")).divisor();
  live.criterion->connect();
  Tensors losses;
  losses["loss_ita"] = image_text_alignment(alpha);
  losses["loss_itm"] = mean_of(live.criterion->find("itm")->forward(*live.pass));
  add_losses(with_prefix(scenario, "in."), alpha, losses);
  for (const auto& [name, value] : Tensors(losses)) losses["total"] = losses.count("total") > 0 ? losses["total"] + value : value;
  return losses;
}

void MomentumPretraining::descend(double learning_rate) {
  torch::NoGradGuard guard;
  for (torch::nn::Module* module : modules(live)) {
    for (Tensor& parameter : module->parameters()) {
      if (parameter.grad().defined()) parameter.sub_(parameter.grad() * learning_rate);
    }
    module->zero_grad();
  }
}

Tensors MomentumPretraining::momentum_weights() const {
  Tensors weights;
  const auto collect = [&](const std::string& prefix, const torch::nn::Module& module) {
    for (const auto& [name, value] : models::named_state(module, prefix)) {
      std::string official = models::to_official(official_.names(), name, official_.text_layers()).value();
      weights[official.insert(std::min(official.find('.'), official.size()), "_m")] = value;
    }
  };
  collect("model.", *momentum.model);
  collect("losses.", *momentum.criterion);
  return weights;
}

void MomentumPretraining::check_outputs(const Tensors& out) {
  check_close("itm_logits", live.matching_logits(), out.at("itm_logits"), kOutputTolerance);
  check_close("image_feat_m", image_features_m, out.at("image_feat_m"), kOutputTolerance);
  check_close("text_feat_m", text_features_m, out.at("text_feat_m"), kOutputTolerance);
  check_close("image_queue", image_queue, out.at("image_queue"), kOutputTolerance);
  check_close("text_queue", text_queue, out.at("text_queue"), kOutputTolerance);
  CHECK(queue_place == out.at("queue_ptr").item<std::int64_t>());
  if (out.count("temp_after") > 0) check_close("temp_after", temperature, out.at("temp_after"), 1e-7);
}

void MomentumPretraining::update_momentum() {
  torch::NoGradGuard guard;
  const double kept = official_.json["config"]["momentum"];
  for (std::size_t i = 0; i < 2; ++i) {
    const auto current = modules(live)[i]->named_parameters();
    for (const auto& parameter : modules(momentum)[i]->named_parameters()) parameter.value().mul_(kept).add_(current[parameter.key()] * (1.0 - kept));
  }
}

/// Contrast with the momentum features of the batch and of the queues, half of the targets being the momentum model's own similarities; then the queues take the batch.
Tensor MomentumPretraining::image_text_alignment(double alpha) {
  const auto directions = [&](const Tensor& images, const Tensor& texts) {
    return std::make_pair(at::matmul(images, at::cat({text_features_m.t(), text_queue}, 1)) / temperature, at::matmul(texts, at::cat({image_features_m.t(), image_queue}, 1)) / temperature);
  };
  std::pair<Tensor, Tensor> targets;
  {
    torch::NoGradGuard guard;
    const auto pass = momentum.model->begin(momentum.batch);
    image_features_m = pass->image().features;
    text_features_m = pass->text().features;
    const auto [to_text, to_image] = directions(image_features_m, text_features_m);
    // float32 in the official code, in its float64 run too: (1 - alpha) is rounded.
    const Tensor own = at::eye(to_text.size(0), to_text.size(1), to_text.options().dtype(at::kFloat));
    targets = {alpha * to_text.softmax(1) + (1 - alpha) * own, alpha * to_image.softmax(1) + (1 - alpha) * own};
  }
  const auto [to_text, to_image] = directions(live.pass->image().features, live.pass->text().features);
  const Tensor loss = (soft_cross_entropy(to_text, targets.first).mean() + soft_cross_entropy(to_image, targets.second).mean()) / 2;
  const std::int64_t count = image_features_m.size(0);
  image_queue = image_queue.clone();
  text_queue = text_queue.clone();
  image_queue.slice(1, queue_place, queue_place + count).copy_(image_features_m.t());
  text_queue.slice(1, queue_place, queue_place + count).copy_(text_features_m.t());
  queue_place = (queue_place + count) % image_queue.size(1);
  return loss;
}

std::vector<PretrainingStep> steps_of(const OfficialModel& official) {
  if (!official.json.contains("steps")) return {PretrainingStep{"step1", official.json, official.json["config"]["alpha"]}};
  std::vector<PretrainingStep> steps;
  for (const Json& step : official.json["steps"]) steps.push_back(PretrainingStep{"step" + std::to_string(steps.size() + 1), step, step["alpha"]});
  return steps;
}

int check_steps(const OfficialModel& official, MomentumPretraining& training) {
  const std::vector<PretrainingStep> steps = steps_of(official);
  const bool single = training.image_queue.scalar_type() == at::kFloat;
  for (const PretrainingStep& step : steps) {
    INFO(step.scenario);
    const bool last = &step == &steps.back();
    const Tensors scenario = official.scenario(step.scenario), gradients = with_prefix(scenario, "grad.");
    const Tensors losses = training.forward(scenario, step.alpha);
    check_losses(losses, step.golden[single ? "losses" : "losses_float64"], !single);
    if (single) {
      training.check_outputs(with_prefix(scenario, "out."));
      const Tensors ours = training.momentum_weights();
      for (const auto& [name, value] : with_prefix(scenario, "momentum.")) {
        INFO(name);
        REQUIRE(ours.count(name) == 1);
        check_close(name, ours.at(name), value, kOutputTolerance);
      }
    }
    if (single && !gradients.empty()) {
      check_gradients(official, training.live, losses.at("total"), gradients);
    } else if (!last) {
      losses.at("total").backward();
    }
    if (!last) training.descend(official.json["config"]["sgd_lr"]);
  }
  return static_cast<int>(steps.size());
}

}  // namespace fgvl::test
