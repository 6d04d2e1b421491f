// Parity with the official ALBEF and PEVL (e-bug/fine-grained-evals 6cc5fc1, models/ALBEF and models/PEVL, models/model_pretrain.py). Their objectives, momentum distillation with queues, are not
// losses of this library: they are recomposed here, the official way, from what our models, heads and matching loss compute, so that every gradient can be compared.
#include "fgvl/core/glob.hpp"
#include "fgvl/losses/masked_language.hpp"
#include "golden/official_model.hpp"
#include "support/catch.hpp"

namespace fgvl {
namespace {

using Json = nlohmann::json;
using test::check_close;
using test::kLossTolerance;
using test::kOutputTolerance;
using test::OfficialModel;
using test::OfficialRun;
using test::Tensors;
using test::with_prefix;

/// One step of a fixture: of ALBEF's list, or the only one of PEVL's.
struct Step {
  std::string scenario;
  Json golden;
  double alpha = 0;  ///< share of the momentum model's opinion
};

std::vector<Step> steps_of(const OfficialModel& official) {
  if (!official.json.contains("steps")) return {Step{"step1", official.json, official.json["config"]["alpha"]}};
  std::vector<Step> steps;
  for (const Json& step : official.json["steps"]) steps.push_back(Step{"step" + std::to_string(steps.size() + 1), step, step["alpha"]});
  return steps;
}

/// -sum(targets * log_softmax(logits)) over the last dimension; the softmax runs over `normalised`.
Tensor soft_cross_entropy(const Tensor& logits, const Tensor& targets, std::int64_t normalised = -1) { return -(at::log_softmax(logits, normalised) * targets).sum(-1); }

Tensor mean_of(const losses::Loss& loss) { return loss.parts().at(0).sum / loss.parts().at(0).count; }

/// [T, L, V]: what the run predicts for every token of the masked texts. Each text runs as a batch of its own, because in a batch ours leave the padding of short texts out, and PEVL's distillation
/// looks at it.
Tensor all_word_logits(const OfficialRun& run) {
  auto& words = dynamic_cast<losses::WordPredictor&>(*run.criterion->find("mlm"));
  const Tensor first = at::zeros({1}, at::kLong);
  std::vector<Tensor> logits;
  for (std::int64_t text = 0; text < run.batch.text_count(); ++text) {
    RegionBatch one;
    for (Tensor RegionBatch::*field : {&RegionBatch::images, &RegionBatch::is_region, &RegionBatch::boxes, &RegionBatch::text_ids, &RegionBatch::text_mask, &RegionBatch::masked_ids,
                                       &RegionBatch::masked_positions, &RegionBatch::masked_labels, &RegionBatch::text_key}) {
      one.*field = (run.batch.*field).slice(0, text, text + 1);
    }
    one.text_to_image = first;
    const auto pass = run.model->begin(one);
    logits.push_back(words.word_logits(pass->fuse({.text = TextInput::kMasked, .text_index = first, .visual_index = first}), pass->word_embedding()));
  }
  return at::cat(logits);
}

/// PEVL's ordering-aware targets [V, V]: for the id of each position token, weights that decay with the distance of positions.
Tensor position_targets(const Json& json) {
  constexpr std::int64_t kPositions = 512;
  const std::int64_t first = json["special_ids"]["pos_0"], words = json["config"]["text"]["vocab"];
  const Tensor positions = at::arange(kPositions, at::kDouble);
  const Tensor weights = at::exp(-json["config"]["exp_decay_ratio"].get<double>() * (positions.unsqueeze(0) - positions.unsqueeze(1)).abs());
  Tensor targets = at::zeros({words, words}, at::kFloat);
  targets.slice(0, first, first + kPositions).slice(1, first, first + kPositions).copy_(weights / weights.sum(1, /*keepdim=*/true));
  return targets;
}

/// Pre-training as the official code does it, on our models.
class Pretraining {
 public:
  Pretraining(const OfficialModel& official, const Tensors& scenario, at::ScalarType dtype)
      : live(test::prepare(official, scenario, dtype)), momentum(test::prepare_momentum(official, scenario, dtype)), official_(official) {
    const Tensors weights = official.weights();
    image_queue = weights.at("image_queue").to(dtype);
    text_queue = weights.at("text_queue").to(dtype);
    queue_place = weights.at("queue_ptr").item<std::int64_t>();
  }

  /// Losses by the names of the fixture, with "total".
  Tensors forward(const Tensors& scenario, double alpha) {
    live.take_inputs(scenario);
    momentum.take_inputs(scenario);
    update_momentum();
    live.pass = live.model->begin(live.batch);
    temperature = dynamic_cast<losses::TemperatureSource&>(*live.criterion->find("itc")).divisor();
    live.criterion->connect();
    Tensors losses;
    losses["loss_ita"] = image_text_alignment(alpha);
    losses["loss_itm"] = mean_of(live.criterion->find("itm")->forward(*live.pass));
    masked_language(with_prefix(scenario, "in.").at("mlm_labels"), alpha, losses);
    for (const auto& [name, value] : Tensors(losses)) losses["total"] = losses.count("total") > 0 ? losses["total"] + value : value;
    return losses;
  }

  /// Plain gradient descent on what the last forward pass gave gradients to.
  void descend(double learning_rate) {
    torch::NoGradGuard guard;
    for (torch::nn::Module* module : modules(live)) {
      for (Tensor& parameter : module->parameters()) {
        if (parameter.grad().defined()) parameter.sub_(parameter.grad() * learning_rate);
      }
      module->zero_grad();
    }
  }

  /// The momentum encoders under their official names.
  Tensors momentum_weights() const {
    Tensors weights;
    const auto collect = [&](const std::string& prefix, const torch::nn::Module& module) {
      for (const auto& [name, value] : models::named_state(module, prefix)) {
        const std::string official = models::to_official(official_.names(), name, official_.text_layers()).value();
        const std::size_t dot = official.find('.');
        weights[official.substr(0, dot) + "_m" + official.substr(dot)] = value;
      }
    };
    collect("model.", *momentum.model);
    collect("losses.", *momentum.criterion);
    return weights;
  }

  OfficialRun live, momentum;
  Tensor image_queue, text_queue;  ///< [E, K]
  std::int64_t queue_place = 0;
  Tensor temperature, image_features_m, text_features_m;  ///< of the last forward pass; [T, E]

 private:
  static std::vector<torch::nn::Module*> modules(const OfficialRun& run) { return {run.model.get(), run.criterion.get()}; }

  void update_momentum() {
    torch::NoGradGuard guard;
    const double kept = official_.json["config"]["momentum"];
    for (std::size_t i = 0; i < 2; ++i) {
      const auto current = modules(live)[i]->named_parameters();
      for (const auto& parameter : modules(momentum)[i]->named_parameters()) parameter.value().mul_(kept).add_(current[parameter.key()] * (1.0 - kept));
    }
  }

  /// Contrast with the momentum features of the batch and of the queues, half of the targets being the momentum model's own similarities; then the queues take the batch.
  Tensor image_text_alignment(double alpha) {
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
      const Tensor own = at::eye(to_text.size(0), to_text.size(1), to_text.options());
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

  /// Adds what the fixture calls loss_mlm and, for PEVL, loss_soft.
  void masked_language(const Tensor& labels, double alpha, Tensors& losses) {
    const Tensor masked = labels != -100, logits = all_word_logits(live);
    Tensor opinion;
    {
      torch::NoGradGuard guard;
      opinion = all_word_logits(momentum).softmax(-1);
    }
    const Tensor hard = mean_of(live.criterion->find("mlm")->forward(*live.pass));
    // What the loss computes of packed, masked tokens is what the whole texts give.
    const Tensor of_logits = at::cross_entropy_loss(logits.index({masked}), labels.index({masked}));
    CHECK(std::abs((hard - of_logits).item<double>()) <= (hard.scalar_type() == at::kDouble ? test::kDoubleTolerance : kLossTolerance));
    // PEVL normalises over the tokens of a text instead of over words, by mistake (golden/README.md).
    const bool pevl = official_.names().family == "pevl";
    losses["loss_mlm"] = (1 - alpha) * hard + alpha * soft_cross_entropy(logits, opinion, pevl ? 1 : -1).index({masked}).mean();
    if (!pevl) return;
    const Json& ids = official_.json["special_ids"];
    const Tensor positions = (labels > ids["min_pos"].get<std::int64_t>()).logical_and(labels < ids["max_pos"].get<std::int64_t>());
    CHECK(positions.sum().item<std::int64_t>() == official_.json["masked_position_tokens"].get<std::int64_t>());
    const Tensor targets = position_targets(official_.json).index_select(0, labels.index({positions})).to(logits.scalar_type());
    losses["loss_soft"] = soft_cross_entropy(logits.index({positions}), targets).mean() * official_.json["config"]["postoken_temp"].get<double>();
  }

  const OfficialModel& official_;
};

void check_losses(const Tensors& ours, const Json& golden, bool twice) {
  REQUIRE(ours.size() == golden.size());
  for (const auto& [name, value] : golden.items()) {
    INFO(name << (twice ? " in float64" : ""));
    REQUIRE(ours.count(name) == 1);
    const double expected = value.get<double>();
    CHECK(std::abs(ours.at(name).item<double>() - expected) <= (twice ? test::kDoubleTolerance * std::abs(expected) : kLossTolerance));
  }
}

/// Every step in one precision, float32 with outputs, queues and gradients.
int check_steps(const OfficialModel& official, at::ScalarType dtype) {
  const std::vector<Step> steps = steps_of(official);
  Pretraining training(official, official.scenario(steps.front().scenario), dtype);
  for (const Step& step : steps) {
    INFO(step.scenario);
    const bool last = &step == &steps.back(), single = dtype == at::kFloat;
    const Tensors scenario = official.scenario(step.scenario), out = with_prefix(scenario, "out."), momentum = with_prefix(scenario, "momentum."), gradients = with_prefix(scenario, "grad.");
    const Tensors losses = training.forward(scenario, step.alpha);
    check_losses(losses, step.golden[single ? "losses" : "losses_float64"], !single);
    if (single) {
      check_close("itm_logits", training.live.matching_logits(), out.at("itm_logits"), kOutputTolerance);
      check_close("image_feat_m", training.image_features_m, out.at("image_feat_m"), kOutputTolerance);
      check_close("text_feat_m", training.text_features_m, out.at("text_feat_m"), kOutputTolerance);
      check_close("image_queue", training.image_queue, out.at("image_queue"), kOutputTolerance);
      check_close("text_queue", training.text_queue, out.at("text_queue"), kOutputTolerance);
      CHECK(training.queue_place == out.at("queue_ptr").item<std::int64_t>());
      if (out.count("temp_after") > 0) check_close("temp_after", training.temperature, out.at("temp_after"), 1e-7);
      const Tensors ours = training.momentum_weights();
      for (const auto& [name, value] : momentum) {
        INFO(name);
        REQUIRE(ours.count(name) == 1);
        check_close(name, ours.at(name), value, kOutputTolerance);
      }
      if (out.count("soft_label_rows_0_255_511") > 0) {
        const std::int64_t first = official.json["special_ids"]["pos_0"];
        const Tensor rows = position_targets(official.json).index_select(0, torch::tensor({first, first + 255, first + 511})).slice(1, first, first + 512);
        check_close("soft_label_rows_0_255_511", rows, out.at("soft_label_rows_0_255_511"), 1e-7);
      }
    }
    if (single && !gradients.empty()) {
      test::check_gradients(official, training.live, losses.at("total"), gradients);
    } else if (!last) {
      losses.at("total").backward();
    }
    if (!last) training.descend(official.json["config"]["sgd_lr"]);
  }
  return static_cast<int>(steps.size());
}

TEST_CASE("ALBEF and PEVL: outputs, losses, queues and gradients equal the official implementation's, step by step", "[golden]") {
  FGVL_NEEDS_GOLDEN();
  int fixtures = 0, steps = 0;
  for (const std::string family : {"albef", "pevl"}) {
    for (const OfficialModel& official : test::official_models(family)) {
      INFO(official.name());
      steps += check_steps(official, at::kFloat);
      check_steps(official, at::kDouble);
      ++fixtures;
    }
  }
  std::cout << "ALBEF and PEVL parity: " << fixtures << " fixtures, " << steps << " steps, " << test::compared_numbers << " numbers compared" << std::endl;
  CHECK(fixtures > 0);
}

TEST_CASE("ALBEF's and PEVL's files load with nothing missing, unexpected or allowed; only the objective's state is not needed", "[golden]") {
  FGVL_NEEDS_GOLDEN();
  using models::LoadOutcome;
  for (const std::string family : {"albef", "pevl"}) {
    for (const OfficialModel& official : test::official_models(family)) {
      INFO(official.name());
      const Tensors weights = official.weights();
      std::vector<std::string> names;
      for (const auto& [name, value] : weights) names.push_back(name);
      CHECK(models::recognise(names) == &official.names());
      CHECK(models::text_layers_of(names) == official.text_layers());
      const auto state = std::count_if(names.begin(), names.end(), [&](const std::string& name) { return matches_any(official.names().objective_state, name); });
      const models::LoadReport report = test::prepare(official, official.scenario("step1"), at::kFloat).loaded;
      CHECK(report.count(LoadOutcome::kNotNeeded) == state);
      CHECK(report.count(LoadOutcome::kTied) == 2);
      CHECK(report.count(LoadOutcome::kDerived) == 1);  // position_ids
      CHECK(report.count(LoadOutcome::kLoaded) == static_cast<std::int64_t>(weights.size()) - state - 3);
      CHECK(report.rows.size() == weights.size());
    }
  }
}

}  // namespace
}  // namespace fgvl
