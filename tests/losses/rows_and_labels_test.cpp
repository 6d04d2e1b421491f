// What the rows, negatives, labels and weights of terms are, by hand.
#include <cmath>
#include <set>

#include <torch/torch.h>

#include "fgvl/losses/foil_matching.hpp"
#include "losses/scenes.hpp"
#include "support/catch.hpp"

namespace fgvl::losses {
namespace {

using test::Scene;

/// Value of each part of a term.
std::vector<double> parts_of(const LossTermPtr& term, ForwardPass& pass) {
  std::vector<double> values;
  const Loss loss = term->forward(pass);
  for (const Loss::Part& part : loss.parts()) values.push_back(part.sum.item<double>() / part.count);
  return values;
}

/// Three regions of three pictures: "truck", "dog", "truck"; a vocabulary of "dog", "zebra", "vehicle"; a truck is a vehicle.
struct Trucks {
  RegionBatch batch = test::batch_of({0, 1, 2}, {1, 2, 1});
  Tensor visual = test::unit_rows(3, 8, 31), text = test::unit_rows(3, 8, 32), labels = test::unit_rows(3, 8, 33);

  Trucks() {
    batch.is_region = torch::ones({3}, torch::kBool);
    batch.boxes = torch::tensor({{0.3f, 0.3f, 0.2f, 0.2f}}).repeat({3, 1});
    text[2] = text[0];
    labels[0] = text[1];
  }
  void add_labels() {
    batch.label_key = torch::tensor({2, 8, 9}, torch::kLong);
    batch.label_ids = torch::ones({3, 1}, torch::kLong);
    batch.label_mask = torch::ones({3, 1}, torch::kBool);
  }
  std::vector<double> values(const RegionLabelContrastiveOptions& options = {}) {
    test::FakePass pass(batch, visual, text);
    pass.label_text_.features = labels;
    return parts_of(make_term(options, test::kSceneSpec), pass);
  }
  /// log softmax of region `row` over "truck", "dog" and the other labels of `more`.
  Tensor chances(std::int64_t row, const std::vector<std::int64_t>& more) const {
    const Tensor all = torch::cat({text.slice(0, 0, 2), labels.index_select(0, torch::tensor(more, torch::kLong))});
    return torch::log_softmax(all.matmul(visual[row]) / 0.07, 0);
  }
  double at(std::int64_t row, std::int64_t column, const std::vector<std::int64_t>& more) const { return -chances(row, more)[column].item<double>(); }
};

TEST_CASE("region_label_contrastive: labels that no region bears are told from, once each, and are nobody's item", "[labels]") {
  Trucks trucks;
  const std::vector<double> plain = trucks.values();
  CHECK(plain[0] == Approx((trucks.at(0, 0, {}) + trucks.at(1, 1, {}) + trucks.at(2, 0, {})) / 3));
  trucks.add_labels();
  const std::vector<double> with = trucks.values();
  // "dog" stands in the batch already: zebra and vehicle are added. A second "dog" would change the sixth digit.
  CHECK(with[0] == Approx((trucks.at(0, 0, {1, 2}) + trucks.at(1, 1, {1, 2}) + trucks.at(2, 0, {1, 2})) / 3).epsilon(1e-7));
  CHECK(with[1] == Approx(plain[1]));
}

TEST_CASE("region_label_contrastive: a text that a region's own implies is a positive of it, or left out, and never a negative", "[labels]") {
  Trucks trucks;
  trucks.add_labels();
  trucks.batch.implied_keys = torch::tensor({{1, 9}}, torch::kLong);
  const auto both = [&](std::int64_t row) { return 0.5 * (trucks.at(row, 0, {1, 2}) + trucks.at(row, 3, {1, 2})); };
  CHECK(trucks.values()[0] == Approx((both(0) + trucks.at(1, 1, {1, 2}) + both(2)) / 3));
  CHECK(trucks.values({.implied = Implied::kIgnored})[0] == Approx((trucks.at(0, 0, {1}) + trucks.at(1, 1, {1, 2}) + trucks.at(2, 0, {1})) / 3));
  // Where a region bears the implied text, trucks are its regions too; it is not the other way round.
  trucks.batch.text_key = torch::tensor({1, 9, 1}, torch::kLong);
  const Tensor columns = torch::log_softmax(trucks.visual.matmul(trucks.text.slice(0, 0, 2).t()) / 0.07, 0);
  const double truck = -0.5 * (columns[0][0] + columns[2][0]).item<double>(), vehicle = -columns.select(1, 1).mean().item<double>();
  CHECK(trucks.values()[1] == Approx((truck + vehicle) / 2));
}

TEST_CASE("region_label_contrastive: means are weighted by what texts count", "[labels]") {
  Trucks trucks;
  trucks.batch.text_weight = torch::tensor({0.5f, 3.0f, 0.5f});
  const std::vector<double> weighted = trucks.values();
  CHECK(weighted[0] == Approx((0.5 * trucks.at(0, 0, {}) + 3 * trucks.at(1, 1, {}) + 0.5 * trucks.at(2, 0, {})) / 4));
  const Tensor columns = torch::log_softmax(trucks.visual.matmul(trucks.text.slice(0, 0, 2).t()) / 0.07, 0);
  const double truck = -0.5 * (columns[0][0] + columns[2][0]).item<double>(), dog = -columns[1][1].item<double>();
  CHECK(weighted[1] == Approx((0.5 * truck + 3 * dog) / 3.5));
  trucks.batch.text_weight = torch::zeros({3});
  test::FakePass pass(trucks.batch, trucks.visual, trucks.text);
  CHECK(make_term(RegionLabelContrastiveOptions{}, test::kSceneSpec)->forward(pass).parts()[0].count == 0);  // nothing counts: no value, and no 0 / 0
}

TEST_CASE("matching: what a text of the batch implies is no negative", "[labels]") {
  RegionBatch batch = test::batch_of({0, 1, 2}, {1, 2, 3});
  batch.implied_keys = torch::tensor({{1, 2}}, torch::kLong);
  const auto term = make_term(MatchingOptions{.negatives = Negatives::kUniform}, test::kSceneSpec);
  std::set<std::pair<std::int64_t, std::int64_t>> drawn;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    test::FakePass pass(batch, test::unit_rows(3, 8, 41).to(at::kFloat), test::unit_rows(3, 8, 42).to(at::kFloat));
    pass.seed = seed;
    term->forward(pass);
    for (std::int64_t i = 0; i < pass.last_query.text_index.size(0); ++i) drawn.emplace(pass.last_query.text_index[i].item<std::int64_t>(), pass.last_query.visual_index[i].item<std::int64_t>());
  }
  // (text, visual): all but the own ones and text 1 on visual 0, which is about a thing of text 0. Text 0 on visual 1 is a negative.
  CHECK(drawn == std::set<std::pair<std::int64_t, std::int64_t>>{{0, 1}, {0, 2}, {1, 2}, {2, 0}, {2, 1}});
}

TEST_CASE("matching: without a floor a row whose weight is all at true pairs gets no negative; with one it does", "[matching]") {
  // At this temperature the softmax of every row is exactly 1 at the own text and 0 elsewhere, in float32.
  const Tensor features = torch::eye(3, 8);
  const auto negatives = [&](double floor) {
    test::FakePass pass(test::batch_of({0, 1, 2}, {1, 2, 3}), features, features);
    const double count = make_term(MatchingOptions{.temperature = "0.001", .floor = floor}, test::kSceneSpec)->forward(pass).parts()[0].count;
    return count - 3;
  };
  CHECK(negatives(0) == 0);
  CHECK(negatives(1e-5) == 6);
  CHECK(negatives(1e-4) == 6);
}

TEST_CASE("matching: by momentum similarity, live features are compared with those of the momentum encoders", "[matching]") {
  // Live features say nothing; momentum features are so sharp that every draw is certain: texts go to the next visual, visuals to the one before the previous text.
  Scene scene = test::random_scene(1, {.images = 4, .max_captions = 1, .max_regions = 0, .labels = false});
  const std::int64_t texts = scene.batch.text_count();
  scene.batch.text_key = torch::arange(texts);
  scene.visual = torch::eye(texts, 8, at::kDouble);
  scene.text = torch::eye(texts, 8, at::kDouble);
  scene.momentum_visual = scene.visual.roll(1, 0);  // text t is nearest to momentum visual t + 1
  scene.momentum_text = scene.text.roll(-1, 0);     // visual v is nearest to momentum text v - 1
  const auto pass = scene.pass();
  const auto term = make_term(MatchingOptions{.temperature = "0.01", .floor = 0, .similarity = Similarity::kMomentum}, test::kSceneSpec);
  term->to(at::kDouble);
  term->forward(*pass);
  const Tensor all = torch::arange(texts);
  REQUIRE(pass->last_query.text_index.size(0) == 2 * texts);
  CHECK(at::equal(pass->last_query.text_index, torch::cat({all, (all - 1 + texts).remainder(texts)})));
  CHECK(at::equal(pass->last_query.visual_index, torch::cat({(all + 1).remainder(texts), all})));
  FeatureSpec without = test::kSceneSpec;
  without.momentum.reset();
  CHECK_THROWS_WITH(make_term(MatchingOptions{.similarity = Similarity::kMomentum}, without), Catch::Contains("needs a model with momentum encoders"));
  CHECK_THROWS_WITH(make_term(MatchingOptions{.floor = -1}, test::kSceneSpec), Catch::Contains("floor: expected a number of at least 0"));
}

TEST_CASE("rows: every term with the option counts image rows, region rows, and both together as all", "[rows]") {
  const Scene scene = test::random_scene(5, {.images = 6});
  const auto count = [&](const LossTermPtr& term) {
    const auto itm = make_term(MatchingOptions{}, test::kSceneSpec);
    Criterion criterion(test::kSceneSpec);
    criterion.add("itm", itm).add("term", term);
    criterion.to(at::kDouble);
    const LossReport report = criterion.forward(*scene.pass());
    for (const LossReport::Value& value : report.values) {
      if (value.name == "term") return value.count;
    }
    return 0.0;
  };
  const auto check = [&]<class O>(O options, double images, double regions) {
    options.rows = Rows::kImage;
    CHECK(count(make_term(options, test::kSceneSpec)) == images);
    options.rows = Rows::kRegion;
    CHECK(count(make_term(options, test::kSceneSpec)) == regions);
    options.rows = Rows::kAll;
    CHECK(count(make_term(options, test::kSceneSpec)) == images + regions);
    CHECK(images > 0);
    CHECK(regions > 0);
  };
  const RegionBatch& batch = scene.batch;
  const auto split = [&](const Tensor& per_text) {
    const Tensor sums = per_text.to(at::kDouble);
    return std::pair(sums.masked_fill(batch.is_region, 0).sum().item<double>(), sums.masked_fill(batch.is_region.logical_not(), 0).sum().item<double>());
  };
  const auto [image_texts, region_texts] = split(torch::ones({batch.text_count()}));
  check(ContrastiveOptions{}, image_texts, region_texts);
  check(SigmoidContrastiveOptions{}, image_texts, region_texts);
  const auto [image_words, region_words] = split((batch.masked_labels != -100).sum(1));
  check(MaskedLanguageOptions{}, image_words, region_words);
  const auto [image_tokens, region_tokens] = split(batch.text_mask.sum(1) - 1);
  check(LanguageModelOptions{}, image_tokens, region_tokens);
  const auto [image_foils, region_foils] = split(torch::zeros({batch.text_count()}).index_add(0, batch.foil_to_text, torch::ones({batch.foil_to_text.size(0)})));
  check(FoilMatchingOptions{}, image_foils, region_foils);
  // Matching: negatives of the chosen rows alone.
  for (const Rows rows : {Rows::kImage, Rows::kRegion}) {
    const auto pass = scene.pass();
    const auto term = make_term(MatchingOptions{.rows = rows}, test::kSceneSpec);
    term->to(at::kDouble);
    term->forward(*pass);
    const Tensor drawn = torch::cat({pass->last_query.text_index, pass->last_query.visual_index});
    REQUIRE(drawn.numel() > 0);
    CHECK((batch.is_region.index_select(0, drawn) == (rows == Rows::kRegion)).all().item<bool>());
  }
}

}  // namespace
}  // namespace fgvl::losses
