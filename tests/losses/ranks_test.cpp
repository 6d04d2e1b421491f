#include <torch/torch.h>

#include "losses/scenes.hpp"
#include "support/catch.hpp"
#include "support/rank_threads.hpp"

namespace fgvl::losses {
namespace {

using test::NamedTerm;
using test::Scene;

struct Outcome {
  Tensor total{};
  std::vector<Tensor> leaves{};  ///< gradients, as Scene::leaves
  std::vector<Tensor> parameters{};
  std::vector<double> means{};
};

Tensor gradient_of(const Tensor& leaf) { return leaf.grad().defined() ? leaf.grad() : torch::zeros_like(leaf); }

/// One process with the whole batch.
Outcome whole(const NamedTerm& named, Scene scene) {
  for (Tensor* leaf : scene.leaves()) *leaf = leaf->detach().clone().requires_grad_();
  const auto criterion = test::criterion_of(named);
  const LossReport report = criterion->forward(*scene.pass());
  report.total.backward();
  Outcome outcome{report.total.detach()};
  for (const Tensor* leaf : scene.leaves()) outcome.leaves.push_back(gradient_of(*leaf));
  for (const Tensor& parameter : criterion->parameters()) outcome.parameters.push_back(gradient_of(parameter));
  for (const LossReport::Value& value : report.values) outcome.means.push_back(value.mean.item<double>());
  return outcome;
}

/// Ranks with `images` of them each. Gradients as data parallelism averages them.
Outcome split(const NamedTerm& named, const Scene& scene, const std::vector<std::int64_t>& images) {
  struct Rank {
    Scene scene;
    std::shared_ptr<Criterion> criterion;
    LossReport report;
  };
  const auto count = static_cast<std::int64_t>(images.size());
  const std::vector<Rank> ranks = test::on_ranks<Rank>(count, [&](const CollectivePtr& collective) {
    std::int64_t first = 0;
    for (std::int64_t rank = 0; rank < collective->rank(); ++rank) first += images[static_cast<std::size_t>(rank)];
    Rank own{test::part_of(scene, first, first + images[static_cast<std::size_t>(collective->rank())]), test::criterion_of(named), {}};
    for (Tensor* leaf : own.scene.leaves()) leaf->requires_grad_();
    own.report = own.criterion->forward(*own.scene.pass(collective));
    return own;
  });
  Tensor sum = torch::zeros({}, at::kDouble);
  for (const Rank& rank : ranks) sum = sum + rank.report.total;
  sum = sum / static_cast<double>(count);
  sum.backward();
  Outcome outcome{sum.detach()};
  for (std::size_t leaf = 0; leaf < 5; ++leaf) {
    std::vector<Tensor> parts;
    for (Rank rank : ranks) parts.push_back(gradient_of(*rank.scene.leaves()[leaf]));
    // Labels are the same on every rank, as weights are; foils stand in the order of the whole batch's, which parts keep within themselves.
    outcome.leaves.push_back(leaf == 4 ? at::stack(parts).sum(0) : at::cat(parts));
  }
  for (std::size_t i = 0; i < ranks[0].criterion->parameters().size(); ++i) {
    Tensor total = gradient_of(ranks[0].criterion->parameters()[i]);
    for (std::size_t rank = 1; rank < ranks.size(); ++rank) total = total + gradient_of(ranks[rank].criterion->parameters()[i]);
    outcome.parameters.push_back(total);
  }
  for (const LossReport::Value& value : ranks.back().report.values) outcome.means.push_back(value.mean.item<double>());
  return outcome;
}

double difference(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  double largest = a.size() == b.size() ? 0.0 : 1.0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (a[i].numel() > 0) largest = std::max(largest, (a[i] - b[i]).abs().max().item<double>() / std::max(1.0, a[i].abs().max().item<double>()));
  }
  return largest;
}

TEST_CASE("every term: losses and gradients of two and three ranks are those of one process with the whole batch", "[ranks]") {
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    const bool labels = seed % 2 == 0;
    Scene scene = test::random_scene(seed, {.images = 5, .labels = labels});
    // Foils in the order of their texts, so that ranks hold them one after the other.
    const Tensor order = scene.batch.foil_to_text.argsort(/*stable=*/true, 0, false);
    scene.batch.foil_to_text = scene.batch.foil_to_text.index_select(0, order);
    for (const NamedTerm& named : test::every_term()) {
      if (named.draws_among_own_rows) continue;
      const Outcome one = whole(named, scene);
      for (const std::vector<std::int64_t>& images : {std::vector<std::int64_t>{3, 2}, {1, 2, 2}, {5, 0}, {0, 4, 1}}) {
        INFO(named.name << ", seed " << seed << ", " << images.size() << " ranks with " << images[0] << " images on the first");
        const Outcome many = split(named, scene, images);
        CHECK(difference({one.total}, {many.total}) <= 1e-12);
        CHECK(difference(one.leaves, many.leaves) <= 1e-12);
        CHECK(difference(one.parameters, many.parameters) <= 1e-12);
        REQUIRE(one.means.size() == many.means.size());
        for (std::size_t i = 0; i < one.means.size(); ++i) CHECK(std::abs(one.means[i] - many.means[i]) <= 1e-12 * std::max(1.0, std::abs(one.means[i])));
      }
    }
  }
}

TEST_CASE("matching: a rank fuses pairs with its own visuals, against texts of every rank", "[ranks]") {
  const Scene scene = test::random_scene(3, {.images = 6, .different_texts = 40});
  const NamedTerm named{"matching", [] { return make_term(MatchingOptions{.negatives = Negatives::kUniform, .negatives_from = NegativesFrom::kAllRanks}, test::kSceneSpec); }};
  struct Asked {
    FusionQuery query;
    std::int64_t first_text, texts;
  };
  const std::vector<Asked> asked = test::on_ranks<Asked>(3, [&](const CollectivePtr& collective) {
    const std::int64_t rank = collective->rank();
    const auto pass = test::part_of(scene, 2 * rank, 2 * rank + 2).pass(collective);
    test::criterion_of(named)->find("term")->forward(*pass);
    return Asked{pass->last_query, test::part_of(scene, 0, 2 * rank).batch.text_count(), pass->batch().text_count()};
  });
  std::int64_t pairs = 0, foreign = 0;
  for (const Asked& one : asked) {
    CHECK(one.query.text == TextInput::kAllRanks);
    REQUIRE(one.query.visual_index.numel() > 0);
    CHECK(one.query.visual_index.max().item<std::int64_t>() < one.texts);
    pairs += one.query.text_index.numel();
    foreign += one.query.text_index.lt(one.first_text).logical_or(one.query.text_index >= one.first_text + one.texts).sum().item<std::int64_t>();
  }
  CHECK(pairs == 2 * scene.batch.text_count());
  CHECK(foreign > pairs / 3);  // two thirds on average
}

TEST_CASE("ranks in threads: a call that others do not make, or a rank that ends early, is an error and no deadlock", "[ranks]") {
  const auto differing = [](const CollectivePtr& collective) {
    const Tensor one = torch::ones({1});
    return collective->rank() == 0 ? collective->all_reduce_sum(one) : collective->all_gather_rows(one);
  };
  CHECK_THROWS_WITH(test::on_ranks<Tensor>(2, differing), Catch::Contains("where others call"));
  const auto leaving = [](const CollectivePtr& collective) { return collective->rank() == 0 ? torch::ones({1}) : collective->all_reduce_sum(torch::ones({1})); };
  CHECK_THROWS_WITH(test::on_ranks<Tensor>(3, leaving), Catch::Contains("a rank has ended"));
  const auto failing = [](const CollectivePtr& collective) {
    TORCH_CHECK(collective->rank() != 1, "no luck");
    return collective->all_reduce_sum(torch::ones({1}));
  };
  CHECK_THROWS(test::on_ranks<Tensor>(3, failing));
}

}  // namespace
}  // namespace fgvl::losses
