#include <map>
#include <vector>

#include <torch/csrc/autograd/profiler.h>
#include <torch/torch.h>

#include "models/bundles.hpp"
#include "models/small_model.hpp"
#include "support/catch.hpp"

namespace fgvl::models {
namespace {

/// What PyTorch's own profiler saw of a forward pass.
struct Seen {
  std::map<std::string, int> counts{};             ///< of each operator
  std::vector<std::vector<std::int64_t>> linear{};  ///< shape of the input of every linear map
};

Seen operators(Model& model, losses::Criterion& criterion, const RegionBatch& batch) {
  using namespace torch::autograd::profiler;
  model.train();
  enableProfilerLegacy(ProfilerConfig(ProfilerState::CPU, /*report_input_shapes=*/true, /*profile_memory=*/false));
  const auto pass = model.begin(batch);
  criterion.forward(*pass);
  Seen seen;
  for (const auto& thread : disableProfilerLegacy()) {
    for (const LegacyEvent& event : thread) {
      if (event.kindStr() != "push") continue;
      ++seen.counts[event.name()];
      if (std::string(event.name()) == "aten::linear") seen.linear.push_back(event.shapes().at(0));
    }
  }
  return seen;
}

int count_of(const Seen& seen, const std::string& name) { return seen.counts.count(name) > 0 ? seen.counts.at(name) : 0; }

TEST_CASE("the image encoder runs once, and keys and values are projected once per distinct visual sequence and layer", "[models]") {
  for (const bool clip : {false, true}) {
    INFO((clip ? "clip_vit" : "vit"));
    const ModelPtr model = make(clip);
    losses::Criterion criterion(model->spec());
    add_terms(criterion);
    for (const std::int64_t regions : {1, 6}) {
      const Seen seen = operators(*model, criterion, batch_with(regions));
      CHECK(count_of(seen, "aten::conv2d") == 1);
      // Two images; clip_vit's masked last block makes a sequence of every region, vit's regions share their image's tokens.
      const std::int64_t sequences = clip ? 2 + 2 * regions : 2;
      int projections = 0;
      for (const auto& shape : seen.linear) projections += shape == std::vector<std::int64_t>{sequences, 1 + kGrid * kGrid, kWidth};
      // Keys and values of two fusion layers; the masked block itself adds queries, keys, values and output (its MLP is no linear operator).
      CHECK(projections == (clip ? 4 + 4 : 4));
    }
  }
}

TEST_CASE("a removed term removes its operators", "[models]") {
  const ModelPtr model = make(false);
  const RegionBatch batch = batch_with(2);
  losses::Criterion all(model->spec());
  const auto full = operators(*model, add_terms(all), batch);
  // Linear maps of one fusion pass over two layers: self-attention 4, cross-attention 2 (keys and values are shared), MLP 2; the first layer's
  // self-attention sees no picture and runs once a text.
  constexpr int kFusionPass = 2 * (4 + 2 + 2) - 4, kTextPass = 4 + 2 + 4;
  const auto without = [&](const char* name) {
    losses::Criterion criterion(model->spec());
    return count_of(operators(*model, add_terms(criterion, name), batch), "aten::linear");
  };
  CHECK(count_of(full, "aten::linear") - without("box") == kFusionPass + 2);                 // and the two linear maps of the box head
  CHECK(count_of(full, "aten::linear") - without("mlm") == kTextPass + kFusionPass + 2);     // masked text, fusion, transform and decoder
  CHECK(count_of(full, "aten::linear") - without("foils") == kTextPass + kFusionPass + 2);   // foil text, fusion, one use of the ITM head
  // Matching: true pairs, negatives, one use of its head; and the foils, which are ranked by its scores.
  CHECK(count_of(full, "aten::linear") - without("itm") == 2 * kFusionPass + 2 + kTextPass + kFusionPass + 2);
  // Contrast needs the two projections to the common space, which nothing runs that asks for no features.
  const auto linears = [&](bool with_itc) {
    losses::Criterion criterion(model->spec());
    if (with_itc) criterion.add("itc", losses::ContrastiveOptions{});
    criterion.add("mlm", losses::MaskedLanguageOptions{}).add("box", losses::BoxRegressionOptions{});
    return count_of(operators(*model, criterion, batch), "aten::linear");
  };
  CHECK(linears(true) - linears(false) == 2);
}

TEST_CASE("a batch without a region: box regression alone gives zero loss and zero gradient", "[models]") {
  const ModelPtr model = make(false);
  RegionBatch batch = batch_with(1);
  batch.is_region = torch::zeros_like(batch.is_region);
  losses::Criterion criterion(model->spec());
  criterion.add("box", losses::BoxRegressionOptions{});
  const auto report = criterion.forward(*model->begin(batch));
  report.total.backward();
  CHECK(report.total.item<double>() == 0.0);
  for (const auto& parameter : model->named_parameters()) {
    INFO(parameter.key());
    CHECK((!parameter.value().grad().defined() || parameter.value().grad().abs().max().item<double>() == 0.0));
  }
}

TEST_CASE("a text has the same numbers beside shorter and longer ones as alone", "[models]") {
  torch::NoGradGuard guard;
  const ModelPtr model = make(false);
  model->eval();
  RegionBatch batch = batch_with(3);
  const std::int64_t texts = batch.text_count();
  // Half of the texts have two tokens, one has four, the others five.
  for (std::int64_t row = 0; row < texts; row += 2) batch.text_mask[row].slice(0, 2).fill_(false);
  batch.text_mask[1].slice(0, 4).fill_(false);
  batch.text_ids.masked_fill_(batch.text_mask.logical_not(), 0);
  const auto together = model->begin(batch);
  const Tensor all = torch::arange(texts), fused = together->fuse({.text_index = all, .visual_index = all}), boxes = together->predicted_boxes(all);
  for (std::int64_t row = 0; row < texts; ++row) {
    INFO(row);
    RegionBatch alone = batch;
    const auto one = [&](const Tensor& of_texts) { return of_texts.slice(0, row, row + 1); };
    for (Tensor* field : {&alone.text_to_image, &alone.is_region, &alone.is_unambiguous, &alone.boxes, &alone.text_ids, &alone.text_mask, &alone.masked_ids, &alone.masked_positions,
                          &alone.masked_labels, &alone.text_key}) {
      *field = one(*field);
    }
    const auto pass = model->begin(alone);
    const Tensor first = torch::zeros({1}, torch::kLong), valid = batch.text_mask[row];
    CHECK(at::allclose(together->text().features[row], pass->text().features[0], 1e-5, 1e-5));
    CHECK(at::allclose(together->matched()[row], pass->matched()[0], 1e-5, 1e-5));
    CHECK(at::allclose(fused[row].index({valid}), pass->fuse({.text_index = first, .visual_index = first})[0].index({valid}), 1e-5, 1e-5));
    CHECK(at::allclose(boxes[row], pass->predicted_boxes(first)[0], 1e-5, 1e-5));
  }
}

TEST_CASE("removing a term does not change the values of the others, also with dropout", "[models]") {
  const ModelPtr model = make(false, /*dropout=*/0.2);
  model->train();
  const RegionBatch batch = batch_with(2);
  losses::Criterion all(model->spec()), fewer(model->spec());
  add_terms(all);
  add_terms(fewer, "box");
  torch::NoGradGuard guard;
  for (const auto& [name, source] : named_state(all, "")) {
    for (auto& [other, target] : named_state(fewer, "")) {
      if (name == other) target.copy_(source);
    }
  }
  const PassOptions options{.seed = 1, .step = 5};
  const auto a = all.forward(*model->begin(batch, options)), b = fewer.forward(*model->begin(batch, options));
  for (const char* name : {"itc", "itm", "mlm", "foils"}) CHECK(a.mean(name).value() == b.mean(name).value());
  const auto again = all.forward(*model->begin(batch, options)), other = all.forward(*model->begin(batch, {.seed = 1, .step = 6}));
  CHECK(a.total.item<double>() == again.total.item<double>());
  CHECK(a.total.item<double>() != other.total.item<double>());
}

TEST_CASE("removing one of two like terms does not change the other's dropout", "[models]") {
  const ModelPtr model = make(false, /*dropout=*/0.2);
  model->train();
  const RegionBatch batch = batch_with(2);
  losses::Criterion both(model->spec()), one(model->spec());
  const losses::LossTermPtr kept = make_term(losses::MatchingOptions{}, model->spec());
  both.add("other", losses::MatchingOptions{}).add("itm", kept);
  one.add("itm", kept);
  CHECK(both.forward(*model->begin(batch)).mean("itm").value() == one.forward(*model->begin(batch)).mean("itm").value());
}

TEST_CASE("positions: the last layer at some positions equals all positions", "[models]") {
  torch::NoGradGuard guard;
  const ModelPtr model = make(false);
  model->eval();
  const auto pass = model->begin(batch_with(2));
  const Tensor all = torch::arange(6), positions = torch::tensor({{0, 3}}, torch::kLong).expand({6, 2});
  const Tensor full = pass->fuse({.text_index = all, .visual_index = all}), some = pass->fuse({.text_index = all, .visual_index = all, .positions = positions});
  CHECK(at::allclose(full.index_select(1, torch::tensor({0, 3})), some, 1e-5, 1e-6));
  CHECK(at::allclose(pass->matched(), full.select(1, 0), 1e-5, 1e-6));
  CHECK_THROWS_WITH(pass->fuse({.text_index = all, .visual_index = all, .positions = positions.slice(0, 0, 3)}), Catch::Contains("positions: expected [N, M]"));
}

TEST_CASE("many pairs fused at once equal each pair alone, whichever pictures they share", "[models]") {
  torch::NoGradGuard guard;
  for (const auto& [kind, vision] : every_vision()) {
    INFO(kind);
    const ModelPtr model = make(vision);
    model->eval();
    const auto pass = model->begin(batch_with(3));
    // Rows 0-3 look at image 0, rows 4-7 at image 1: bundles that are full, half empty and of one pair, in no order.
    const Tensor texts = torch::tensor({7, 0, 3, 3, 5, 1, 2, 6, 4, 0, 1}), visuals = torch::tensor({1, 5, 2, 0, 3, 3, 1, 0, 2, 3, 0});
    const Tensor together = pass->fuse({.text_index = texts, .visual_index = visuals});
    for (std::int64_t n = 0; n < texts.size(0); ++n) {
      const Tensor alone = pass->fuse({.text_index = texts.slice(0, n, n + 1), .visual_index = visuals.slice(0, n, n + 1)});
      CHECK(at::allclose(together[n], alone[0], 1e-5, 1e-6));
    }
    const Tensor none = torch::zeros({0}, torch::kLong);
    CHECK(pass->fuse({.text_index = none, .visual_index = none}).sizes() == at::IntArrayRef{0, 5, kWidth});
  }
}

TEST_CASE("encoded once, used again: a pass over the encodings of other passes gives what one that encodes gives", "[models]") {
  torch::NoGradGuard guard;
  for (const auto& [kind, vision] : every_vision()) {
    INFO(kind);
    const ModelPtr model = make(vision);
    model->eval();
    RegionBatch batch = batch_with(2);
    batch.is_region = torch::zeros_like(batch.is_region);
    batch.text_mask[1].slice(0, 2).fill_(false);
    const auto expected = model->begin(batch);

    // Pictures without texts, and texts without pictures.
    RegionBatch pictures = batch, texts = batch;
    for (Tensor RegionBatch::*field : {&RegionBatch::text_to_image, &RegionBatch::is_region, &RegionBatch::boxes, &RegionBatch::is_unambiguous, &RegionBatch::text_ids, &RegionBatch::text_mask,
                                       &RegionBatch::text_key}) {
      pictures.*field = (batch.*field).slice(0, 0, 0);
    }
    texts.images = Tensor();
    const Encoded given{model->begin(pictures)->image(), model->begin(texts)->text()};
    CHECK(at::allclose(given.image.features, expected->image().features, 1e-5, 1e-6));
    CHECK(at::allclose(given.text.features, expected->text().features, 1e-5, 1e-6));

    // Where both are given no encoder runs, so that neither pixels nor ids are looked at.
    texts.text_ids = torch::zeros_like(texts.text_ids);
    const auto pass = model->begin(texts, {.given = given});
    CHECK(at::allclose(pass->matched(), expected->matched(), 1e-5, 1e-6));
    CHECK(at::allclose(pass->regions().features, expected->regions().features, 1e-5, 1e-6));
    const Tensor rows = torch::tensor({5, 0, 2}), images = torch::tensor({0, 1, 1});
    CHECK(at::allclose(pass->predicted_boxes(rows), expected->predicted_boxes(rows), 1e-5, 1e-6));
    CHECK(at::allclose(pass->fuse({.text_index = rows, .visual = VisualInput::kImage, .visual_index = images}).select(1, 0),
                       expected->fuse({.text_index = rows, .visual = VisualInput::kImage, .visual_index = images}).select(1, 0), 1e-5, 1e-6));

    // Regions are made with their pictures.
    RegionBatch regions = texts;
    regions.is_region = torch::ones_like(texts.is_region);
    CHECK_THROWS_WITH(model->begin(regions, {.given = given})->matched(), Catch::Contains("without their regions"));
    CHECK_THROWS_WITH(model->begin(texts)->matched(), Catch::Contains("batch.images: undefined"));
    Encoded other = given;
    other.text.embeds = given.text.embeds.slice(0, 0, 2);
    CHECK_THROWS_WITH(model->begin(texts, {.given = other}), Catch::Contains("given.text: expected embeds [T, L, D]"));
  }
}

TEST_CASE("bundles: no slot is lost, none mixes sequences, and keys and values are copied less often than there are pairs", "[models]") {
  const Tensor shared = torch::tensor({2, 0, 2, 2, 0, 2, 2, 2, 0, 0});
  const Bundles bundles = make_bundles(shared);
  CHECK(at::equal(bundles.gather(torch::arange(10)).flatten().index_select(0, bundles.pair_to_slot), torch::arange(10)));
  CHECK(at::equal(bundles.gather(shared), bundles.sequence.unsqueeze(1).expand({-1, bundles.size})));
  CHECK(bundles.sequence.size(0) < 5);
  CHECK(make_bundles(torch::arange(10)).size == 1);
}

TEST_CASE("at_padding: padding is computed like a token that no token sees, so that real tokens and features stay what they are", "[models]") {
  torch::NoGradGuard guard;
  RegionBatch batch = batch_with(1);
  batch.text_mask.slice(1, 3).slice(0, 0, 2).fill_(false);
  batch.text_ids.masked_fill_(batch.text_mask.logical_not(), 0);
  batch.masked_ids.masked_fill_(batch.text_mask.logical_not(), 0);
  const auto vision = [] { return make_vision_encoder(VitOptions{.image_size = kImage, .patch_size = kPatch, .width = kWidth, .layers = 1, .heads = 2, .mlp_ratio = 2}); };
  const ModelPtr without = make(vision()), with = make(vision(), 0, Norm::kPost, false, /*at_padding=*/true);
  const auto one = without->begin(batch), other = with->begin(batch);
  const Tensor all = torch::arange(batch.text_count()), real = batch.text_mask, padding = real.logical_not();
  const FusionQuery query{.text = TextInput::kMasked, .text_index = all, .visual_index = all};
  const Tensor left_out = one->fuse(query), computed = other->fuse(query);
  CHECK(at::allclose(left_out.index({real}), computed.index({real}), 1e-5, 1e-6));
  CHECK(at::allclose(one->text().features, other->text().features, 1e-5, 1e-6));
  CHECK(left_out.index({padding}).abs().max().item<double>() == 0);
  CHECK(computed.index({padding}).abs().amax(1).min().item<double>() > 0.1);  // LayerNorm's output
  CHECK(other->text().embeds.index({padding}).abs().amax(1).min().item<double>() > 0.1);
  CHECK(with->spec().at_padding);
}

TEST_CASE("terms that ask for the same masked texts share one fusion", "[models]") {
  const ModelPtr model = make(false, /*dropout=*/0.1);
  const RegionBatch batch = batch_with(1);
  const auto pass = model->begin(batch);
  const Tensor all = torch::arange(batch.text_count());
  const auto query = [&](const Tensor& positions) { return FusionQuery{.text = TextInput::kMasked, .text_index = all.clone(), .visual_index = all.clone(), .positions = positions}; };
  const Tensor once = pass->fuse(query(batch.masked_positions)), again = pass->fuse(query(batch.masked_positions.clone()));
  CHECK(again.is_same(once));
  CHECK_FALSE(pass->fuse(query(batch.masked_positions + 1)).is_same(once));
  CHECK_FALSE(pass->fuse(query({})).is_same(once));
  // What is kept is what would be computed once more.
  CHECK(at::equal(model->begin(batch)->fuse(query(batch.masked_positions)), once));
}

TEST_CASE("weights are a pure function of the seed, and another model's are refused by name", "[models]") {
  const ModelPtr a = make(false), b = make(false), other = make(true);
  for (const auto& entry : a->named_parameters()) CHECK(at::equal(entry.value(), b->named_parameters()[entry.key()]));
  CHECK_THAT(load_named(named_state(*a, "model."), named_state(*other, "model.")).problems(), Catch::Contains("MISSING") && Catch::Contains("not in the checkpoint"));
  CHECK_THROWS_WITH(a->begin([] {
    RegionBatch batch = batch_with(1);
    batch.images = torch::zeros({2, 3, 16, 16});
    return batch;
  }()), Catch::Contains("expected [B, 3, 32, 32]"));
}

TEST_CASE("a bf16 pass stays near the fp32 one, with features in fp32", "[models]") {
  torch::NoGradGuard guard;
  const ModelPtr model = make(false);
  model->eval();
  const RegionBatch batch = batch_with(2);
  const auto single = model->begin(batch), half = model->begin(batch, {.bf16 = true});
  CHECK(half->regions().features.scalar_type() == torch::kFloat);
  CHECK((half->matched() - single->matched()).abs().max().item<double>() < 0.1);
  CHECK((half->regions().features - single->regions().features).abs().max().item<double>() < 0.05);
}

}  // namespace
}  // namespace fgvl::models
