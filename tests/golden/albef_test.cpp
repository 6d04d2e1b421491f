// Parity with the official ALBEF and PEVL (e-bug/fine-grained-evals 6cc5fc1, models/ALBEF and models/PEVL, models/model_pretrain.py).
#include "fgvl/core/glob.hpp"
#include "fgvl/losses/masked_language.hpp"
#include "golden/momentum_pretraining.hpp"
#include "support/catch.hpp"

namespace fgvl {
namespace {

using Json = nlohmann::json;
using test::check_close;
using test::kLossTolerance;
using test::OfficialModel;
using test::mean_of;
using test::OfficialRun;
using test::soft_cross_entropy;
using test::Tensors;

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

/// ALBEF's and PEVL's pre-training: masked words, half of whose targets are the momentum model's.
class MaskedPretraining final : public test::MomentumPretraining {
 public:
  using MomentumPretraining::MomentumPretraining;

  void check_outputs(const Tensors& out) override {
    MomentumPretraining::check_outputs(out);
    if (out.count("soft_label_rows_0_255_511") == 0) return;
    const std::int64_t first = official_.json["special_ids"]["pos_0"];
    const Tensor rows = position_targets(official_.json).index_select(0, torch::tensor({first, first + 255, first + 511})).slice(1, first, first + 512);
    check_close("soft_label_rows_0_255_511", rows, out.at("soft_label_rows_0_255_511"), 1e-7);
  }

 private:
  /// Adds what the fixture calls loss_mlm and, for PEVL, loss_soft.
  void add_losses(const Tensors& in, double alpha, Tensors& losses) override {
    const Tensor& labels = in.at("mlm_labels");
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
};


TEST_CASE("ALBEF and PEVL: outputs, losses, queues and gradients equal the official implementation's, step by step", "[golden]") {
  FGVL_NEEDS_GOLDEN();
  int fixtures = 0, steps = 0;
  for (const std::string family : {"albef", "pevl"}) {
    for (const OfficialModel& official : test::official_models(family)) {
      INFO(official.name());
      for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
        MaskedPretraining training(official, official.scenario("step1"), dtype);
        steps += check_steps(official, training);
      }
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
