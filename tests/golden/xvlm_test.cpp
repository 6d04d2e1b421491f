// Parity with the official X-VLM (zengyan-97/X-VLM cb4fff1), run the way a user runs a model: make_region_vlm, begin, Criterion.
#include "fgvl/losses/box_regression.hpp"
#include "fgvl/losses/contrastive.hpp"
#include "fgvl/losses/masked_language.hpp"
#include "fgvl/models/name_map.hpp"
#include "golden/official_model.hpp"
#include "golden/visual_rows.hpp"
#include "support/catch.hpp"

namespace fgvl {
namespace {

using test::OfficialModel;
using test::OfficialRun;
using test::Tensors;
using test::check_close;
using test::kLossTolerance;
using test::kOutputTolerance;
using test::with_prefix;

const std::map<std::string, std::string> kLossNames = {{"loss_itc", "itc"}, {"loss_itm", "itm"}, {"loss_mlm", "mlm"}, {"loss_bbox", "box.l1"}, {"loss_giou", "box.giou"}};

void check_outputs(OfficialRun& run, const Tensors& out) {
  ForwardPass& pass = *run.pass;
  const RegionFeatures& regions = pass.regions();
  check_close("image_embeds", test::visual_rows(regions, out.at("image_embeds").size(1) - 1), out.at("image_embeds"), kOutputTolerance);
  check_close("image_feat", regions.features, out.at("image_feat"), kOutputTolerance);
  if (out.count("image_embeds_fullatts") > 0) {
    check_close("image_embeds_fullatts", pass.image().embeds.index_select(0, run.batch.text_to_image), out.at("image_embeds_fullatts"), kOutputTolerance);
  }
  const Tensor valid = run.batch.text_mask;
  check_close("text_embeds", pass.text().embeds.index({valid}), out.at("text_embeds").index({valid}), kOutputTolerance);
  check_close("text_feat", pass.text().features, out.at("text_feat"), kOutputTolerance);
  const Tensor temperature = dynamic_cast<losses::TemperatureSource&>(*run.criterion->find("itc")).divisor();
  check_close("temp_after", temperature, out.at("temp_after"), 1e-7);
  check_close("sim_i2t", at::matmul(regions.features, pass.text().features.t()) / temperature, out.at("sim_i2t"), 1e-4);  // similarities / 0.07: 14 times the error of a feature

  auto& scorer = dynamic_cast<losses::PairScorer&>(*run.criterion->find("itm"));
  const std::int64_t texts = run.batch.text_count();
  const Tensor all = at::arange(texts);
  const auto first_tokens = [&](const Tensor& text, const Tensor& visual) {
    return pass.fuse({.text_index = text, .visual_index = visual, .positions = at::zeros({text.size(0), 1}, at::kLong)}).select(1, 0);
  };
  check_close("itm_logits", run.matching_logits(), out.at("itm_logits"), kOutputTolerance);
  if (out.count("match_prob_text_by_image") > 0) {
    const Tensor grid = scorer.pair_logits(first_tokens(all.repeat_interleave(texts), all.repeat({texts}))).softmax(1).select(1, 1);
    check_close("match_prob_text_by_image", grid.view({texts, texts}), out.at("match_prob_text_by_image"), kOutputTolerance);
  }
  if (out.count("mlm_logits") > 0) {
    const Tensor fused = pass.fuse({.text = TextInput::kMasked, .text_index = all, .visual_index = all, .positions = run.batch.masked_positions});
    auto& words = dynamic_cast<losses::WordPredictor&>(*run.criterion->find("mlm"));
    check_close("mlm_logits", words.word_logits(fused, pass.word_embedding()), out.at("mlm_logits"), kOutputTolerance);
  }
  if (out.count("output_coord") > 0) {
    const Tensor boxes = pass.predicted_boxes(all);
    check_close("output_coord", boxes, out.at("output_coord"), kOutputTolerance);
    losses::Criterion all_rows(run.model->spec());
    all_rows.add("box", losses::BoxRegressionOptions{.all_rows = true});
    const losses::LossReport report = all_rows.forward(pass);
    check_close("loss_bbox_all", torch::tensor(report.mean("box.l1").value()), out.at("loss_bbox_all").to(at::kDouble), kLossTolerance);
    check_close("loss_giou_all", torch::tensor(report.mean("box.giou").value()), out.at("loss_giou_all").to(at::kDouble), kLossTolerance);
  }
}

/// Every tensor of an official Swin is either a parameter of ours or follows from its sizes.
void check_derived_tensors(const OfficialModel& official) {
  Tensors vision = with_prefix(official.weights(), "vision_encoder.");
  for (const auto& [name, value] : models::derived_tensors(test::swin_options(official.json["config"]))) {
    INFO(name);
    REQUIRE(vision.count(name) == 1);
    CHECK(vision[name].scalar_type() == value.scalar_type());
    CHECK(at::equal(vision[name], value));
    vision.erase(name);
  }
  for (const auto& parameter : test::make_vision(official.json["config"])->named_parameters()) CHECK(vision.erase(parameter.key()) == 1);
  CHECK(vision.empty());
}

TEST_CASE("X-VLM: outputs, losses and gradients equal the official implementation's", "[golden]") {
  FGVL_NEEDS_GOLDEN();
  int fixtures = 0, scenarios = 0;
  for (const OfficialModel& fixture : test::official_models("xvlm")) {
    ++fixtures;
    if (fixture.json["config"]["vision"]["kind"] == "swin") check_derived_tensors(fixture);
    for (const auto& [scenario, expected] : fixture.json["scenarios"].items()) {
      INFO(fixture.name() << " " << scenario);
      const Tensors tensors = fixture.scenario(scenario), out = with_prefix(tensors, "out.");
      OfficialRun single = test::prepare(fixture, tensors, at::kFloat);
      single.forward();
      for (const auto& [name, value] : expected["losses"].items()) {
        INFO(name);
        const double ours = name == "total" ? single.report.total.item<double>() : single.report.mean(kLossNames.at(name)).value();
        CHECK(std::abs(ours - value.get<double>()) <= kLossTolerance);
      }
      check_outputs(single, out);
      test::check_gradients(fixture, single, single.report.total, with_prefix(tensors, "grad."));
      OfficialRun twice = test::prepare(fixture, tensors, at::kDouble);
      twice.forward();
      for (const auto& [name, value] : expected["losses_float64"].items()) {
        INFO(name << " in float64");
        const double ours = name == "total" ? twice.report.total.item<double>() : twice.report.mean(kLossNames.at(name)).value();
        CHECK(std::abs(ours - value.get<double>()) <= test::kDoubleTolerance * std::abs(value.get<double>()));
      }
      ++scenarios;
    }
  }
  std::cout << "X-VLM parity: " << fixtures << " fixtures, " << scenarios << " scenarios, " << test::compared_numbers << " numbers compared" << std::endl;
  CHECK(scenarios > 0);
  CHECK(test::compared_numbers > 0);
}

}  // namespace
}  // namespace fgvl
