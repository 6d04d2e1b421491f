// Models of two encoders without fusion, and CLIP's text encoder.
#include "models/small_model.hpp"
#include "support/catch.hpp"

namespace fgvl::models {
namespace {

TEST_CASE("CLIP text: the feature is read at the last token, and neither padding nor its id matters", "[models]") {
  torch::NoGradGuard guard;
  const ModelPtr model = make_dual();
  model->eval();
  RegionBatch batch = batch_with(1);
  batch.text_mask[1].slice(0, 3).fill_(false);
  const Tensor before = model->begin(batch)->text().features;
  RegionBatch padded = batch;
  padded.text_ids = at::constant_pad_nd(batch.text_ids, {0, 3}, 7);
  padded.text_ids[1].slice(0, 3).fill_(9);
  padded.text_mask = at::constant_pad_nd(batch.text_mask, {0, 3}, 0);
  CHECK(at::allclose(before, model->begin(padded)->text().features, 1e-5, 1e-6));
  RegionBatch other_end = batch;
  other_end.text_ids = batch.text_ids.clone();
  other_end.text_ids[1][2] = batch.text_ids[1][2].item<std::int64_t>() == 6 ? 5 : 6;
  const Tensor after = model->begin(other_end)->text().features;
  CHECK_FALSE(at::allclose(before[1], after[1], 1e-3, 1e-3));
  CHECK(at::allclose(before[0], after[0], 1e-5, 1e-6));
}

TEST_CASE("CLIP text: a token sees none behind it", "[models]") {
  torch::NoGradGuard guard;
  const ModelPtr model = make_dual();
  model->eval();
  RegionBatch batch = batch_with(1);
  const Tensor before = model->begin(batch)->text().embeds;
  batch.text_ids = batch.text_ids.clone();
  batch.text_ids[0][3] = batch.text_ids[0][3].item<std::int64_t>() == 6 ? 5 : 6;
  const Tensor after = model->begin(batch)->text().embeds;
  CHECK(at::allclose(before[0].slice(0, 0, 3), after[0].slice(0, 0, 3), 1e-5, 1e-6));
  CHECK_FALSE(at::allclose(before[0][3], after[0][3], 1e-3, 1e-3));
  CHECK_FALSE(at::allclose(before[0][4], after[0][4], 1e-3, 1e-3));
}

TEST_CASE("a model without fusion has two encoders and two projections, and nothing that fusion would need", "[models]") {
  const ModelPtr model = make_dual();
  CHECK(model->spec().fusion_width == 0);
  for (const auto& [name, tensor] : named_state(*model, "")) {
    INFO(name);
    CHECK((name.rfind("vision_encoder.", 0) == 0 || name.rfind("text_encoder.text_model.", 0) == 0 || name == "vision_proj.weight" || name == "text_proj.weight"));
  }
  const ModelInfo info = describe(*model, 5);
  CHECK(info.flops_per_pair == 0);
  CHECK(info.flops_per_text > 0);
  const auto pass = model->begin(batch_with(1));
  CHECK_THROWS_WITH(pass->matched(), Catch::Contains("no fusion encoder"));
  CHECK_THROWS_WITH(pass->predicted_boxes(torch::arange(1)), Catch::Contains("no box head"));
}

TEST_CASE("losses that read fused tokens refuse a model without fusion when they are made", "[models]") {
  losses::Criterion criterion(make_dual()->spec());
  CHECK_THROWS_WITH(criterion.add("itm", losses::MatchingOptions{.temperature = "0.07"}), Catch::Contains("[matching]") && Catch::Contains("model.fusion.type is none"));
  CHECK_THROWS_WITH(criterion.add("mlm", losses::MaskedLanguageOptions{}), Catch::Contains("[masked_language]"));
  CHECK_THROWS_WITH(criterion.add("box", losses::BoxRegressionOptions{}), Catch::Contains("[box_regression]"));
  CHECK_THROWS_WITH(criterion.add("foil", losses::FoilMatchingOptions{}), Catch::Contains("[foil_matching]"));
}

TEST_CASE("a model without fusion trains on whole pictures and regions by contrast", "[models]") {
  const ModelPtr model = make_dual();
  losses::Criterion criterion(model->spec());
  criterion.add("itc", losses::ContrastiveOptions{.temperature = {.kind = losses::TemperatureKind::kLogScale, .min = 0.01}});
  const auto pass = model->begin(batch_with(2));
  criterion.forward(*pass).total.backward();
  for (const auto& parameter : model->named_parameters()) {
    INFO(parameter.key());
    REQUIRE(parameter.value().grad().defined());
  }
}

}  // namespace
}  // namespace fgvl::models
