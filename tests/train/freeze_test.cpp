// train.freeze: parameters that keep the value they start with.
#include <algorithm>
#include <atomic>
#include <filesystem>
#include <map>
#include <set>

#include <torch/torch.h>

#include "fgvl/core/files.hpp"
#include "fgvl/core/safetensors.hpp"
#include "models/small_model.hpp"
#include "support/catch.hpp"
#include "train/optimizer.hpp"
#include "train/tiny_run.hpp"

namespace fgvl::train {
namespace {

struct Small {
  models::ModelPtr model = models::make(/*clip=*/true);
  losses::Criterion criterion{model->spec()};
  Small() { models::add_terms(criterion); }
};

TEST_CASE("freeze: parameters are named by our names or the official ones, and are counted", "[freeze]") {
  Small small;
  std::int64_t vision = 0, total = 0;
  for (const auto& [name, parameter] : named_parameters(*small.model, small.criterion)) {
    total += parameter.numel();
    if (name.rfind("model.vision_encoder.", 0) == 0) vision += parameter.numel();
  }
  const Frozen frozen = freeze(*small.model, small.criterion, {"vision_encoder.*"});
  CHECK(frozen.total == total);
  CHECK(frozen.trained == total - vision);
  // Behind one text layer, the first fusion layer is the second of the official BERT.
  freeze(*small.model, small.criterion, {"text_encoder.bert.encoder.layer.1.*", "model.text_proj.*", "temp"});
  for (const auto& [name, parameter] : named_parameters(*small.model, small.criterion)) {
    INFO(name);
    bool expected = true;
    for (const char* beginning : {"model.vision_encoder.", "model.fusion_encoder.layer.0.", "model.text_proj.", "losses.itc.temperature."}) expected = expected && name.rfind(beginning, 0) != 0;
    CHECK(parameter.requires_grad() == expected);
  }
}

TEST_CASE("freeze: the other gradients are what they were, and nothing is computed backward through a frozen prefix", "[freeze]") {
  const auto gradients = [](const std::vector<std::string>& globs, bool* prefix_needs_gradient) {
    Small small;
    if (!globs.empty()) freeze(*small.model, small.criterion, globs);
    train_unfrozen(*small.model);
    const auto pass = small.model->begin(models::batch_with(2), {.seed = 1});
    small.criterion.forward(*pass).total.backward();
    *prefix_needs_gradient = pass->image().embeds.requires_grad();
    std::map<std::string, Tensor> found;
    for (const auto& [name, parameter] : named_parameters(*small.model, small.criterion)) found[name] = parameter.grad();
    return found;
  };
  bool with = true, without = false;
  const auto all = gradients({}, &without), rest = gradients({"vision_encoder.*", "model.text_encoder.embeddings.*"}, &with);
  CHECK(without);
  CHECK_FALSE(with);
  for (const auto& [name, gradient] : rest) {
    INFO(name);
    const bool frozen = name.rfind("model.vision_encoder.", 0) == 0 || name.rfind("model.text_encoder.embeddings.", 0) == 0;
    CHECK(gradient.defined() == (!frozen && all.at(name).defined()));
    if (gradient.defined()) CHECK(at::equal(gradient, all.at(name)));
  }
}

TEST_CASE("freeze: frozen parameters have no optimizer state and do not decay, and groups still find their parameters by official names", "[freeze]") {
  Small small;
  freeze(*small.model, small.criterion, {"model.text_encoder.*"});
  const NamedTensors parameters = named_parameters(*small.model, small.criterion);
  std::map<std::string, Tensor> before;
  for (const auto& [name, parameter] : parameters) before[name] = parameter.detach().clone();
  // A group of frozen parameters only is no mistake, and layer 1 is the fusion encoder's first although the text layer before it does not train.
  AdamW optimizer(parameters, {.weight_decay = 0.5, .groups = {{"still", {{"text_encoder.bert.encoder.layer.1.*"}, 0.0}}, {"words", {{"text_encoder.bert.embeddings.*"}, 2.0}}}});
  for (const auto& [name, tensor] : optimizer.state()) CHECK(name.find("model.text_encoder.") == std::string::npos);
  const auto pass = small.model->begin(models::batch_with(2), {.seed = 1});
  small.criterion.forward(*pass).total.backward();
  optimizer.step(0.1);
  std::set<std::string> moved;
  for (const auto& [name, parameter] : parameters) {
    if (!at::equal(parameter, before[name])) moved.insert(name);
  }
  for (const std::string& name : moved) {
    CHECK(name.rfind("model.text_encoder.", 0) != 0);
    CHECK(name.rfind("model.fusion_encoder.layer.0.", 0) != 0);
  }
  CHECK(moved.count("model.fusion_encoder.layer.1.output.dense.weight") == 1);
  CHECK(moved.count("model.vision_encoder.class_embedding") == 1);
}

TEST_CASE("freeze: a glob that fits nothing names the nearest, and everything frozen is refused", "[freeze]") {
  const auto with = [](const std::vector<std::string>& globs) {
    Small small;
    freeze(*small.model, small.criterion, globs);
  };
  CHECK_THROWS_WITH(with({"model.text_proj.*", "vison_encoder.*"}), Catch::Contains("train.freeze: \"vison_encoder.*\" fits no parameter of this run (did you mean \"vision_encoder.*\"?)"));
  CHECK_THROWS_WITH(with({"model.text_proj.weigth"}), Catch::Contains("(did you mean \"model.text_proj.weight\"?)"));
  CHECK_THROWS_WITH(with({"model.*", "losses.*"}), Catch::Contains("train.freeze: [model.*, losses.*] fits every parameter of this run"));
  const auto trainer = Trainer::make(test::tiny_run({"train.freeze=[\"model.vision.*\"]"}), {});
  REQUIRE_FALSE(trainer.ok());
  CHECK(exit_code(trainer.status()) == ExitCode::kUsage);
  CHECK_THAT(std::string(trainer.status().message()), Catch::Contains("train.freeze: \"model.vision.*\" fits no parameter"));
}

/// Remembers what a run says, and stops it behind a step.
class Listener final : public Progress {
 public:
  explicit Listener(std::int64_t stop_after = -1) : stop_after_(stop_after) {}
  void on_step(const Step& step) override { stop = step.step == stop_after_; }
  void on_message(const std::string& message) override { messages.push_back(message); }
  std::int64_t said(const std::string& beginning) const {
    return std::count_if(messages.begin(), messages.end(), [&](const std::string& message) { return message.rfind(beginning, 0) == 0; });
  }

  std::atomic<bool> stop{false};
  std::vector<std::string> messages;

 private:
  std::int64_t stop_after_;
};

const std::vector<std::string> kShort = {"train.steps=6", "train.checkpoint_every=3", "probe_every=0", "probes={norm: null}", "train.freeze=[\"vision_encoder.*\", \"losses.mlm.*\"]"};

/// The folder of the last checkpoint.
std::string train_to_end(const std::string& out, bool resume, Listener& listener) {
  auto trainer = Trainer::make(test::tiny_run(kShort), {.out = out, .resume = resume, .stop = &listener.stop, .progress = &listener});
  INFO(trainer.status().ToString());
  REQUIRE(trainer.ok());
  REQUIRE((*trainer)->run().ok());
  return out + "/checkpoints/step_6";
}

TEST_CASE("freeze: a run leaves frozen weights and the running statistics of a frozen stem byte-equal, and resumes exactly", "[freeze]") {
  Listener whole_listener, first_listener(3), second_listener;
  const std::string whole = train_to_end(test::fresh_run("frozen"), false, whole_listener), stopped_run = test::fresh_run("frozen_stopped");
  CHECK(whole_listener.said("training ") == 1);
  train_to_end(stopped_run, false, first_listener);
  const std::string resumed = train_to_end(stopped_run, true, second_listener);
  for (const char* file : {"model.safetensors", "optimizer.safetensors", "state.json"}) CHECK(read_file(whole + "/" + file).value() == read_file(resumed + "/" + file).value());

  const auto start = Trainer::make(test::tiny_run(kShort), {}).value();
  std::map<std::string, Tensor> before;
  for (const auto& [name, value] : models::named_state(start->model(), "")) before[name] = value;
  int frozen = 0, statistics = 0, trained = 0;
  const NamedTensors weights = read_safetensors(whole + "/model.safetensors").value(), moments = read_safetensors(whole + "/optimizer.safetensors").value();
  for (const auto& [name, value] : weights) {
    INFO(name);
    if (name.rfind("vision_encoder.", 0) == 0) {
      CHECK(at::equal(value, before.at(name)));
      ++frozen;
      statistics += name.find("running_") != std::string::npos;
    } else if (const auto found = before.find(name); found != before.end() && !at::equal(value, found->second)) {
      ++trained;
    }
  }
  CHECK(statistics == 4);  // two norms of the stem
  CHECK(frozen > statistics);
  CHECK(trained > 0);
  for (const auto& [name, value] : moments) {
    CHECK(name.find("vision_encoder") == std::string::npos);
    CHECK(name.find("losses.mlm") == std::string::npos);
  }
}

TEST_CASE("freeze: a checkpoint of a run that froze parameters has no state for them, and says so where they train", "[freeze]") {
  const std::string out = test::fresh_run("thawed");
  Listener listener(3);
  train_to_end(out, false, listener);
  std::vector<std::string> thawed = kShort;
  thawed.back() = "train.freeze=[]";
  const auto trainer = Trainer::make(test::tiny_run(thawed), {.out = out, .resume = true});
  REQUIRE_FALSE(trainer.ok());
  CHECK_THAT(std::string(trainer.status().message()), Catch::Contains("train.freeze"));
}

}  // namespace
}  // namespace fgvl::train
