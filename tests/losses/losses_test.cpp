#include <torch/torch.h>

#include "fgvl/losses/box_regression.hpp"
#include "fgvl/losses/contrastive.hpp"
#include "fgvl/losses/criterion.hpp"
#include "fgvl/losses/foil_matching.hpp"
#include "fgvl/losses/matching.hpp"
#include "fgvl/losses/region_label_contrastive.hpp"
#include "fgvl/losses/sigmoid_contrastive.hpp"
#include "losses/fake_pass.hpp"
#include "support/catch.hpp"

namespace fgvl::losses {
namespace {

using test::batch_of;
using test::FakePass;
using test::unit_rows;

double value(const LossTermPtr& term, FakePass& pass) {
  const Loss loss = term->forward(pass);
  return loss.parts()[0].sum.item<double>() / loss.parts()[0].count;
}

TEST_CASE("contrastive: swapping the two sides changes nothing, and the value is cross-entropy by hand", "[losses]") {
  const Tensor a = unit_rows(5, 8, 1), b = unit_rows(5, 8, 2), temperature = torch::tensor(0.1, torch::kFloat64);
  CHECK(contrastive(a, b, temperature).item<double>() == Approx(contrastive(b, a, temperature).item<double>()));
  const Tensor logits = a.matmul(b.t()) / 0.1, labels = torch::arange(5);
  const double by_hand = 0.5 * (torch::nn::functional::cross_entropy(logits, labels) + torch::nn::functional::cross_entropy(logits.t(), labels)).item<double>();
  CHECK(contrastive(a, b, temperature).item<double>() == Approx(by_hand));
  CHECK(contrastive(a.slice(0, 0, 0), b.slice(0, 0, 0), temperature).item<double>() == 0.0);
}

TEST_CASE("contrastive: rows of equal text are positives or ignored, never negatives", "[losses]") {
  // Rows 0 and 2 carry the same text; their pictures and texts have the same features, as the same text has.
  Tensor visual = unit_rows(4, 8, 3), text = unit_rows(4, 8, 4);
  text[2] = text[0];
  visual[2] = visual[0];
  RegionBatch batch = batch_of({0, 1, 2, 3}, {7, 8, 7, 9});
  FakePass pass(batch, visual, text);
  const double positive = value(make_term(ContrastiveOptions{}, test::kFakeSpec), pass);
  const double ignored = value(make_term(ContrastiveOptions{.same_text = SameText::kIgnored}, test::kFakeSpec), pass);
  const double reference = value(make_term(ContrastiveOptions{.reference = true}, test::kFakeSpec), pass);
  // Ignored: as if the other row were not in the softmax.
  const Tensor logits = visual.matmul(text.t()) / 0.07;
  const double row0 = -torch::log_softmax(logits[0].index_select(0, torch::tensor({0, 1, 3})), 0)[0].item<double>();
  const PairRoles roles{torch::eye(4).to(torch::kBool), (batch.text_key.unsqueeze(1) == batch.text_key.unsqueeze(0)).logical_and(torch::eye(4).to(torch::kBool).logical_not())};
  CHECK(multi_positive_cross_entropy(logits, roles)[0].item<double>() == Approx(row0));
  CHECK(ignored < positive);
  CHECK(reference > ignored);
}

TEST_CASE("contrastive: a region's text is not a negative of its whole picture, but of another region it is", "[losses]") {
  // One picture: a caption, and two regions beside one another.
  RegionBatch batch = batch_of({0, 0, 0}, {1, 2, 3});
  batch.is_region = torch::tensor({false, true, true});
  batch.boxes = torch::tensor({{0.5f, 0.5f, 1.f, 1.f}, {0.25f, 0.5f, 0.4f, 0.4f}, {0.75f, 0.5f, 0.4f, 0.4f}});
  const Tensor visual = unit_rows(3, 8, 5), text = unit_rows(3, 8, 6);
  FakePass pass(batch, visual, text);
  const Loss loss = make_term(ContrastiveOptions{}, test::kFakeSpec)->forward(pass);
  const Tensor logits = visual.matmul(text.t()) / 0.07;
  // Picture -> texts: nothing but its caption is left: 0. Region 1 -> texts: the caption and region 2's text are negatives.
  double by_hand = 0;
  for (const int row : {1, 2}) by_hand -= torch::log_softmax(logits[row], 0)[row].item<double>();
  // Text -> visuals: the caption against all; a region's text not against its picture.
  by_hand -= torch::log_softmax(logits.select(1, 0), 0)[0].item<double>();
  for (const int row : {1, 2}) by_hand -= torch::log_softmax(logits.select(1, row).index_select(0, torch::tensor({1, 2})), 0)[row - 1].item<double>();
  CHECK(loss.parts()[0].sum.item<double>() == Approx(0.5 * by_hand));
  CHECK(loss.parts()[0].count == 3);
}

TEST_CASE("contrastive: a text is no negative of a picture that shows it, even where its own row is about another picture", "[losses]") {
  // Picture 0 has a caption and a region "b"; picture 1 has a region with the same words. Row 2's text is true of picture 0, although row 2 is about picture 1.
  RegionBatch batch = batch_of({0, 0, 1, 1}, {1, 2, 2, 3});
  batch.is_region = torch::tensor({false, true, true, true});
  batch.boxes = torch::tensor({{0.5f, 0.5f, 1.f, 1.f}, {0.25f, 0.5f, 0.4f, 0.4f}, {0.75f, 0.5f, 0.4f, 0.4f}, {0.2f, 0.5f, 0.2f, 0.2f}});
  const Tensor visual = unit_rows(4, 8, 15), text = unit_rows(4, 8, 16);
  FakePass pass(batch, visual, text);
  const Loss loss = make_term(ContrastiveOptions{.same_text = SameText::kIgnored}, test::kFakeSpec)->forward(pass);
  const Tensor logits = visual.matmul(text.t()) / 0.07;
  const auto row = [&](const Tensor& of, std::int64_t own, const std::vector<std::int64_t>& kept) {
    const auto place = std::find(kept.begin(), kept.end(), own) - kept.begin();
    return -torch::log_softmax(of[own].index_select(0, torch::tensor(kept)), 0)[place].item<double>();
  };
  // Whole picture 0 against texts: rows 1 and 2 say the same thing, which it shows. Regions 1 and 2 carry the same text.
  const double to_text = row(logits, 0, {0, 3}) + row(logits, 1, {0, 1, 3}) + row(logits, 2, {0, 2, 3}) + row(logits, 3, {0, 1, 2, 3});
  const Tensor columns = logits.t().contiguous();
  const double to_visual = row(columns, 0, {0, 1, 2, 3}) + row(columns, 1, {1, 3}) + row(columns, 2, {2, 3}) + row(columns, 3, {0, 1, 2, 3});
  CHECK(loss.parts()[0].sum.item<double>() == Approx(0.5 * (to_text + to_visual)));
  // Matching never draws such a pair either.
  const auto matching = make_term(MatchingOptions{}, test::kFakeSpec);
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    FakePass one(batch, visual.to(at::kFloat), text.to(at::kFloat));
    one.seed = seed;
    matching->forward(one);
    for (std::int64_t i = 0; i < one.last_query.text_index.size(0); ++i) {
      const auto t = one.last_query.text_index[i].item<std::int64_t>(), v = one.last_query.visual_index[i].item<std::int64_t>();
      CHECK_FALSE((v == 0 && (t == 1 || t == 2)));
    }
  }
}

TEST_CASE("contrastive: `rows` chooses captions or regions, as if the others were not in the batch", "[losses]") {
  RegionBatch batch = batch_of({0, 1, 0, 1}, {1, 2, 3, 4});
  batch.is_region = torch::tensor({false, false, true, true});
  batch.boxes[2] = batch.boxes[3] = torch::tensor({0.25f, 0.25f, 0.2f, 0.2f});
  const Tensor visual = unit_rows(4, 8, 17), text = unit_rows(4, 8, 18), temperature = torch::tensor(0.07, torch::kFloat64);
  FakePass pass(batch, visual, text);
  const double captions = value(make_term(ContrastiveOptions{.rows = Rows::kImage}, test::kFakeSpec), pass), regions = value(make_term(ContrastiveOptions{.rows = Rows::kRegion}, test::kFakeSpec), pass);
  CHECK(captions == Approx(contrastive(visual.slice(0, 0, 2), text.slice(0, 0, 2), temperature).item<double>()));
  CHECK(regions == Approx(contrastive(visual.slice(0, 2), text.slice(0, 2), temperature).item<double>()));
}

TEST_CASE("sigmoid_contrastive: rows of equal text are positives or ignored, and what a visual's own text implies is no negative", "[losses]") {
  const Tensor visual = unit_rows(3, 8, 9), text = unit_rows(3, 8, 10), logits = visual.matmul(text.t()) / 0.1 + 0.5;
  RegionBatch batch = batch_of({0, 1, 2}, {7, 8, 7});
  const auto found = [&](SigmoidContrastiveOptions options) {
    options.bias = 0.5;
    FakePass pass(batch, visual, text);
    return value(make_term(options, test::kFakeSpec), pass);
  };
  // A row a visual, a column a text: 1 for a positive, -1 for a negative, 0 for a pair that does not count.
  const auto by_hand = [&](const std::vector<double>& signs) {
    const Tensor sign = torch::tensor(signs, torch::kFloat64).view({3, 3});
    return -(at::log_sigmoid(sign * logits) * sign.abs()).sum().item<double>() / 3;
  };
  CHECK(found({}) == Approx(by_hand({1, -1, 1, -1, 1, -1, 1, -1, 1})));
  CHECK(found({.same_text = SameText::kIgnored}) == Approx(by_hand({1, -1, 0, -1, 1, -1, 0, -1, 1})));
  CHECK(found({.reference = true}) == Approx(by_hand({1, -1, -1, -1, 1, -1, -1, -1, 1})));
  batch.implied_keys = torch::tensor({{7, 8}}, torch::kLong);
  CHECK(found({}) == Approx(by_hand({1, 0, 1, -1, 1, -1, 1, 0, 1})));
}

TEST_CASE("temperature: clamped in place as X-VLM's divisor, and as CLIP's log scale", "[losses]") {
  Temperature divisor(TemperatureOptions{.init = 0.9});
  CHECK(divisor.divisor().item<double>() == Approx(0.5));
  CHECK(divisor.named_parameters()["temp"].item<double>() == Approx(0.5));
  Temperature scale(TemperatureOptions{.kind = TemperatureKind::kLogScale, .init = 0.001, .min = 0.01, .max = 1.0});
  CHECK(scale.divisor().item<double>() == Approx(0.01));
  CHECK(scale.named_parameters()["logit_scale"].item<double>() == Approx(std::log(100.0)));
  Temperature fixed(TemperatureOptions{.learn = false});
  CHECK(fixed.parameters().empty());
}

TEST_CASE("region_label_contrastive: several regions share one label and all are its positives", "[losses]") {
  RegionBatch batch = batch_of({0, 0, 1}, {5, 6, 5});
  batch.is_region = torch::ones({3}, torch::kBool);
  batch.boxes = torch::tensor({{0.25f, 0.5f, 0.4f, 0.4f}, {0.75f, 0.5f, 0.4f, 0.4f}, {0.5f, 0.5f, 0.2f, 0.2f}});
  const Tensor visual = unit_rows(3, 8, 7);
  Tensor text = unit_rows(3, 8, 8);
  text[2] = text[0];
  FakePass pass(batch, visual, text);
  const Loss loss = make_term(RegionLabelContrastiveOptions{}, test::kFakeSpec)->forward(pass);
  REQUIRE(loss.parts().size() == 2);
  CHECK(loss.parts()[0].count == 3);  // regions
  CHECK(loss.parts()[1].count == 2);  // distinct texts
  const Tensor logits = visual.matmul(text.slice(0, 0, 2).t()) / 0.07;
  const double to_text = -(torch::log_softmax(logits, 1)[0][0] + torch::log_softmax(logits, 1)[1][1] + torch::log_softmax(logits, 1)[2][0]).item<double>();
  CHECK(loss.parts()[0].sum.item<double>() == Approx(to_text));
  const Tensor columns = torch::log_softmax(logits, 0);
  const double to_region = -(0.5 * (columns[0][0] + columns[2][0]) + columns[1][1]).item<double>();
  CHECK(loss.parts()[1].sum.item<double>() == Approx(to_region));
}

TEST_CASE("matching: negatives are never true pairs, and repeat for the same seed", "[losses]") {
  RegionBatch batch = batch_of({0, 0, 1, 2}, {1, 2, 1, 3});
  batch.is_region = torch::tensor({false, true, false, false});
  batch.boxes[1] = torch::tensor({0.25f, 0.25f, 0.2f, 0.2f});
  const Tensor visual = unit_rows(4, 8, 9).to(at::kFloat), text = unit_rows(4, 8, 10).to(at::kFloat);
  const auto term = make_term(MatchingOptions{}, test::kFakeSpec);
  Tensor first;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    FakePass pass(batch, visual, text);
    pass.seed = seed % 20;
    term->forward(pass);
    const Tensor texts = pass.last_query.text_index, visuals = pass.last_query.visual_index;
    for (std::int64_t i = 0; i < texts.size(0); ++i) {
      const auto t = texts[i].item<std::int64_t>(), v = visuals[i].item<std::int64_t>();
      CHECK(t != v);
      CHECK(batch.text_key[t].item<std::int64_t>() != batch.text_key[v].item<std::int64_t>());
      CHECK_FALSE((t == 1 && v == 0));  // the region's text is true of its whole picture
    }
    if (seed == 0) first = at::stack({texts, visuals});
    if (seed == 20) CHECK(at::equal(first, at::stack({texts, visuals})));
  }
}

TEST_CASE("matching: negatives are drawn in proportion to softmax(similarity / temperature) + 1e-5, at the named term's temperature", "[losses]") {
  const Tensor visual = unit_rows(4, 8, 19).to(at::kFloat), text = unit_rows(4, 8, 20).to(at::kFloat);
  Criterion criterion(test::kFakeSpec);
  criterion.add("itc", ContrastiveOptions{.temperature = {.init = 0.3}}).add("itm", MatchingOptions{.temperature = "itc"});
  Criterion uniform(test::kFakeSpec);
  uniform.add("itm", MatchingOptions{.negatives = Negatives::kUniform});
  constexpr int kDraws = 2000;
  // counts[t][v]: how often visual v was drawn for text t, which are the first half of the query.
  const auto drawn = [&](Criterion& of) {
    Tensor counts = torch::zeros({4, 4});
    for (int seed = 0; seed < kDraws; ++seed) {
      FakePass pass(batch_of({0, 1, 2, 3}, {1, 2, 3, 4}), visual, text);
      pass.seed = static_cast<std::uint64_t>(seed);
      of.forward(pass);
      for (std::int64_t i = 0; i < 4; ++i) counts[pass.last_query.text_index[i].item<std::int64_t>()][pass.last_query.visual_index[i].item<std::int64_t>()] += 1;
    }
    return counts / kDraws;
  };
  Tensor weights = (torch::softmax(text.matmul(visual.t()) / 0.3, 1) + 1e-5).fill_diagonal_(0);
  weights = weights / weights.sum(1, true);
  const double five_errors = 5 * std::sqrt(0.25 / kDraws);
  CHECK((drawn(criterion) - weights).abs().max().item<double>() < five_errors);
  CHECK((drawn(uniform) - (torch::ones({4, 4}) - torch::eye(4)) / 3).abs().max().item<double>() < five_errors);
}

TEST_CASE("matching: given negatives of a term that is limited to a stream are those of its rows", "[losses]") {
  RegionBatch batch = batch_of({0, 1, 2}, {1, 2, 3});
  batch.text_stream = torch::tensor({1, 0, 0}, torch::kLong);
  FakePass pass(batch, unit_rows(3, 8, 21).to(at::kFloat), unit_rows(3, 8, 22).to(at::kFloat));
  MatchingOptions options;
  options.given = {torch::tensor({2, 2, 1}, torch::kLong), torch::tensor({1, 0, 1}, torch::kLong)};
  const auto term = make_term(options, test::kFakeSpec);
  term->limit_to_streams({0});
  term->forward(pass);
  CHECK(at::equal(pass.last_query.text_index, torch::tensor({1, 2, 0, 1}, torch::kLong)));
  CHECK(at::equal(pass.last_query.visual_index, torch::tensor({2, 1, 1, 2}, torch::kLong)));
  options.given.text_for_visual = Tensor();
  CHECK_THROWS_WITH(make_term(options, test::kFakeSpec)->forward(pass), Catch::Contains("given.text_for_visual: expected [T] with T = 3, got nothing"));
}

TEST_CASE("matching: a linear head is one layer on the fused token", "[losses]") {
  const auto term = make_term(MatchingOptions{.head = MatchingHead::kLinear}, test::kFakeSpec);
  const auto parameters = term->named_parameters();
  REQUIRE(parameters.size() == 2);
  const Tensor weight = parameters["itm_head.weight"], bias = parameters["itm_head.bias"], tokens = unit_rows(3, test::kFakeSpec.fusion_width, 5).to(at::kFloat);
  CHECK(weight.sizes() == at::IntArrayRef({2, test::kFakeSpec.fusion_width}));
  CHECK(at::allclose(dynamic_cast<PairScorer&>(*term).pair_logits(tokens), tokens.matmul(weight.t()) + bias));
  CHECK(make_term(MatchingOptions{}, test::kFakeSpec)->named_parameters().contains("itm_head.3.weight"));
}

TEST_CASE("matching: a batch of one, and weights that are not finite, give the positive pairs only", "[losses]") {
  const auto term = make_term(MatchingOptions{}, test::kFakeSpec);
  FakePass single(batch_of({0}, {1}), unit_rows(1, 8, 1).to(at::kFloat), unit_rows(1, 8, 2).to(at::kFloat));
  const Loss loss = term->forward(single);
  CHECK(loss.parts()[0].count == 1);
  CHECK(single.fuse_calls == 0);
  CHECK(std::isfinite(loss.parts()[0].sum.item<double>()));
  const Tensor weights = torch::tensor({{0.0, 0.0}, {std::nan(""), 1.0}, {0.0, 3.0}});
  CHECK(at::equal(draw_columns(weights, torch::tensor({0.5, 0.0, 0.0}, torch::kFloat64)), torch::tensor({-1, 1, 1}, torch::kLong)));
}

TEST_CASE("box_regression: no box costs nothing, and whole images are left out", "[losses]") {
  Tensor none = torch::zeros({0, 4}).set_requires_grad(true);
  const Tensor zero = box_regression(none, torch::zeros({0, 4}));
  CHECK(zero.item<double>() == 0.0);
  zero.backward();
  RegionBatch batch = batch_of({0, 0, 1}, {1, 2, 3});
  batch.is_region = torch::tensor({false, true, true});
  batch.is_unambiguous = torch::tensor({true, true, false});
  FakePass pass(batch, torch::zeros({3, 8}), torch::zeros({3, 8}));
  pass.predicted = torch::full({3, 4}, 0.5f);
  CHECK(make_term(BoxRegressionOptions{}, test::kFakeSpec)->forward(pass).parts()[0].count == 2);
  CHECK(make_term(BoxRegressionOptions{.all_rows = true}, test::kFakeSpec)->forward(pass).parts()[0].count == 3);
  CHECK(make_term(BoxRegressionOptions{.only_unambiguous = true}, test::kFakeSpec)->forward(pass).parts()[0].count == 1);
  CHECK(at::equal(pass.box_rows, torch::tensor({1}, torch::kLong)));
  // A criterion of this term alone can be differentiated on a batch without a region: zero loss, zero gradient.
  batch.is_region = torch::zeros({3}, torch::kBool);
  FakePass empty(batch, torch::zeros({3, 8}), torch::zeros({3, 8}));
  empty.predicted = torch::full({3, 4}, 0.5f).set_requires_grad(true);
  Criterion criterion(test::kFakeSpec);
  criterion.add("box", BoxRegressionOptions{});
  const LossReport report = criterion.forward(empty);
  CHECK(report.values.empty());
  report.total.backward();
  CHECK(report.total.item<double>() == 0.0);
  CHECK(empty.predicted.grad().abs().max().item<double>() == 0.0);
}

/// Two captions of two pictures; a foil of the second one, which the model has as [3, 3].
RegionBatch with_foil() {
  RegionBatch batch = batch_of({0, 1}, {1, 2});
  batch.text_ids = torch::tensor({{1, 2}, {3, 4}}, torch::kLong);
  batch.foil_ids = torch::tensor({{3, 3, 0}}, torch::kLong);
  batch.foil_mask = torch::tensor({{true, true, false}});
  batch.foil_to_text = torch::tensor({1}, torch::kLong);
  return batch;
}

TEST_CASE("contrastive, foils: further columns for every picture, none for texts, and a foil that is a text of the batch is left out", "[losses]") {
  const Tensor visual = unit_rows(2, 8, 21), text = unit_rows(2, 8, 22), foil = unit_rows(1, 8, 23);
  FakePass pass(with_foil(), visual, text);
  pass.foils = foil;
  const TemperatureOptions eighth{.init = 0.125, .learn = false};  // the same in float32 and float64
  const auto of = [&](bool foils) {
    const LossTermPtr term = make_term(ContrastiveOptions{.temperature = eighth, .foils = foils}, test::kFakeSpec);
    term->to(at::kDouble);
    return term;
  };
  const Tensor labels = torch::arange(2);
  const Tensor to_text = torch::nn::functional::cross_entropy(visual.matmul(torch::cat({text, foil}).t()) / 0.125, labels), to_visual = torch::nn::functional::cross_entropy(text.matmul(visual.t()) / 0.125, labels);
  CHECK(value(of(true), pass) == Approx(0.5 * (to_text + to_visual).item<double>()).epsilon(1e-12));
  CHECK(value(of(false), pass) < value(of(true), pass));
  RegionBatch equal = with_foil();
  equal.foil_ids = torch::tensor({{1, 2, 0}}, torch::kLong);  // what is true of the first picture
  FakePass other(equal, visual, text);
  other.foils = foil;
  CHECK(value(of(true), other) == value(of(false), other));
}

TEST_CASE("matching, foils: each is one more negative pair with its own visual, averaged with the others", "[losses]") {
  const Tensor visual = unit_rows(2, 8, 31), text = unit_rows(2, 8, 32);
  FakePass pass(with_foil(), visual, text);
  pass.foils = unit_rows(1, 8, 33);
  MatchingOptions options;
  options.given = {torch::tensor({1, 0}, torch::kLong), torch::tensor({1, 0}, torch::kLong)};
  const auto without = make_term(options, test::kFakeSpec);
  options.foils = true;
  const auto with = make_term(options, test::kFakeSpec);
  for (const auto& term : {without, with}) {
    initialize(*term, 3, {}, "itm");
    term->to(at::kDouble);
  }
  const Loss less = without->forward(pass), more = with->forward(pass);
  const Tensor logits = dynamic_cast<PairScorer&>(*with).pair_logits((pass.foils[0] + visual[1]).view({1, -1}));
  CHECK(less.parts()[0].count == 6);
  CHECK(more.parts()[0].count == 7);
  CHECK((more.parts()[0].sum - less.parts()[0].sum).item<double>() == Approx(-torch::log_softmax(logits, 1)[0][0].item<double>()).epsilon(1e-9));
}

TEST_CASE("foil_matching: mean of softplus(foil - true) over the named matching term's scores", "[losses]") {
  RegionBatch batch = batch_of({0, 1}, {1, 2});
  batch.foil_ids = torch::ones({1, 2}, torch::kLong);
  batch.foil_mask = torch::ones({1, 2}, torch::kBool);
  batch.foil_to_text = torch::tensor({1}, torch::kLong);
  const Tensor visual = unit_rows(2, 8, 11).to(at::kFloat), text = unit_rows(2, 8, 12).to(at::kFloat);
  FakePass pass(batch, visual, text);
  pass.foils = unit_rows(1, 8, 13).to(at::kFloat);
  Criterion criterion(test::kFakeSpec);
  criterion.add("itm", MatchingOptions{}).add("foils", FoilMatchingOptions{});
  const LossReport report = criterion.forward(pass);
  auto& scorer = dynamic_cast<PairScorer&>(*criterion.find("itm"));
  const auto score = [&](const Tensor& token) {
    const Tensor logits = scorer.pair_logits(token.view({1, -1}));
    return (logits[0][1] - logits[0][0]).item<double>();
  };
  const double truth = score(text[1] + visual[1]), foil = score(pass.foils[0] + visual[1]);
  CHECK(report.mean("foils").value() == Approx(std::log1p(std::exp(foil - truth))).epsilon(1e-5));
  Criterion lonely(test::kFakeSpec);
  lonely.add("foils", FoilMatchingOptions{});
  CHECK_THROWS_WITH(lonely.forward(pass), Catch::Contains("no matching term named 'itm'"));
}

}  // namespace
}  // namespace fgvl::losses
