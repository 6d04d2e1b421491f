// golden/optim: parameter groups, learning rates and five steps of AdamW, as the official X-VLM takes them.
#include "fgvl/models/name_map.hpp"
#include "golden/official_model.hpp"
#include "support/catch.hpp"
#include "train/optimizer.hpp"

namespace fgvl {
namespace {

using Json = nlohmann::json;
using test::OfficialModel;
using test::OfficialRun;
using test::Tensors;

/// What the official code trains with, whose new parameters are given by name.
train::OptimizerOptions official_options(const Json& init_params, double lr_factor) {
  return {.decayed = train::Decayed::kXvlm, .update = train::Update::kTransformers, .groups = {{"new", {init_params.get<std::vector<std::string>>(), lr_factor}}}};
}

OfficialModel model_named(const std::string& name) {
  for (OfficialModel& model : test::official_models("xvlm")) {
    if (model.name() == name) return std::move(model);
  }
  FAIL("no golden model " << name);
  return {};
}

/// Every loss that the official model trains, so that every parameter is there.
OfficialRun complete_run(const OfficialModel& official) {
  const Json& scenarios = official.json["scenarios"];
  const std::string scenario = scenarios.contains("region") ? "region" : scenarios.begin().key();
  return test::prepare(official, official.scenario(scenario), at::kFloat);
}

TEST_CASE("parameter groups: decay and learning rate of every parameter are the official code's", "[golden]") {
  FGVL_NEEDS_GOLDEN();
  int compared = 0;
  for (const test::Fixture& fixture : test::golden_json("groups_meaning")) {
    for (const auto& [name, expected] : fixture.json["models"].items()) {
      INFO(name);
      const OfficialModel official = model_named(name);
      const OfficialRun run = complete_run(official);
      const NamedTensors parameters = train::named_parameters(*run.model, *run.criterion);
      const double lr_factor = expected["groups"][2]["lr_factor"];
      const train::AdamW optimizer(parameters, official_options(expected["init_params"], lr_factor));
      std::map<std::string, int> ours;
      for (const auto& group : optimizer.groups()) {
        for (const std::size_t slot : group.slots) ours[models::xvlm_name(parameters[slot].first, official.text_layers())] = (group.decayed ? 0 : 1) + (group.lr_factor == 1 ? 0 : 2);
      }
      for (const auto& [parameter, group] : expected["param_group"].items()) {
        INFO(parameter);
        REQUIRE(ours.count(parameter) == 1);
        CHECK(ours[parameter] == group.get<int>());
        ours.erase(parameter);
        ++compared;
      }
      CHECK(ours.empty());
    }
  }
  std::cout << "parameter groups: " << compared << " parameters compared" << std::endl;
  CHECK(compared > 0);
}

TEST_CASE("learning rates: every step's is the official schedule's", "[golden]") {
  FGVL_NEEDS_GOLDEN();
  int compared = 0;
  for (const std::filesystem::path& path : test::golden_files(".json")) {
    std::ifstream stream(path);
    const Json json = Json::parse(stream);
    if (!json.is_object() || json.empty() || !json.begin()->is_object() || !json.begin()->contains("lr_used_at_step")) continue;
    for (const auto& [name, schedule] : json.items()) {
      INFO(name);
      const std::int64_t steps = schedule["num_training_steps"];
      const Json& warmup = schedule["num_warmup_steps"];
      const train::ScheduleOptions options{
          .decay = train::Decay::kLinear, .warmup_steps = warmup.is_number_float() ? static_cast<std::int64_t>(warmup.get<double>() * static_cast<double>(steps)) : warmup.get<std::int64_t>(), .warmup_from_zero = true};
      constexpr double kPeak = 1e-4;
      std::int64_t step = 0;
      for (const Json& used : schedule["lr_used_at_step"]) {
        CHECK(kPeak * train::schedule_factor(options, step, steps) == Approx(used[0].get<double>()).epsilon(1e-12).margin(1e-18));
        ++step;
        ++compared;
      }
    }
  }
  std::cout << "learning rates: " << compared << " compared" << std::endl;
  CHECK(compared > 0);
}

/// Attention's key biases have no gradient but rounding, which Adam turns into steps of the learning rate's size.
double parameter_tolerance(const std::string& name, double lr) {
  const bool key_bias = name.find("key.bias") != std::string::npos || name.find("k_proj.bias") != std::string::npos;
  return key_bias ? 5 * 2 * lr : 2e-4;
}

TEST_CASE("AdamW: losses, gradient norms and parameters over five steps are the official code's", "[golden]") {
  FGVL_NEEDS_GOLDEN();
  int runs = 0, steps = 0;
  std::int64_t numbers = 0;
  for (const test::Fixture& fixture : test::golden_json("optimizer")) {
    if (!fixture.json.contains("runs")) continue;
    const OfficialModel official = model_named(fixture.json["model"]);
    const Tensors stored = test::read_tensors(std::filesystem::path(fixture.path).replace_extension(".safetensors"));
    const Json& constants = fixture.json["optimizer"];
    Json init_params;
    for (const test::Fixture& groups : test::golden_json("groups_meaning")) init_params = groups.json["models"].value(official.name(), Json::object()).value("init_params", init_params);
    REQUIRE(init_params.is_array());
    for (const auto& [name, expected] : fixture.json["runs"].items()) {
      INFO(name);
      OfficialRun run = test::prepare(official, official.scenario(fixture.json["batch"]), at::kFloat);
      train::OptimizerOptions options = official_options(init_params, constants["lr_mult"]);
      options.lr = expected["lr"];
      options.beta1 = constants["betas"][0];
      options.beta2 = constants["betas"][1];
      options.eps = constants["eps"];
      options.weight_decay = constants["weight_decay"];
      if (name == "torch_adamw") options.update = train::Update::kTorch;
      const NamedTensors parameters = train::named_parameters(*run.model, *run.criterion);
      train::AdamW optimizer(parameters, options);
      std::int64_t step = 0;
      for (const Json& now : expected["steps"]) {
        INFO("step " << step);
        // What the parameters are before this step, where it was stored.
        for (const auto& [official_name, value] : test::with_prefix(stored, "param." + name + ".after" + std::to_string(step) + ".")) {
          INFO(official_name);
          const auto found = std::find_if(parameters.begin(), parameters.end(), [&, wanted = official_name](const auto& entry) { return models::xvlm_name(entry.first, official.text_layers()) == wanted; });
          REQUIRE(found != parameters.end());
          CHECK((found->second - value).abs().max().item<double>() <= parameter_tolerance(official_name, options.lr));
          numbers += value.numel();
        }
        run.negatives.visual_for_text.copy_(torch::tensor(now["neg_image_idx"].get<std::vector<std::int64_t>>()));
        run.negatives.text_for_visual.copy_(torch::tensor(now["neg_text_idx"].get<std::vector<std::int64_t>>()));
        optimizer.zero_grad();
        run.forward();
        const std::map<std::string, std::string> terms = {{"loss_itc", "itc"}, {"loss_itm", "itm"}, {"loss_mlm", "mlm"}};
        for (const auto& [loss, value] : now["losses"].items()) {
          INFO(loss);
          const double ours = loss == "total" ? run.report.total.item<double>() : run.report.mean(terms.at(loss)).value();
          CHECK(std::abs(ours - value.get<double>()) <= 1e-4);
        }
        if (!now.contains("grad_norm_before_clip")) break;  // the losses after the last update
        run.report.total.backward();
        CHECK(optimizer.clip(constants["clip_grad_norm"]) == Approx(now["grad_norm_before_clip"].get<double>()).epsilon(1e-4));
        double factor = 1;
        if (expected["schedule"].is_array()) factor = train::schedule_factor({.warmup_steps = expected["schedule"][0], .warmup_from_zero = true}, step, expected["schedule"][1]);
        CHECK(options.lr * factor == Approx(now["lr_groups_used"][0].get<double>()).margin(1e-18));
        optimizer.step(options.lr * factor);
        ++step;
      }
      steps += static_cast<int>(step);
      ++runs;
    }
  }
  std::cout << "AdamW: " << runs << " runs, " << steps << " steps, " << numbers << " numbers compared" << std::endl;
  CHECK(runs > 0);
  CHECK(numbers > 0);
}

}  // namespace
}  // namespace fgvl
