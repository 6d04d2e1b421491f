// What a model's numbers depend on, and what they must not depend on.
#include <torch/torch.h>

#include "models/attention.hpp"
#include "fgvl/models/roberta.hpp"
#include "models/dropout.hpp"
#include "models/small_model.hpp"
#include "support/catch.hpp"

namespace fgvl::models {
namespace {

/// Box of the top left patch in row 1, whatever else the batch holds.
RegionBatch batch_with_corner_region() {
  RegionBatch batch = batch_with(1);
  batch.boxes[1] = torch::tensor({0.125f, 0.125f, 0.25f, 0.25f});
  return batch;
}

/// The same batch with other pixels inside or outside that patch.
RegionBatch repainted(const RegionBatch& batch, bool inside) {
  RegionBatch other = batch;
  other.images = batch.images.clone();
  if (inside) {
    other.images.slice(2, 0, kPatch).slice(3, 0, kPatch).neg_();
  } else {
    other.images.slice(2, kPatch).neg_();
    other.images.slice(3, kPatch).neg_();
  }
  return other;
}

TEST_CASE("a region's features and fused text depend on its own pixels only, where no earlier layer mixed patches", "[models]") {
  torch::NoGradGuard guard;
  const VitOptions no_blocks{.image_size = kImage, .patch_size = kPatch, .width = kWidth, .layers = 0, .heads = 2};
  const ClipVitOptions all_masked{.image_size = kImage, .patch_size = kPatch, .width = kWidth, .layers = 2, .heads = 2, .mlp_width = 32, .local_attn_depth = 2};
  for (const VisionEncoderPtr& vision : {make_vision_encoder(no_blocks), make_vision_encoder(all_masked)}) {
    const ModelPtr model = make(vision);
    model->eval();
    const RegionBatch batch = batch_with_corner_region();
    const auto pass = model->begin(batch), outside = model->begin(repainted(batch, false)), inside = model->begin(repainted(batch, true));
    const auto same = [&](const auto& of, ForwardPass& other, std::int64_t row) { return at::allclose(of(*pass)[row], of(other)[row], 1e-5, 1e-6); };
    const auto features = [](ForwardPass& one) { return one.regions().features; };
    const auto matched = [](ForwardPass& one) { return one.matched(); };
    CHECK(same(features, *outside, 1));
    CHECK(same(matched, *outside, 1));
    CHECK_FALSE(same(features, *inside, 1));
    CHECK_FALSE(same(matched, *inside, 1));
    CHECK_FALSE(same(features, *outside, 0));  // row 0 is about the whole picture
    CHECK_FALSE(same(matched, *outside, 0));
  }
}

TEST_CASE("boxes are predicted from the whole picture: the true box has no way into the prediction", "[models]") {
  torch::NoGradGuard guard;
  for (const auto& [kind, vision] : every_vision()) {
    INFO(kind);
    const ModelPtr model = make(vision);
    model->eval();
    RegionBatch batch = batch_with_corner_region();
    const Tensor rows = torch::tensor({1, 3}), before = model->begin(batch)->predicted_boxes(rows);
    batch.boxes[1] = torch::tensor({0.6f, 0.6f, 0.5f, 0.5f});
    CHECK(at::allclose(before, model->begin(batch)->predicted_boxes(rows), 1e-5, 1e-6));
    CHECK((before > 0).logical_and(before < 1).all().item<bool>());
  }
}

TEST_CASE("padding a text changes nothing", "[models]") {
  torch::NoGradGuard guard;
  const ModelPtr model = make(false);
  model->eval();
  const RegionBatch batch = batch_with(2);
  RegionBatch padded = batch;
  padded.text_ids = at::constant_pad_nd(batch.text_ids, {0, 3}, 0);
  padded.text_mask = at::constant_pad_nd(batch.text_mask, {0, 3}, 0);
  const auto pass = model->begin(batch), longer = model->begin(padded);
  CHECK(at::allclose(pass->text().features, longer->text().features, 1e-5, 1e-6));
  CHECK(at::allclose(pass->matched(), longer->matched(), 1e-5, 1e-6));
}

TEST_CASE("the padding id gets no gradient from the look-up", "[models]") {
  const ModelPtr model = make(false);
  RegionBatch batch = batch_with(1);
  batch.text_ids.select(1, 4).fill_(0);
  const auto pass = model->begin(batch);
  pass->text().embeds.sum().backward();
  const Tensor gradient = pass->word_embedding().grad();
  CHECK(gradient[0].abs().sum().item<double>() == 0.0);
  CHECK(gradient[2].abs().sum().item<double>() > 0.0);
}

TEST_CASE("roberta: padding trains neither its word nor its position, and does not move the text", "[models]") {
  const RobertaOptions options{.width = kWidth, .layers = 1, .heads = 2, .mlp_width = 32, .max_tokens = 6, .dropout = 0};
  const TextEncoderPtr text = make_text_encoder(options, {.vocab_size = kVocabulary});  // RoBERTa's own pad id, 1
  text->initialize_embeddings(5);
  CHECK(text->max_tokens() == 6);
  const auto parameters = text->named_parameters();
  const Tensor positions = parameters["embeddings.position_embeddings.weight"], words = parameters["embeddings.word_embeddings.weight"];
  CHECK(positions.sizes() == at::IntArrayRef{8, kWidth});
  const auto embeds = [&](const std::vector<std::int64_t>& ids) {
    const Tensor row = torch::tensor(ids, torch::kLong).unsqueeze(0);
    Dropout none;
    return text->encode(row, row != 1, none);
  };
  const Tensor padded = embeds({0, 7, 8, 1, 1, 1});
  (padded * torch::arange(kWidth)).sum().backward();  // weighted: a norm's plain sum does not depend on its input
  for (const Tensor& table : {words, positions}) CHECK(table.grad()[1].abs().sum().item<double>() == 0);
  CHECK(positions.grad()[2].abs().sum().item<double>() > 0);  // the first token's
  CHECK(positions.grad()[5].abs().sum().item<double>() == 0);
  CHECK(at::allclose(padded.slice(1, 0, 3), embeds({0, 7, 8}), 1e-5, 1e-6));
  CHECK_THROWS_WITH(embeds({0, 7, 8, 9, 10, 11, 12}), Catch::Contains("a text has 7 tokens"));
  CHECK_THROWS_WITH(make_text_encoder(options, {.vocab_size = kVocabulary, .pad_id = -1}), Catch::Contains("RoBERTa counts positions from it"));
}

TEST_CASE("bert: the vocabulary's own padding id gets no gradient from the look-up, or no id at all", "[models]") {
  const BertOptions options{.width = kWidth, .layers = 0, .heads = 2, .mlp_width = 32, .max_tokens = 8, .dropout = 0};
  for (const std::int64_t pad_id : {1, -1}) {
    const TextEncoderPtr text = make_text_encoder(options, {.vocab_size = kVocabulary, .pad_id = pad_id});
    Dropout none;
    (text->encode(torch::tensor({{0, 7, 1}}), torch::ones({1, 3}, torch::kBool), none) * torch::arange(kWidth)).sum().backward();
    const Tensor gradient = text->word_embedding().grad().abs().sum(1);
    CHECK(gradient[0].item<double>() > 0);
    CHECK((gradient[1].item<double>() == 0) == (pad_id == 1));
  }
}

TEST_CASE("a text longer than the position table is refused, and the message says what to do", "[models]") {
  const ModelPtr model = make(false);
  RegionBatch batch = batch_with(1);
  batch.text_ids = torch::full({4, 9}, 7, torch::kLong);
  batch.text_mask = torch::ones({4, 9}, torch::kBool);
  CHECK_THROWS_WITH(model->begin(batch)->text(), Catch::Contains("a text has 9 tokens, the position table 8 rows") && Catch::Contains("max_tokens"));
}

TEST_CASE("attention dropout drops single weights, keeps their sum on average, and only in training", "[models]") {
  // One text of two equal tokens looks at four equal ones, whose values are 1: every weight is a quarter, and what is seen counts the kept ones in units of 1 / (4 * 0.75).
  const Tensor query = torch::zeros({1000, 2, 2, 2}), key = torch::zeros({1000, 2, 4, 2}), value = torch::ones({1000, 2, 4, 2});  // two heads
  Dropout none, dropout({.seed = 5, .purpose = "test"}, at::kCPU);
  CHECK(at::allclose(attend_heads(query, key, value, {}, none, 0.25), value.slice(2, 0, 2)));
  CHECK(at::equal(attend_heads(query, key, value, {}, dropout, 0.0), attend_heads(query, key, value, {})));
  const Tensor seen = attend_heads(query, key, value, {}, dropout, 0.25), kept = seen * 3;
  CHECK((kept - kept.round()).abs().max().item<double>() < 1e-5);
  CHECK(kept.round().max().item<double>() == 4);
  CHECK(seen.mean().item<double>() == Approx(1).margin(0.02));  // 4000 draws of 4 weights: three standard errors are 0.014
  CHECK_FALSE(at::equal(seen.select(2, 0), seen.select(2, 1)));
}

/// Central differences of the total loss along a random direction of one parameter, against the gradient; in double, dropout on.
void check_gradients(Model& model, losses::Criterion& criterion, const RegionBatch& batch) {
  const auto total = [&] { return criterion.forward(*model.begin(batch, {.seed = 2, .step = 9})).total; };
  total().backward();
  at::Generator generator = Generator({.seed = 8}).torch_generator(at::kCPU);
  torch::NoGradGuard guard;
  constexpr double kStep = 1e-5;
  for (const auto& parameter : model.named_parameters()) {
    INFO(parameter.key());
    Tensor value = parameter.value();
    REQUIRE(value.grad().defined());
    const Tensor direction = at::empty_like(value).normal_(0, 1, generator);
    const double expected = (value.grad() * direction).sum().item<double>();
    value.add_(direction, kStep);
    const double above = total().item<double>();
    value.add_(direction, -2 * kStep);
    const double below = total().item<double>();
    value.add_(direction, kStep);
    CHECK((above - below) / (2 * kStep) == Approx(expected).epsilon(1e-4).margin(1e-6));
  }
}

TEST_CASE("gradients of all losses together equal central differences", "[models]") {
  for (const Norm norm : {Norm::kPost, Norm::kPre}) {
    for (const auto& [kind, vision] : every_vision(/*drop_path=*/0.3)) {
      INFO(kind << (norm == Norm::kPre ? ", pre-norm" : ", post-norm"));
      const ModelPtr model = make(vision, /*dropout=*/0.1, norm);
      model->to(torch::kDouble);
      model->train();
      RegionBatch batch = batch_with(2);
      batch.images = batch.images.to(torch::kDouble);
      batch.boxes = batch.boxes.to(torch::kDouble);
      // Given negatives: which ones are drawn jumps with the weights.
      losses::MatchingOptions matching;
      matching.given = {.visual_for_text = torch::tensor({1, 2, 3, 4, 5, 0}), .text_for_visual = torch::tensor({5, 0, 1, 2, 3, 4})};
      losses::Criterion criterion(model->spec());
      add_terms(criterion, "itm").add("itm", matching).add("foils", losses::FoilMatchingOptions{});
      criterion.to(torch::kDouble);
      check_gradients(*model, criterion, batch);
    }
  }
}

TEST_CASE("a convolutional stem makes the patches that its channels say", "[models]") {
  torch::NoGradGuard guard;
  VitOptions options{.image_size = kImage, .patch_size = kPatch, .width = kWidth, .layers = 1, .heads = 2, .stem = Stem::kConv, .stem_channels = {4, 8}};
  const ModelPtr model = make(make_vision_encoder(options));
  const auto pass = model->begin(batch_with(1));
  CHECK(pass->image().embeds.sizes() == at::IntArrayRef{2, 1 + kGrid * kGrid, kWidth});
  options.stem_channels = {4};
  CHECK_THROWS_WITH(make_vision_encoder(options), Catch::Contains("stem_channels: expected 2 numbers for a patch of 8, got 1"));
  options.stem_channels = {};
  options.patch_size = 16;
  options.image_size = 40;
  CHECK_THROWS_WITH(make_vision_encoder(options), Catch::Contains("image_size: expected a multiple of patch_size 16"));
}

TEST_CASE("describe: parameters add up, and compute is what the layers' sizes say", "[models]") {
  const VitOptions stem_only{.image_size = kImage, .patch_size = 4, .width = kWidth, .layers = 0, .heads = 2, .stem = Stem::kConv, .stem_channels = {8}};
  const ModelPtr model = make(make_vision_encoder(stem_only));
  const ModelInfo info = describe(*model, 5);
  std::int64_t parameters = 0;
  for (const Tensor& parameter : model->parameters()) parameters += parameter.numel();
  CHECK(info.total_parameters == parameters);
  CHECK(info.visual_tokens == 65);
  // Two 3 x 3 convolutions, onto 16 x 16 x 8 and 8 x 8 x 16; then keys and values of two fusion layers for 65 tokens.
  CHECK(info.flops_per_image == 2.0 * 9 * (16 * 16 * 8 * 3 + 8 * 8 * 16 * 8) + 2.0 * 2 * 2 * 65 * 16 * 16);
  // One layer, 5 tokens of width 16, MLP 32: four projections, two MLP maps, scores and their use.
  CHECK(info.flops_per_text == 2.0 * 5 * (4 * 16 * 16 + 2 * 16 * 32) + 4.0 * 5 * 5 * 16);
}

}  // namespace
}  // namespace fgvl::models
