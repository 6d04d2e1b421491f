// Curricula: what changes where a stage begins, and what does not.
#include <algorithm>
#include <map>

#include <torch/torch.h>

#include "fgvl/core/files.hpp"
#include "fgvl/core/safetensors.hpp"
#include "support/catch.hpp"
#include "train/shares.hpp"
#include "train/stages.hpp"
#include "train/tiny_run.hpp"

namespace fgvl::train {
namespace {

constexpr char kCurriculum[] =
    "stages=[{name: captions, steps: 4, losses: {box: null, mlm: {type: linear, from: 0, to: 1, steps: 4}}, streams: {regions: null}, freeze: ['model.vision_encoder.*']}, "
    "{name: regions, steps: 4, lr_factor: 0.5, losses: {itc: 2}}, {name: last, schedule: {warmup_steps: 2}}]";

RunConfig staged(std::vector<std::string> overrides = {}) {
  overrides.insert(overrides.begin(), {kCurriculum, "train.steps=12", "train.accumulate=1", "train.checkpoint_every=4", "train.keep_checkpoints=9", "probe_every=0", "losses.bomb=null"});
  return test::tiny_run(overrides);
}

std::string problem(const std::vector<std::string>& overrides) {
  try {
    staged(overrides);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

std::string run(const RunConfig& config, const std::string& name) {
  const std::string out = test::fresh_run(name);
  auto trainer = Trainer::make(config, {.out = out});
  REQUIRE(trainer.ok());
  const auto result = (*trainer)->run();
  INFO(result.status());
  REQUIRE(result.ok());
  return out;
}

std::map<std::string, Tensor> tensors(const std::string& path) {
  const NamedTensors all = read_safetensors(path).value();
  return {all.begin(), all.end()};
}

TEST_CASE("stages: mistakes are refused before any work, with the key and the nearest valid name", "[stages]") {
  using Catch::Contains;
  CHECK(problem({}).empty());
  CHECK_THAT(problem({"stages.captions.losses={bxo: null}"}), Contains("stages.captions") && Contains("losses.bxo: there is no term of this name (did you mean \"box\"?)"));
  CHECK_THAT(problem({"stages.captions.streams={region: 1}"}), Contains("streams.region: there is no stream of this name (did you mean \"regions\"?)"));
  CHECK_THAT(problem({"stages.regions.lr_facotr=1"}), Contains("stages.regions.lr_facotr: unknown key (did you mean \"lr_factor\"?)"));
  CHECK_THAT(problem({"stages.captions.steps=0"}), Contains("stages.captions.steps: required"));
  CHECK_THAT(problem({"stages.last.steps=5"}), Contains("their steps are 13 together, and train.steps is 12"));
  CHECK_THAT(problem({"train.steps=8"}), Contains("leaves nothing for it"));
  CHECK_THAT(problem({"stages.captions.losses={itc: 0, itm: null, mlm: null, box: null}"}), Contains("stages.captions: losses: every term is switched off in this stage (steps 1 to 4)") && Contains("give one a weight above 0"));
  const auto refused = [](const std::vector<std::string>& overrides) { return std::string(Trainer::make(staged(overrides), {}).status().message()); };
  CHECK_THAT(refused({"stages.captions.freeze=[model.vison_encoder.*]"}), Contains("stages.captions.freeze: \"model.vison_encoder.*\" fits no parameter") && Contains("model.vision_encoder.*"));
  CHECK_THAT(refused({"stages.captions.freeze=['*']"}), Contains("stages.captions.freeze") && Contains("nothing would train"));
  CHECK_THAT(problem({"stages.captions.streams={captions: null, regions: null}"}), Contains("stages.captions: streams: every stream is switched off in this stage (steps 1 to 4)"));
  CHECK_THAT(refused({"stages.captions.streams={captions: {type: step, steps: [0, 1], values: [0, 1]}, regions: null}"}), Contains("at step 0 no stream has a weight above 0"));
  CHECK_THAT(problem({"stages.captions.losses.itc=-1"}), Contains("stages.captions.losses.itc: expected a number of at least 0, got \"-1\""));
  CHECK_THAT(problem({"losses.itc.weight=-1"}), Contains("losses.itc.weight: expected a number of at least 0, got \"-1\""));
  CHECK_THAT(problem({"losses.itc.weight=.inf"}), Contains("losses.itc.weight: expected a number of at least 0"));
  CHECK_THAT(problem({"train.schedule.decay=step"}), Contains("train.schedule: every_steps: required with decay: step"));
  CHECK_THAT(problem({"stages.last.schedule={decay: step}"}), Contains("stages.last.schedule: every_steps: required"));
}

TEST_CASE("stages: a stage counts its own steps alone when it says that nothing would train", "[stages]") {
  using Catch::Contains;
  const std::string off = "stages.captions.losses={itm: null, mlm: null, box: null}";  // itc is left, in steps 1 to 4
  CHECK(problem({off}).empty());
  // A weight that begins after the stage, or ended before it.
  CHECK_THAT(problem({off, "losses.itc.weight={type: step, steps: [0, 4], values: [0, 1]}"}), Contains("stages.captions: losses: every term is switched off in this stage (steps 1 to 4)"));
  CHECK(problem({off, "losses.itc.weight={type: step, steps: [0, 3], values: [0, 1]}"}).empty());
  CHECK_THAT(problem({"stages.last.losses={itm: null, mlm: null, box: null}", "losses.itc.weight={type: linear, from: 1, to: 0, steps: 8}"}),
             Contains("stages.last: losses: every term is switched off in this stage (steps 9 to 12)"));
  // One that the stage itself names, whose steps count from the stage's start.
  const auto late = [](const char* first) { return std::string("stages.regions.losses={itc: {type: step, steps: [0, ") + first + "], values: [0, 1]}, itm: null, mlm: null, box: null}"; };
  CHECK_THAT(problem({late("4")}), Contains("stages.regions: losses: every term is switched off in this stage (steps 5 to 8)"));
  CHECK(problem({late("3")}).empty());
  // A run without stages is one stage.
  const std::vector<std::string> rest = {"stages=[]", "losses.itm=null", "losses.mlm=null", "losses.box=null"};
  const auto alone = [&](const std::string& weight) {
    std::vector<std::string> all = rest;
    all.push_back("losses.itc.weight=" + weight);
    return problem(all);
  };
  CHECK_THAT(alone("0"), Contains("losses: the weight of every term is 0 in all steps (12), so that nothing would train"));
  CHECK_THAT(alone("{type: step, steps: [0, 12], values: [0, 1]}"), Contains("in all steps (12)"));
  CHECK(alone("{type: step, steps: [0, 11], values: [0, 1]}").empty());
  // Whoever makes a configuration without a file hears the same from the trainer.
  RunConfig config = staged();
  for (auto& [name, loss] : config.losses) loss.weight = Schedule::step({{0, 4}, {0, 1}});
  config.stages[0].second.losses.clear();
  CHECK_THAT(std::string(Trainer::make(config, {}).status().message()), Contains("stages.captions.losses: every term is switched off in this stage (steps 1 to 4)"));
}

TEST_CASE("stages: what is wrong with a stage is said with file and line", "[stages]") {
  // kTinyRun begins with an empty line; the stage stands in the fourth line behind it.
  const std::string run = test::kTinyRun, yaml = run + "# stages\nstages:\n  - {name: first, steps: 10}\n  - name: second\n    losses: {itc: 0, itm: 0, mlm: 0, bxo: 0, bomb: 0}\n";
  const auto status_of = [](const std::string& text) {
    return std::string(config::read(config::Document::parse(text, "staged.yaml").value(), RunConfig(test::tiny_registries())).status().message());
  };
  const std::string place = "staged.yaml:" + std::to_string(std::count(run.begin(), run.end(), '\n') + 4) + ": stages.second: ";
  CHECK_THAT(status_of(yaml), Catch::Contains(place + "losses.bxo: there is no term of this name (did you mean \"box\"?)"));
  std::string all_off = yaml;
  all_off.replace(all_off.find("bxo"), 3, "box");
  CHECK_THAT(status_of(all_off), Catch::Contains(place + "losses: every term is switched off in this stage (steps 11 to 30)"));
}

TEST_CASE("stages: the resolved configuration reads back to the same stages, in their order", "[stages]") {
  RunConfig config = staged();
  const std::string yaml = config::to_yaml(config);
  const RunConfig again = config::read(config::Document::parse(yaml).value(), RunConfig(test::tiny_registries())).value();
  CHECK(config::to_yaml(again) == yaml);
  REQUIRE(again.stages.size() == 3);
  CHECK(again.stages[0].first == "captions");
  CHECK_FALSE(again.stages[0].second.losses[0].second.has_value());
  CHECK(again.stages[0].second.losses[1].second == Schedule::linear({.from = 0, .to = 1, .steps = 4}));
  CHECK(again.stages[2].second.schedule->warmup_steps == 2);
}

TEST_CASE("stages: weights, streams and learning rates are functions of the step", "[stages]") {
  const RunConfig config = staged({"train.schedule.decay=linear", "train.optimizer.lr=0.12"});
  const Stages stages(config);
  CHECK(stages.at(3)->name == "captions");
  CHECK(stages.at(4)->name == "regions");
  CHECK(stages.at(8)->name == "last");
  CHECK(stages.spans()[2].end == 12);
  const Schedule box = stages.term_weight("box", 1.0), itc = stages.term_weight("itc", 1.0);
  CHECK(std::vector<double>{box.at(0), box.at(3), box.at(4), box.at(11)} == std::vector<double>{0, 0, 1, 1});
  CHECK(std::vector<double>{itc.at(3), itc.at(4), itc.at(7), itc.at(8)} == std::vector<double>{1, 2, 2, 1});
  CHECK(stages.term_weight("mlm", 1.0).at(2) == 0.5);
  // A schedule is counted from its stage's start.
  const Schedule late = Stages(staged({"stages.regions.losses={box: {type: linear, from: 0, to: 1, steps: 4}}"})).term_weight("box", 1.0);
  CHECK(std::vector<double>{late.at(4), late.at(6), late.at(8)} == std::vector<double>{0, 0.5, 1});
  CHECK(stages.stream_weight("regions", 2.0).at(3) == 0);
  CHECK(stages.stream_weight("regions", 2.0).at(4) == 2);
  // One schedule over the whole run: a line from 0.12 to 0 in 12 steps, half of it in the second stage. The last stage warms up anew.
  CHECK(stages.learning_rate(3, config.train) == Approx(0.09));
  CHECK(stages.learning_rate(4, config.train) == Approx(0.08 * 0.5));
  CHECK(stages.learning_rate(8, config.train) == Approx(0.06));   // the first of two warm-up steps
  CHECK(stages.learning_rate(10, config.train) == Approx(0.12));  // then a line to 0 over its own two
}

TEST_CASE("stages: checkpoints of all have one shape; what is frozen keeps value and moments, and trains on later", "[stages]") {
  const std::string out = run(staged(), "stages");
  const auto at = [&](int step, const char* file) { return tensors(out + "/checkpoints/step_" + std::to_string(step) + "/" + file); };
  const auto first = at(4, "model.safetensors"), second = at(8, "model.safetensors"), last = at(12, "model.safetensors");
  const auto first_moments = at(4, "optimizer.safetensors"), second_moments = at(8, "optimizer.safetensors");
  REQUIRE(first.size() == last.size());
  for (const auto& [name, value] : first) CHECK(last.at(name).sizes() == value.sizes());
  REQUIRE(first_moments.size() == second_moments.size());
  auto fresh = Trainer::make(staged(), {});
  for (const auto& parameter : (*fresh)->model().named_parameters()) {
    if (parameter.key().rfind("vision_encoder.", 0) != 0) continue;
    INFO(parameter.key());
    CHECK(at::equal(first.at(parameter.key()), parameter.value()));
    CHECK_FALSE(at::equal(second.at(parameter.key()), parameter.value()));
    CHECK(first_moments.at("step.model." + parameter.key()).item<float>() == 0);
    CHECK(second_moments.at("step.model." + parameter.key()).item<float>() == 4);
  }
  // The other way round: four steps of training, four of rest.
  const std::string rested = run(staged({"stages=[{name: a, steps: 4}, {name: b, steps: 4, freeze: ['model.vision_encoder.*']}, {name: c}]"}), "rested");
  const auto before = tensors(rested + "/checkpoints/step_4/optimizer.safetensors"), after = tensors(rested + "/checkpoints/step_8/optimizer.safetensors"),
             end = tensors(rested + "/checkpoints/step_12/optimizer.safetensors");
  for (const auto& [name, value] : before) {
    INFO(name);
    const bool vision = name.find(".model.vision_encoder.") != std::string::npos;
    if (vision) CHECK(at::equal(value, after.at(name)));
    if (vision && name.rfind("step.", 0) == 0) CHECK(end.at(name).item<float>() == 8);
  }
  // Only what was computed is logged, and a stage says where it begins.
  const std::string metrics = read_file(out + "/metrics.jsonl").value();
  const auto line = [&](const std::string& begin) {
    const std::size_t at = metrics.find(begin);
    return at == std::string::npos ? "" : metrics.substr(at, metrics.find('\n', at) - at);
  };
  CHECK(line("{\"step\":2,\"epoch\"").find("\"box") == std::string::npos);
  CHECK(line("{\"step\":1,\"epoch\"").find("\"mlm\"") == std::string::npos);  // its weight begins at 0
  CHECK(line("{\"step\":2,\"epoch\"").find("\"mlm\"") != std::string::npos);
  CHECK(metrics.find("{\"step\":0,\"stage\":\"captions\"}\n{\"step\":1,") == 0);
  CHECK(metrics.find("\n{\"step\":4,\"stage\":\"regions\"}\n{\"step\":5,") != std::string::npos);
}

TEST_CASE("shares: measuring them changes no number of the run, and they are what single terms make of the gradient", "[shares]") {
  const std::vector<std::string> plain = {"train.steps=6", "train.checkpoint_every=6", "probe_every=0", "probes=null", "losses.bomb=null"};
  std::vector<std::string> measured = plain;
  measured.emplace_back("train.shares_every=2");
  const std::string without = run(test::tiny_run(plain), "without_shares"), with = run(test::tiny_run(measured), "with_shares");
  for (const char* file : {"model.safetensors", "optimizer.safetensors", "state.json"}) {
    CHECK(read_file(without + "/checkpoints/step_6/" + file).value() == read_file(with + "/checkpoints/step_6/" + file).value());
  }
  const std::string metrics = read_file(with + "/metrics.jsonl").value();
  std::size_t lines = 0;
  for (std::size_t at = metrics.find("\"gradient_shares\""); at != std::string::npos; at = metrics.find("\"gradient_shares\"", at + 1)) ++lines;
  CHECK(lines == 3);
  CHECK_THAT(metrics, Catch::Contains("{\"step\":2,\"gradient_shares\""));

  // By hand: two terms over two parameters. d(a) = 2 (v, w) = (6, 8), d(b) = 3 (0, 1): norms 10 and 3.
  const Tensor v = torch::tensor({3.0}, torch::requires_grad()), w = torch::tensor({4.0}, torch::requires_grad()), other = torch::ones({1}, torch::requires_grad());
  losses::LossReport report;
  report.shares = {{"a", (w.square() + v.square()).sum()}, {"b", 3 * w.sum()}, {"head", other.sum()}};
  report.total = report.shares[0].second + report.shares[1].second + report.shares[2].second;
  const std::vector<GradientShare> shares = gradient_shares(report, {w, v});
  REQUIRE(shares.size() == 3);
  CHECK(shares[0].norm == Approx(10));
  CHECK(shares[0].share == Approx(10.0 / 13));
  CHECK(shares[1].share == Approx(3.0 / 13));
  CHECK(shares[2].share == 0);
  CHECK_FALSE((v.grad().defined() || w.grad().defined()));
  report.total.backward();
  CHECK(at::equal(v.grad(), torch::tensor({6.0})));
  CHECK(at::equal(w.grad(), torch::tensor({11.0})));
}

}  // namespace
}  // namespace fgvl::train
