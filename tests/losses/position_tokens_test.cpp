#include <torch/torch.h>

#include "fgvl/losses/criterion.hpp"
#include "fgvl/losses/masked_language.hpp"
#include "fgvl/losses/position_tokens.hpp"
#include "losses/fake_pass.hpp"
#include "support/catch.hpp"

namespace fgvl::losses {
namespace {

using test::FakePass;
using test::batch_of;
using test::unit_rows;

constexpr std::int64_t kFirst = 3, kVocabulary = kFirst + kPositionBins + 2;
const FeatureSpec kPositionSpec = [] {
  FeatureSpec spec;
  spec.fusion_width = 8;
  spec.vocab_size = kVocabulary;
  spec.first_position_id = kFirst;
  return spec;
}();

TEST_CASE("position_targets: fall by e^-decay a bin on both sides, sum to one, and stay within the bins", "[position_tokens]") {
  const Tensor targets = position_targets(torch::tensor({0, 255, 511}), 0.15).to(at::kDouble);
  CHECK(targets.sizes() == at::IntArrayRef({3, kPositionBins}));
  CHECK(at::allclose(targets.sum(1), torch::ones({3}, at::kDouble), 0, 1e-6));
  const double step = std::exp(-0.15);
  CHECK(targets[1][256].item<double>() / targets[1][255].item<double>() == Approx(step).epsilon(1e-6));
  CHECK(targets[1][250].item<double>() / targets[1][255].item<double>() == Approx(std::pow(step, 5)).epsilon(1e-6));
  // Bin 0 has bins on one side alone: 1 / (1 + r + r^2 + ...) of the mass is its own, (1 - r) / (1 + r) in the middle.
  CHECK(targets[0][0].item<double>() == Approx(1 - step).epsilon(1e-6));
  CHECK(targets[1][255].item<double>() == Approx((1 - step) / (1 + step)).epsilon(1e-6));
  CHECK(at::allclose(targets[0], targets[2].flip(0)));
  CHECK(at::allclose(position_targets(torch::tensor({7}), 0.0), torch::full({1, kPositionBins}, 1.0f / kPositionBins)));
}

TEST_CASE("position_loss: cross entropy with the softmax over all words, and a near miss costs less than a far one", "[position_tokens]") {
  at::Generator generator = Generator({.seed = 3}).torch_generator(at::kCPU);
  const Tensor logits = torch::empty({4, kVocabulary}, at::kDouble).normal_(0, 2, generator), bins = torch::tensor({0, 100, 101, 511});
  const Tensor targets = torch::zeros({4, kVocabulary}, at::kDouble);
  targets.slice(1, kFirst, kFirst + kPositionBins).copy_(position_targets(bins, 0.2));
  CHECK(at::allclose(position_loss(logits, bins, kFirst, 0.2), -(targets * logits.log_softmax(1)).sum(1), 0, 1e-12));
  const auto loss_of = [&](std::int64_t said, std::int64_t word_offset = kFirst) {
    const Tensor sure = torch::zeros({1, kVocabulary}, at::kDouble);
    sure[0][word_offset + said] = 8.0;
    return position_loss(sure, torch::tensor({100}), kFirst, 0.15).item<double>();
  };
  CHECK(loss_of(100) < loss_of(101));
  CHECK(loss_of(101) < loss_of(104));
  CHECK(loss_of(104) < loss_of(300));
  CHECK(loss_of(300) < loss_of(0, 0));  // a word that is no position at all
  // The right bin alone is what a decay without end asks for.
  CHECK(at::allclose(position_loss(logits, bins, kFirst, 1e3), at::cross_entropy_loss(logits, bins + kFirst, {}, at::Reduction::None), 0, 1e-12));
  CHECK_THROWS_WITH(position_loss(logits, bins, 10, 0.15), Catch::Contains("first"));
}

TEST_CASE("position_loss: gradients equal finite differences", "[position_tokens]") {
  at::Generator generator = Generator({.seed = 4}).torch_generator(at::kCPU);
  const Tensor logits = torch::empty({2, kVocabulary}, at::kDouble).normal_(0, 1, generator).requires_grad_(), bins = torch::tensor({5, 400});
  const Tensor gradient = torch::autograd::grad({position_loss(logits, bins, kFirst, 0.15).sum()}, {logits})[0];
  torch::NoGradGuard guard;
  for (const std::int64_t word : {std::int64_t{0}, kFirst, kFirst + 5, kFirst + 6, kFirst + 400, kVocabulary - 1}) {
    for (const std::int64_t row : {0, 1}) {
      const auto moved = [&](double by) {
        const Tensor other = logits.detach().clone();
        other[row][word] += by;
        return position_loss(other, bins, kFirst, 0.15).sum().item<double>();
      };
      CHECK(gradient[row][word].item<double>() == Approx((moved(1e-5) - moved(-1e-5)) / 2e-5).margin(1e-9));
    }
  }
}

RegionBatch masked_batch(const Tensor& labels) {
  RegionBatch batch = batch_of({0, 1}, {1, 2});
  batch.masked_ids = batch.text_ids;
  batch.masked_positions = torch::zeros({2, labels.size(1)}, at::kLong);
  batch.masked_labels = labels;
  return batch;
}

/// Criterion of both terms on a pass whose tokens are texts plus visuals.
std::pair<LossReport, Tensor> both_terms(const Tensor& labels, Criterion& criterion) {
  FakePass pass(masked_batch(labels), unit_rows(2, 8, 11).to(at::kFloat), unit_rows(2, 8, 12).to(at::kFloat));
  pass.set_word_embedding(unit_rows(kVocabulary, 8, 13).to(at::kFloat));
  criterion.add("mlm", MaskedLanguageOptions{}).add("position", PositionTokensOptions{}, /*weight=*/2.0);
  LossReport report = criterion.forward(pass);
  auto& words = dynamic_cast<WordPredictor&>(*criterion.find("mlm"));
  return {report, words.word_logits(pass.text().features + pass.regions().features, pass.word_embedding())};
}

TEST_CASE("position_tokens: the mean over masked position tokens, from the head of the term that it names", "[position_tokens]") {
  // Words 1 and kVocabulary - 1, positions 7 and 511; the first and the last bin are positions, their neighbours @@ and ## are not.
  const Tensor labels = torch::tensor({1, static_cast<int>(kFirst) + 7, -100, static_cast<int>(kFirst) - 1, static_cast<int>(kFirst) + 511, static_cast<int>(kVocabulary) - 2}, at::kLong).view({2, 3});
  Criterion criterion(kPositionSpec);
  const auto [report, logits] = both_terms(labels, criterion);
  const Tensor expected = position_loss(logits, torch::tensor({7, 511}), kFirst, 0.15).mean();
  CHECK(report.mean("position").value() == Approx(expected.item<double>()).epsilon(1e-5));
  CHECK(report.total.item<double>() == Approx(report.mean("mlm").value() + 2 * report.mean("position").value()).epsilon(1e-5));
}

TEST_CASE("position_tokens: without a masked position the loss is an exact zero, and its gradients too", "[position_tokens]") {
  for (const std::int64_t label : {std::int64_t{1}, std::int64_t{-100}}) {
    Criterion criterion(kPositionSpec);
    const auto [report, logits] = both_terms(torch::full({2, 1}, label), criterion);
    CHECK_FALSE(report.mean("position").has_value());
    report.total.backward();
    if (label == -100) {
      for (const Tensor& parameter : criterion.parameters()) {
        if (parameter.grad().defined()) CHECK(parameter.grad().abs().max().item<double>() == 0);
      }
    }
  }
}

TEST_CASE("position_tokens: a vocabulary without positions and a criterion without words are refused by name", "[position_tokens]") {
  FeatureSpec none = kPositionSpec;
  none.first_position_id = -1;
  CHECK_THROWS_WITH(make_term(PositionTokensOptions{}, none), Catch::Contains("data.tokenizer.options.position_tokens"));
  Criterion lonely(kPositionSpec);
  lonely.add("position", PositionTokensOptions{});
  CHECK_THROWS_WITH(lonely.connect(), Catch::Contains("no masked_language term named 'mlm'"));
}

}  // namespace
}  // namespace fgvl::losses
