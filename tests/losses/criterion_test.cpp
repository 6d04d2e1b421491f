#include <torch/torch.h>

#include "fgvl/losses/contrastive.hpp"
#include "fgvl/losses/criterion.hpp"
#include "fgvl/losses/matching.hpp"
#include "losses/fake_pass.hpp"
#include "support/catch.hpp"

namespace fgvl::losses {
namespace {

/// Sum and count as told.
class Fixed final : public LossTerm {
 public:
  Fixed(double sum, double count) : sum_(sum), count_(count) {}
  Loss forward(ForwardPass&) override { return Loss().part("", 1.0, torch::tensor(sum_, torch::kFloat64), count_).part("half", 0.5, torch::tensor(2 * sum_, torch::kFloat64), count_); }

 private:
  double sum_, count_;
};

TEST_CASE("Criterion: the total is the weighted sum of means, and only what was computed is reported", "[criterion]") {
  test::FakePass pass(test::batch_of({0}, {1}), torch::zeros({1, 8}), torch::zeros({1, 8}));
  Criterion criterion(test::kFakeSpec);
  criterion.add("a", std::make_shared<Fixed>(6.0, 3.0), 2.0).add("none", std::make_shared<Fixed>(0.0, 0.0));
  const LossReport report = criterion.forward(pass);
  CHECK(report.total.item<double>() == Approx(2.0 * (6.0 / 3) + 2.0 * 0.5 * (12.0 / 3)));
  CHECK(report.mean("a").value() == Approx(2.0));
  CHECK(report.mean("a.half").value() == Approx(4.0));
  CHECK_FALSE(report.mean("none").has_value());
}

/// The second of two ranks; the other one holds as much of everything.
class TwoRanks final : public Collective {
 public:
  std::int64_t rank() const override { return 1; }
  std::int64_t size() const override { return 2; }
  Tensor all_reduce_sum(const Tensor& value) override { return value * torch::tensor({{3.0}, {2.0}}, value.options()); }  // sums: the other has twice as much; counts: as much
  Tensor all_gather_rows(const Tensor& rows) override { return rows; }
  Tensor broadcast(const Tensor& value) override { return value; }
  void barrier() override {}
};

TEST_CASE("Criterion: means run over the counts of all ranks, and local sums are scaled so that averaged gradients are exact", "[criterion]") {
  class OnTwo final : public test::FakePass {
   public:
    using FakePass::FakePass;
    Collective& collective() const override { return ranks_; }

   private:
    mutable TwoRanks ranks_;
  } pass(test::batch_of({0}, {1}), torch::zeros({1, 8}), torch::zeros({1, 8}));
  Criterion criterion(test::kFakeSpec);
  criterion.add("a", std::make_shared<Fixed>(6.0, 3.0));
  const LossReport report = criterion.forward(pass);
  // Part "a": sum 6 of 18, 3 items of 6. Data parallelism averages gradients, so that a rank's share is 2 * 6 / 6; the logged mean is 18 / 6.
  CHECK(report.mean("a").value() == Approx(3.0));
  CHECK(report.values[0].count == 6);
  CHECK(report.total.item<double>() == Approx(2 * 6.0 / 6 + 0.5 * 2 * 12.0 / 6));
}

TEST_CASE("Criterion: heads start from the spec's seed and their names, whatever was made before", "[criterion]") {
  FeatureSpec spec = test::kFakeSpec;
  spec.seed = 5;
  const auto weight = [&](bool with_other) {
    torch::rand({3});  // the global generator moves on
    Criterion criterion(spec);
    if (with_other) criterion.add("other", MatchingOptions{});
    criterion.add("itm", MatchingOptions{});
    return criterion.named_parameters()["itm.itm_head.0.weight"].clone();
  };
  const Tensor first = weight(false);
  CHECK(at::equal(first, weight(true)));
  spec.seed = 6;
  CHECK_FALSE(at::equal(first, weight(false)));
}

TEST_CASE("Criterion: names are unique words, and limited terms see their streams only", "[criterion]") {
  Criterion criterion(test::kFakeSpec);
  criterion.add("itc", ContrastiveOptions{});
  CHECK_THROWS_WITH(criterion.add("itc", ContrastiveOptions{}), Catch::Contains("already"));
  CHECK_THROWS_WITH(criterion.add("a.b", ContrastiveOptions{}), Catch::Contains("without dots"));
  RegionBatch batch = test::batch_of({0, 1, 2}, {1, 2, 3});
  batch.text_stream = torch::tensor({0, 1, 0}, torch::kLong);
  test::FakePass pass(batch, test::unit_rows(3, 8, 1), test::unit_rows(3, 8, 2));
  Criterion limited(test::kFakeSpec);
  limited.add("itc", make_term(ContrastiveOptions{}, test::kFakeSpec), 1.0, {0});
  CHECK(limited.forward(pass).values[0].count == 2);
}

/// A pass of a later step.
class AtStep final : public test::FakePass {
 public:
  explicit AtStep(std::int64_t step) : FakePass(test::batch_of({0, 1, 2}, {1, 2, 3}), test::unit_rows(3, 8, 1), test::unit_rows(3, 8, 2)), step_(step) {}
  std::int64_t step() const override { return step_; }

 private:
  std::int64_t step_;
};

TEST_CASE("Criterion: a weight follows its schedule, and while it is 0 the term is neither computed nor reported", "[criterion]") {
  class Counted final : public LossTerm {
   public:
    Loss forward(ForwardPass&) override { return ++runs, Loss().part("", 1.0, torch::tensor(6.0, torch::kFloat64), 3.0); }
    int runs = 0;
  };
  const auto late = std::make_shared<Counted>();
  Criterion criterion(test::kFakeSpec);
  criterion.add("always", std::make_shared<Counted>(), 0.5).add("late", late, Schedule::piecewise({{10, 20}, {0, 1}}));
  const auto at = [&](std::int64_t step) {
    AtStep pass(step);
    return criterion.forward(pass);
  };
  CHECK(at(10).total.item<double>() == Approx(0.5 * 2));
  CHECK_FALSE(at(10).mean("late").has_value());
  CHECK(late->runs == 0);
  CHECK(at(15).total.item<double>() == Approx(0.5 * 2 + 0.5 * 2));
  CHECK(at(15).values[1].weight == Approx(0.5));
  CHECK(at(20).total.item<double>() == Approx(0.5 * 2 + 1.0 * 2));
  CHECK(late->runs == 3);
  // What the terms add, by term, is the total.
  const LossReport report = at(20);
  REQUIRE(report.shares.size() == 2);
  CHECK(report.shares[1].first == "late");
  CHECK((report.shares[0].second + report.shares[1].second).item<double>() == report.total.item<double>());
  // Where every term rests there is nothing to learn from, which is not an error.
  Criterion resting(test::kFakeSpec);
  resting.add("late", late, Schedule::step({{0, 5}, {0, 1}}));
  AtStep pass(0);
  const LossReport nothing = resting.forward(pass);
  CHECK(nothing.total.item<double>() == 0);
  CHECK_FALSE(nothing.total.requires_grad());
  CHECK(nothing.values.empty());
}

TEST_CASE("Criterion: a fixed temperature follows its schedule, also where another term reads it; a learned one has none", "[criterion]") {
  const auto with = [](const Schedule& temperature, std::int64_t step) {
    Criterion criterion(test::kFakeSpec);
    criterion.add("itc", ContrastiveOptions{.temperature = {.init = temperature, .learn = false}});
    AtStep pass(step);
    return criterion.forward(pass).total.item<double>();
  };
  const Schedule falling = Schedule::linear({.from = 0.4, .to = 0.1, .steps = 100});
  CHECK(with(falling, 0) == with(0.4, 0));
  CHECK(with(falling, 50) == Approx(with(0.25, 0)));
  CHECK(with(falling, 100) == with(0.1, 0));
  CHECK(with(falling, 0) != with(falling, 100));
  // A term whose weight is 0 still lends its temperature.
  Criterion criterion(test::kFakeSpec);
  criterion.add("itc", ContrastiveOptions{.temperature = {.kind = TemperatureKind::kLogScale, .init = falling, .learn = false}}, 0.0).add("itm", MatchingOptions{.temperature = "itc"});
  criterion.to(at::kDouble);  // as the features
  AtStep pass(100);
  criterion.forward(pass);
  CHECK(dynamic_cast<TemperatureSource&>(*criterion.find("itc")).divisor().item<double>() == Approx(0.1));
  CHECK_THROWS_WITH(make_term(ContrastiveOptions{.temperature = {.init = falling}}, test::kFakeSpec), Catch::Contains("needs learn: false"));
}

TEST_CASE("make_criterion: an unknown stream is named", "[criterion]") {
  CriterionConfig config;
  config.emplace_back("itc", TermConfig{Choice<LossTermPtr, FeatureSpec>(builtin_terms(), "contrastive"), 1.0, {"regions"}});
  CHECK_THROWS_WITH(make_criterion(config, test::kFakeSpec, {"captions"}), Catch::Contains("no stream 'regions'"));
  CHECK(make_criterion(config, test::kFakeSpec, {"captions", "regions"})->names() == std::vector<std::string>{"itc"});
}

}  // namespace
}  // namespace fgvl::losses
