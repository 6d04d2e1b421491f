#include <set>

#include <torch/torch.h>

#include "eval/fake_model.hpp"
#include "fgvl/core/config.hpp"
#include "fgvl/eval/probes.hpp"
#include "support/catch.hpp"

using namespace fgvl;
using test::Subject;

namespace {

constexpr std::int64_t kPairs = 151;  // two batches of unequal size

struct SkillsFixture {
  SkillsFixture() {
    const auto dataset = data::open_dataset(data::SyntheticOptions{}, {}).value();
    context = {config, data::Split::kHeldOut, test::pipeline_of(dataset->texts().value())};
    config->image.size = 64;
  }
  train::Metrics run(Subject& subject) { return eval::make_probe(options, context).value()->run(subject.input()).value(); }

  std::shared_ptr<data::DataConfig> config = std::make_shared<data::DataConfig>();
  eval::SkillsOptions options{.pairs = kPairs, .unseen_pairs = 20};
  train::ProbeContext context;
};

/// Enough pixels to tell any two scenes apart: every one carries grain.
std::vector<float> picture_key(const Tensor& image) {
  const Tensor row = image[0][0].contiguous();
  return {row.const_data_ptr<float>(), row.const_data_ptr<float>() + row.numel()};
}

std::vector<std::int64_t> words_of(const RegionBatch& batch, std::int64_t row) {
  const Tensor ids = batch.text_ids[row].masked_select(batch.text_mask[row]).contiguous();
  return {ids.const_data_ptr<std::int64_t>(), ids.const_data_ptr<std::int64_t>() + ids.numel()};
}

/// Knows which text is true of which picture: what `value` it gives to those, all others get 0.
std::function<Tensor(const RegionBatch&, const Tensor&)> oracle(const SkillsFixture& fixture, float value) {
  auto truths = std::make_shared<std::set<std::pair<std::vector<float>, std::vector<std::int64_t>>>>();
  for (const std::string& skill : data::synthetic_skills()) {
    for (const bool unseen : {false, true}) {
      if (unseen && skill == "counting") continue;
      for (const auto& pair : data::synthetic_skill_pairs({}, skill, unseen ? 20 : kPairs, unseen)) {
        truths->emplace(picture_key(data::model_input(data::from_tensor(pair.image), fixture.config->image)),
                        fixture.context.texts->encode(pair.text));
      }
    }
  }
  return [truths, value](const RegionBatch& batch, const Tensor& images) {
    std::vector<float> scores;
    for (std::int64_t row = 0; row < batch.text_count(); ++row) {
      scores.push_back(truths->count({picture_key(batch.images[images[row].item<std::int64_t>()]), words_of(batch, row)}) > 0 ? value : 0.0f);
    }
    return torch::tensor(scores);
  };
}

}  // namespace

TEST_CASE("skills: who knows the truth gets 1 everywhere, and nothing on the pictures of other pairs", "[eval]") {
  SkillsFixture fixture;
  Subject subject;
  subject.model.answers.match = oracle(fixture, 1.0f);
  const train::Metrics metrics = fixture.run(subject);
  for (const std::string& skill : data::synthetic_skills()) {
    INFO(skill);
    CHECK(train::metric(metrics, "skills/" + skill + "/accuracy", -1) == 1.0);
    CHECK(train::metric(metrics, "skills/" + skill + "/n", -1) == kPairs);
    // A text that met its own picture would count. Two pictures in a row may have the same count: 1 of 12 texts.
    CHECK(train::metric(metrics, "skills/" + skill + "/shuffled_accuracy", -1) < (skill == "counting" ? 0.2 : 0.03));
    CHECK(train::metric(metrics, "skills/" + skill + "/unseen_accuracy", -1) == (skill == "counting" ? -1.0 : 1.0));
    CHECK(train::metric(metrics, "skills/" + skill + "/unseen_n", -1) == (skill == "counting" ? -1.0 : 20.0));
  }
}

TEST_CASE("skills: preferring the foil gets 0, and so do ties and scores that are not numbers", "[eval]") {
  SkillsFixture fixture;
  fixture.options.unseen_pairs = 0;
  Subject subject;
  for (const int kind : {0, 1, 2}) {
    subject.model.answers.match = oracle(fixture, -1.0f);
    if (kind == 1) subject.model.answers.match = [](const RegionBatch& batch, const Tensor&) { return torch::zeros({batch.text_count()}); };
    if (kind == 2) subject.model.answers.match = [](const RegionBatch& batch, const Tensor&) { return torch::full({batch.text_count()}, NAN); };
    const train::Metrics metrics = fixture.run(subject);
    for (const std::string& skill : data::synthetic_skills()) CHECK(train::metric(metrics, "skills/" + skill + "/accuracy", -1) == 0.0);
  }
}

TEST_CASE("skills: who reads the text and not the picture stays near one half, on any picture", "[eval]") {
  SkillsFixture fixture;
  fixture.options.pairs = 400;  // standard error 2.5 points
  fixture.options.unseen_pairs = 0;
  Subject subject;
  // A pseudo-random number for every text.
  subject.model.answers.match = [](const RegionBatch& batch, const Tensor&) {
    return (batch.text_key.remainder(1000003) * 7919).remainder(1000003).to(torch::kFloat);
  };
  const train::Metrics metrics = fixture.run(subject);
  for (const std::string& skill : data::synthetic_skills()) {
    INFO(skill);
    const double accuracy = train::metric(metrics, "skills/" + skill + "/accuracy", -1);
    // Counting has 12 texts, so that few coin flips decide; its two texts change sides often enough to stay within 25 points.
    CHECK(std::abs(accuracy - 0.5) < (skill == "counting" ? 0.25 : 0.1));
    CHECK(train::metric(metrics, "skills/" + skill + "/shuffled_accuracy", -1) == accuracy);
  }
}

TEST_CASE("skills: a probe scores in evaluation mode without gradients, encodes each picture once, and leaves every module in its mode", "[eval]") {
  SkillsFixture fixture;
  fixture.options.pairs = 2;
  fixture.options.unseen_pairs = 0;
  Subject subject;
  subject.model.answers.match = [](const RegionBatch& batch, const Tensor&) { return torch::zeros({batch.text_count()}); };
  REQUIRE(subject.model.is_training());
  fixture.run(subject);
  CHECK_FALSE(subject.model.ever_in_training);
  CHECK(subject.model.passes == 6);  // a skill each, with the shuffled control
  CHECK(subject.model.is_training());
  CHECK(subject.model.trained->is_training());
  CHECK_FALSE(subject.model.frozen->is_training());
  CHECK(torch::GradMode::is_enabled());
}

TEST_CASE("skills: a criterion without the matching term that should score is an error that names it", "[eval]") {
  SkillsFixture fixture;
  fixture.options.matching = "itm2";
  Subject subject;
  const auto result = eval::make_probe(fixture.options, fixture.context).value()->run(subject.input());
  REQUIRE_FALSE(result.ok());
  CHECK(std::string(result.status().message()).find("itm2") != std::string::npos);
}

TEST_CASE("skills: the scenes are those of the data section; others are refused, and needed where the data are not synthetic", "[eval]") {
  SkillsFixture fixture;
  fixture.options = {.pairs = 2, .unseen_pairs = 2};
  Subject subject;
  subject.model.answers.match = [](const RegionBatch& batch, const Tensor&) { return torch::zeros({batch.text_count()}); };
  const auto made = [&](const std::string& dataset) {
    auto document = config::Document::parse("dataset: " + dataset).value();
    *fixture.config = config::read(document, data::DataConfig()).value();
    return eval::make_probe(fixture.options, fixture.context);
  };
  // Scenes without unseen pairs, as the data section says: nothing unseen is scored.
  const auto metrics = made("{type: synthetic, options: {unseen_pairs: 0}}").value()->run(subject.input()).value();
  CHECK(train::metric(metrics, "skills/shape/n", -1) == 2);
  CHECK(train::metric(metrics, "skills/shape/unseen_n", -1) == -1);
  fixture.options.scenes = data::SyntheticOptions{.unseen_pairs = 0};
  CHECK(made("{type: synthetic, options: {unseen_pairs: 0}}").ok());
  const absl::Status other = made("{type: synthetic}").status();
  CHECK(exit_code(other) == ExitCode::kUsage);
  CHECK(std::string(other.message()).find("data.dataset.options") != std::string::npos);
  CHECK(made("{type: voc}").ok());
  fixture.options.scenes.reset();
  CHECK(exit_code(made("{type: voc}").status()) == ExitCode::kUsage);
}
