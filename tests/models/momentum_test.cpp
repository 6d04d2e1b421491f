// Momentum encoders: copies of encoders and projections that follow the weights.
#include "models/small_model.hpp"
#include "support/catch.hpp"

namespace fgvl::models {
namespace {

RegionVlmParts parts(double dropout) {
  const BertOptions text{.width = kWidth, .layers = 1, .heads = 2, .mlp_width = 32, .max_tokens = 8, .dropout = dropout, .attention_dropout = dropout};
  const BertFusionOptions fusion{.layers = 1, .heads = 2, .mlp_width = 32, .dropout = dropout, .attention_dropout = dropout};
  return {make_vision_encoder(ClipVitOptions{.image_size = kImage, .patch_size = kPatch, .width = kWidth, .layers = 2, .heads = 2, .mlp_width = 32, .local_attn_depth = 1}),
          make_text_encoder(text, {.vocab_size = kVocabulary}), make_fusion_encoder(fusion, {.text_width = kWidth, .vision_width = kWidth})};
}

ModelPtr with_momentum(double dropout, const MomentumOptions& options = {.decay = 0.9}) {
  return make_region_vlm(parts(dropout), {.embed_dim = 8, .initializer_range = std::nullopt, .momentum = options}, /*seed=*/3, parts(dropout));
}

TEST_CASE("momentum encoders start with the weights, follow them, and neither train nor change the model", "[momentum]") {
  const ModelPtr model = with_momentum(0), without = make_region_vlm(parts(0), {.embed_dim = 8, .initializer_range = std::nullopt}, /*seed=*/3);
  CHECK(model->spec().momentum == 0.9);
  CHECK_FALSE(without->spec().momentum.has_value());
  const auto parameters = model->named_parameters();
  for (const auto& parameter : without->named_parameters()) {
    INFO(parameter.key());
    CHECK(at::equal(parameter.value(), parameters[parameter.key()]));
    const Tensor* copy = parameters.find("momentum." + parameter.key());
    REQUIRE((copy != nullptr) == (parameter.key().rfind("bbox_head.", 0) != 0));  // nothing follows the box head
    if (copy == nullptr) continue;
    CHECK(at::equal(*copy, parameter.value()));
    CHECK_FALSE(copy->requires_grad());
  }

  const RegionBatch batch = batch_with(2);
  const auto pass = model->begin(batch), plain = without->begin(batch);
  CHECK(at::equal(pass->momentum().text().features, pass->text().features));
  CHECK(at::equal(pass->momentum().regions().features, pass->regions().features));
  CHECK(at::equal(pass->text().features, plain->text().features));
  CHECK_FALSE(pass->momentum().text().features.requires_grad());
  CHECK_FALSE(pass->momentum().matched().requires_grad());
  CHECK_THROWS_WITH(plain->momentum(), Catch::Contains("model.momentum"));
  (pass->text().features.sum() + pass->momentum().text().features.sum()).backward();
  for (const auto& parameter : parameters) CHECK((parameter.key().rfind("momentum.", 0) != 0 || !parameter.value().grad().defined()));

  const Tensor weight = parameters["text_proj.weight"], copy = parameters["momentum.text_proj.weight"], start = copy.clone();
  {
    torch::NoGradGuard guard;
    weight.add_(1.0);
  }
  model->update_momentum();
  CHECK(at::allclose(copy, 0.9 * start + 0.1 * weight, 1e-6, 1e-7));
  without->update_momentum();  // nothing to do
  CHECK(describe(*model, 5).total_parameters > describe(*without, 5).total_parameters);
}

TEST_CASE("in training momentum encoders drop with draws of their own, unless told not to, and leave the model's draws alone", "[momentum]") {
  const RegionBatch batch = batch_with(1);
  const ModelPtr noisy = with_momentum(0.3), calm = with_momentum(0.3, {.dropout = false});
  noisy->train();
  calm->train();
  const auto noisy_pass = noisy->begin(batch, {.seed = 1, .step = 2}), alone = noisy->begin(batch, {.seed = 1, .step = 2}), calm_pass = calm->begin(batch, {.seed = 1, .step = 2});
  const Tensor copied = noisy_pass->momentum().text().features;
  CHECK_FALSE(at::equal(copied, noisy_pass->text().features));
  CHECK_FALSE(at::equal(copied, calm_pass->momentum().text().features));
  CHECK(at::equal(noisy_pass->text().features, alone->text().features));
  const Tensor calm_features = calm_pass->momentum().text().features;
  calm->eval();
  const auto evaluated = calm->begin(batch);
  CHECK(at::equal(calm_features, evaluated->momentum().text().features));
}

TEST_CASE("parts for momentum encoders come with the option, and only then", "[momentum]") {
  CHECK_THROWS_WITH(make_region_vlm(parts(0), {.momentum = MomentumOptions{}}), Catch::Contains("momentum encoders"));
  CHECK_THROWS_WITH(make_region_vlm(parts(0), {}, 0, parts(0)), Catch::Contains("RegionVlmOptions::momentum"));
}

TEST_CASE("a new run starts momentum copies with the weights of a file that has none, and takes them from one that has", "[momentum]") {
  const ModelPtr source = with_momentum(0), target = with_momentum(0);
  {
    torch::NoGradGuard guard;
    for (Tensor& parameter : source->parameters()) parameter.add_(0.25);
    for (const auto& parameter : source->named_parameters()) {
      if (parameter.key().rfind("momentum.", 0) == 0) Tensor(parameter.value()).add_(1.0);
    }
  }
  auto whole = named_state(*source, "model."), plain = whole;
  std::erase_if(plain, [](const auto& tensor) { return is_objective_state(tensor.first); });
  const auto targets = named_state(*target, "model.");
  const LoadOptions strict{}, fresh{.new_objective = true};
  CHECK_FALSE(load_named(targets, plain, strict).ok());  // a run that goes on needs its momentum encoders
  const LoadReport started = load_named(targets, plain, fresh);
  REQUIRE(started.ok());
  CHECK(started.count(LoadOutcome::kStarted) == static_cast<std::int64_t>(whole.size() - plain.size()));
  const auto loaded = target->named_parameters();
  CHECK(at::equal(loaded["momentum.text_proj.weight"], source->named_parameters()["text_proj.weight"]));
  REQUIRE(load_named(targets, whole, fresh).ok());
  CHECK(at::equal(loaded["momentum.text_proj.weight"], source->named_parameters()["momentum.text_proj.weight"]));

  const ModelPtr without = make_region_vlm(parts(0), {.embed_dim = 8, .initializer_range = std::nullopt}, /*seed=*/3);
  const LoadReport left = load_named(named_state(*without, "model."), whole, fresh);
  CHECK(left.ok());
  CHECK(left.count(LoadOutcome::kNotNeeded) == static_cast<std::int64_t>(whole.size() - plain.size()));
  CHECK_FALSE(load_named(named_state(*without, "model."), whole, strict).ok());
}

}  // namespace
}  // namespace fgvl::models
