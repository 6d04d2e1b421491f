// Momentum encoders in the objectives: queues, soft targets, distillation of words.
#include <cmath>
#include <utility>

#include "fgvl/losses/contrastive.hpp"
#include "fgvl/losses/criterion.hpp"
#include "fgvl/losses/masked_language.hpp"
#include "fgvl/losses/queue_owner.hpp"
#include "losses/fake_pass.hpp"
#include "losses/feature_queue.hpp"
#include "support/catch.hpp"
#include "support/rank_threads.hpp"

namespace fgvl::losses {
namespace {

using test::batch_of;
using test::unit_rows;

constexpr std::int64_t kWidth = 6;

/// What momentum encoders see: other features, other word embeddings.
class CopiedPass final : public test::FakePass {
 public:
  using FakePass::FakePass;
  const Tensor& word_embedding() const override { return words_; }

 private:
  Tensor words_ = unit_rows(7, kWidth, 5).to(at::kFloat);
};

/// A pass with another one as its momentum encoders', on any rank, at any step.
class MomentumPass final : public test::FakePass {
 public:
  MomentumPass(const RegionBatch& batch, const Tensor& visual, const Tensor& text, const Tensor& visual_m, const Tensor& text_m, CollectivePtr ranks = make_single_process())
      : FakePass(batch, visual, text), copies_(batch, visual_m, text_m), ranks_(std::move(ranks)) {}
  ForwardPass& momentum() override { return ++momentum_calls, copies_; }
  Collective& collective() const override { return *ranks_; }
  std::int64_t step() const override { return at_step; }
  bool training() const override { return trains; }
  const Tensor& word_embedding() const override { return words_; }

  int momentum_calls = 0;
  std::int64_t at_step = 0;
  bool trains = true;

 private:
  CopiedPass copies_;
  CollectivePtr ranks_;
  Tensor words_ = unit_rows(7, kWidth, 6).to(at::kFloat);
};

FeatureSpec spec_with_momentum() { return {.fusion_width = kWidth, .embed_dim = kWidth, .vocab_size = 7, .momentum = 0.9}; }

/// Rows first to first + count of a run's features, as the batch of one rank.
struct RunRows {
  Tensor visual = unit_rows(12, kWidth, 1).to(at::kFloat), text = unit_rows(12, kWidth, 2).to(at::kFloat), visual_m = unit_rows(12, kWidth, 3).to(at::kFloat), text_m = unit_rows(12, kWidth, 4).to(at::kFloat);
  std::vector<std::int64_t> keys = {0, 1, 2, 3, 0, 5, 6, 1, 8, 9, 10, 11};

  std::unique_ptr<MomentumPass> pass(std::int64_t first, std::int64_t count, const CollectivePtr& ranks = make_single_process()) const {
    std::vector<std::int64_t> image;
    for (std::int64_t i = 0; i < count; ++i) image.push_back(i);
    const auto of = [&](const Tensor& rows) { return rows.slice(0, first, first + count); };
    return std::make_unique<MomentumPass>(batch_of(image, {keys.begin() + first, keys.begin() + first + count}), of(visual), of(text), of(visual_m), of(text_m), ranks);
  }
};

double loss_of(LossTerm& term, ForwardPass& pass) {
  const Loss loss = term.forward(pass);
  return (loss.parts()[0].sum / loss.parts()[0].count).item<double>();
}

Tensor buffer(const torch::nn::Module& term, const std::string& name) { return term.named_buffers()[name]; }

TEST_CASE("a queue is a ring of any size: the oldest rows give way, what is not finite stays out, and of too many rows the last stay", "[momentum]") {
  FeatureQueue queue(5, 2);
  CHECK(queue.entries().key.numel() == 0);
  const auto rows = [](double first, std::int64_t count) {
    const Tensor values = at::arange(count, at::kFloat).add(first).unsqueeze(1).expand({count, 2}).contiguous();
    return FeatureQueue::Entries{values, values + 100, at::arange(count).add(static_cast<std::int64_t>(first))};
  };
  queue.push(rows(1, 3));
  CHECK(at::equal(queue.entries().key, torch::tensor({1, 2, 3}, at::kLong)));
  queue.push(rows(4, 3));  // 6 wraps around
  CHECK(at::equal(queue.entries().key, torch::tensor({6, 2, 3, 4, 5}, at::kLong)));
  CHECK(at::equal(queue.entries().visual.select(1, 0).to(at::kLong), queue.entries().key));
  CHECK(at::equal(queue.entries().text, queue.entries().visual + 100));
  FeatureQueue::Entries bad = rows(7, 2);
  bad.text[0][1] = std::nan("");
  queue.push(bad);
  CHECK(at::equal(queue.entries().key, torch::tensor({6, 8, 3, 4, 5}, at::kLong)));
  queue.push(rows(20, 12));
  CHECK(at::equal(std::get<0>(queue.entries().key.sort()), at::arange(27, 32)));
  queue.push(rows(40, 0));
  CHECK(queue.entries().key.numel() == 5);
  // A file of a larger queue, or a wrong one.
  queue.named_buffers()["pointer"].fill_(-57599);
  queue.push(rows(50, 1));
  CHECK((queue.entries().key == 50).sum().item<std::int64_t>() == 1);
}

TEST_CASE("a queue is read before the batch enters it, in training only", "[momentum]") {
  const RunRows rows;
  const LossTermPtr term = make_term(ContrastiveOptions{.queue = QueueOptions{.size = 5}, .alpha = 0.4}, spec_with_momentum());
  const auto first = rows.pass(0, 4), again = rows.pass(0, 4), evaluated = rows.pass(4, 3);
  const double alone = loss_of(*term, *first);
  const LossTermPtr no_queue = make_term(ContrastiveOptions{.alpha = 0.4}, spec_with_momentum());
  CHECK(dynamic_cast<const QueueOwner&>(*term).queue_rows() == 5);  // when it is full
  CHECK(dynamic_cast<const QueueOwner&>(*no_queue).queue_rows() == 0);
  CHECK(alone == loss_of(*no_queue, *again));  // nothing was in it
  CHECK(at::equal(buffer(*term, "queue.visual").slice(0, 0, 4), rows.visual_m.slice(0, 0, 4)));
  CHECK(at::equal(buffer(*term, "queue.text").slice(0, 0, 4), rows.text_m.slice(0, 0, 4)));
  CHECK(buffer(*term, "queue.pointer").item<std::int64_t>() == 4);
  // Now its own rows stand there too, with their texts: every candidate twice, so that each has half of the softmax.
  CHECK(std::abs(loss_of(*term, *again) - alone - std::log(2.0)) < 1e-6);
  evaluated->trains = false;
  const Tensor before = buffer(*term, "queue.key").clone();
  loss_of(*term, *evaluated);
  CHECK(at::equal(buffer(*term, "queue.key"), before));
}

TEST_CASE("an entry with a row's own text is no negative of it, unless as the official code", "[momentum]") {
  const RunRows rows;
  // Row 4 has the text of row 0, which is in the queue; with another key there the loss is that of one more negative.
  const auto second = [&](ContrastiveOptions options, std::int64_t key) {
    options.queue = QueueOptions{.size = 8};
    options.alpha = 0.0;
    const LossTermPtr term = make_term(options, spec_with_momentum());
    if (options.reference) {
      for (const char* name : {"queue.visual", "queue.text"}) buffer(*term, name).zero_();
    }
    loss_of(*term, *rows.pass(0, 1));
    buffer(*term, "queue.key").masked_fill_(buffer(*term, "queue.key") == 0, key);
    return loss_of(*term, *rows.pass(4, 3));
  };
  const auto alone = [&] {
    const LossTermPtr term = make_term(ContrastiveOptions{.queue = QueueOptions{.size = 8}}, spec_with_momentum());
    return loss_of(*term, *rows.pass(4, 3));
  }();
  const double negative = second({}, 77), positive = second({}, 0), ignored = second({.same_text = SameText::kIgnored}, 0), official = second({.reference = true}, 0), official_other = second({.reference = true}, 77);
  CHECK(positive != negative);
  CHECK(ignored < negative);
  CHECK(ignored > alone);  // to the other rows it is a negative
  CHECK(official == official_other);
  CHECK(std::abs(official - negative) < 1e-6);
}

TEST_CASE("the texts of a queue are known in both directions: with visuals and texts exchanged the loss is the same", "[momentum]") {
  const RunRows rows;
  RunRows exchanged = rows;
  std::swap(exchanged.visual, exchanged.text);
  std::swap(exchanged.visual_m, exchanged.text_m);
  for (const SameText same_text : {SameText::kPositive, SameText::kIgnored}) {
    // Row 4 has the text of row 0, which is in the queue.
    const auto second = [&](const RunRows& of) {
      const LossTermPtr term = make_term(ContrastiveOptions{.same_text = same_text, .queue = QueueOptions{.size = 8}, .alpha = 0.4}, spec_with_momentum());
      loss_of(*term, *of.pass(0, 2));
      return loss_of(*term, *of.pass(4, 3));
    };
    CHECK(std::abs(second(rows) - second(exchanged)) < 1e-5);
  }
}

TEST_CASE("momentum keys carry no gradient, and alpha follows the steps", "[momentum]") {
  RunRows rows;
  for (Tensor* features : {&rows.visual, &rows.text, &rows.visual_m, &rows.text_m}) features->requires_grad_();
  const LossTermPtr term = make_term(ContrastiveOptions{.alpha = Schedule::linear({.from = 0, .to = 0.4, .steps = 10})}, spec_with_momentum());
  term->forward(*rows.pass(0, 4)).parts()[0].sum.backward();
  CHECK(rows.visual.grad().abs().sum().item<double>() > 0);
  CHECK_FALSE(rows.visual_m.grad().defined());
  CHECK_FALSE(rows.text_m.grad().defined());
  const auto at_step = [&](std::int64_t step) {
    const auto pass = rows.pass(0, 4);
    pass->at_step = step;
    return loss_of(*term, *pass);
  };
  const LossTermPtr fixed = make_term(ContrastiveOptions{.alpha = 0.2}, spec_with_momentum());
  CHECK(std::abs(at_step(5) - loss_of(*fixed, *rows.pass(0, 4))) < 1e-7);
  CHECK(at_step(10) == at_step(1000));
  CHECK(at_step(0) != at_step(10));
}

TEST_CASE("two ranks with a queue and soft targets equal one process with the whole batch: loss, gradients and queue", "[momentum]") {
  const ContrastiveOptions options{.queue = QueueOptions{.size = 7}, .alpha = 0.4};
  struct Result {
    double loss = 0;
    Tensor gradient, queue, key;
  };
  // Two batches, so that the second sees the queue: rows 0 to 5, then 6 to 11; rank 0 has four of the six.
  const auto train = [&](const CollectivePtr& ranks) {
    RunRows rows;
    for (Tensor* features : {&rows.visual, &rows.text, &rows.visual_m, &rows.text_m}) *features = features->detach().to(at::kDouble);
    rows.visual.requires_grad_();
    const LossTermPtr term = make_term(options, spec_with_momentum());
    term->to(at::kDouble);
    Result result;
    for (std::int64_t batch = 0; batch < 2; ++batch) {
      const bool alone = ranks->size() == 1;
      const auto pass = rows.pass(batch * 6 + (ranks->rank() == 0 ? 0 : 4), alone ? 6 : ranks->rank() == 0 ? 4 : 2, ranks);
      const Loss loss = term->forward(*pass);
      loss.parts()[0].sum.backward();
      result.loss += loss.parts()[0].sum.item<double>();
    }
    result.gradient = rows.visual.grad();
    result.queue = buffer(*term, "queue.visual");
    result.key = buffer(*term, "queue.key");
    return result;
  };
  const Result whole = train(make_single_process());
  const std::vector<Result> ranks = test::on_ranks<Result>(2, train);
  CHECK(std::abs(ranks[0].loss + ranks[1].loss - whole.loss) < 1e-12 * std::abs(whole.loss));
  CHECK(at::allclose(ranks[0].gradient + ranks[1].gradient, whole.gradient, 1e-12, 1e-14));
  for (const Result& rank : ranks) {
    CHECK(at::equal(rank.queue, whole.queue));
    CHECK(at::equal(rank.key, whole.key));
  }
}

TEST_CASE("as X-VLM on two ranks: encoders get half of the gradient, the temperature all of it", "[momentum]") {
  struct Result {
    Tensor features, temperature;
  };
  const auto gradients = [](bool reference) {
    return test::on_ranks<Result>(2, [reference](const CollectivePtr& ranks) {
      RunRows rows;
      for (Tensor* features : {&rows.visual, &rows.text}) *features = features->detach().to(at::kDouble).requires_grad_();
      const LossTermPtr term = make_term(ContrastiveOptions{.reference = reference}, spec_with_momentum());
      term->to(at::kDouble);
      // Rows without equal texts, which the reference would see differently.
      const auto pass = rows.pass(ranks->rank() * 4, ranks->rank() == 0 ? 4 : 3, ranks);
      for (Tensor key : {pass->batch().text_key}) key.copy_(at::arange(key.size(0)) + 100 * ranks->rank());
      const Tensor sum = term->forward(*pass).parts()[0].sum;
      ranks->barrier();
      const auto found = torch::autograd::grad({sum}, {rows.visual, rows.text, term->parameters()[0]}, {}, /*retain_graph=*/true);
      ranks->barrier();  // what is gathered is one graph
      return Result{at::cat({found[0], found[1]}), found[2]};
    });
  };
  const std::vector<Result> ours = gradients(false), official = gradients(true);
  for (std::size_t rank = 0; rank < 2; ++rank) {
    CHECK(at::allclose(official[rank].features, ours[rank].features / 2, 1e-12, 1e-14));
    CHECK(at::allclose(official[rank].temperature, ours[rank].temperature, 1e-12, 1e-14));
  }
}

TEST_CASE("what momentum encoders are needed for is refused without them", "[momentum]") {
  const FeatureSpec without{.fusion_width = kWidth, .embed_dim = kWidth, .vocab_size = 7};
  CHECK_THROWS_WITH(make_term(ContrastiveOptions{.queue = QueueOptions{}}, without), Catch::Contains("model.momentum"));
  CHECK_THROWS_WITH(make_term(ContrastiveOptions{.alpha = 0.1}, without), Catch::Contains("model.momentum"));
  CHECK_THROWS_WITH(make_term(ContrastiveOptions{.alpha = 1.1}, spec_with_momentum()), Catch::Contains("[0, 1]"));
  CHECK_THROWS_WITH(make_term(MaskedLanguageOptions{.distillation = DistillationOptions{}}, without), Catch::Contains("model.momentum"));
  CHECK_THROWS_WITH(make_term(MaskedLanguageOptions{.distillation = DistillationOptions{}, .reference = true}, spec_with_momentum()), Catch::Contains("model.at_padding"));
  CHECK_NOTHROW(make_term(ContrastiveOptions{}, without));
}

TEST_CASE("words are distilled from a copy of the head that starts equal, follows, and never trains", "[momentum]") {
  Criterion criterion(spec_with_momentum());
  criterion.add("mlm", MaskedLanguageOptions{.distillation = DistillationOptions{.alpha = 0.4}});
  auto parameters = criterion.named_parameters();
  const Tensor head = parameters["mlm.dense.weight"], copy = parameters["mlm.momentum.dense.weight"];
  CHECK(at::equal(head, copy));
  CHECK(head.requires_grad());
  CHECK_FALSE(copy.requires_grad());
  const Tensor start = copy.clone();
  {
    torch::NoGradGuard guard;
    head.add_(1.0);
  }
  criterion.update_momentum();
  CHECK(at::allclose(copy, 0.9 * start + 0.1 * head, 1e-6, 1e-7));

  const RunRows rows;
  const auto prepared = [&](const std::unique_ptr<MomentumPass>& pass) {
    RegionBatch batch = pass->batch();
    batch.masked_ids = batch.text_ids;
    batch.masked_positions = torch::tensor({{0, 1}, {0, 0}, {1, 0}}, torch::kLong);
    batch.masked_labels = torch::tensor({{3, 4}, {5, -100}, {-100, -100}}, torch::kLong);
    const auto of = [](const Tensor& all) { return all.slice(0, 0, 3); };
    return std::make_unique<MomentumPass>(batch, of(rows.visual), of(rows.text), of(rows.visual_m), of(rows.text_m));
  };
  const auto pass = prepared(rows.pass(0, 3)), plain_pass = prepared(rows.pass(0, 3));
  const LossReport distilled = criterion.forward(*pass);
  // By hand: three masked words, of text 0 twice and of text 1; fused tokens are the sum of features.
  const auto term = criterion.find("mlm");
  auto& words = dynamic_cast<WordPredictor&>(*term);
  const Tensor tokens = (rows.visual + rows.text).index_select(0, torch::tensor({0, 0, 1})), tokens_m = (rows.visual_m + rows.text_m).index_select(0, torch::tensor({0, 0, 1}));
  const Tensor logs = words.word_logits(tokens, pass->word_embedding()).log_softmax(1), labels = torch::tensor({3, 4, 5}, torch::kLong);
  Criterion copied(spec_with_momentum());
  copied.add("mlm", MaskedLanguageOptions{});
  {
    torch::NoGradGuard guard;
    for (const auto& parameter : copied.named_parameters()) Tensor(parameter.value()).copy_(parameters["mlm.momentum." + parameter.key().substr(4)]);
  }
  const Tensor soft_targets = dynamic_cast<WordPredictor&>(*copied.find("mlm")).word_logits(tokens_m, pass->momentum().word_embedding()).softmax(1);
  const Tensor expected = -(0.6 * logs.gather(1, labels.unsqueeze(1)).sum() + 0.4 * (soft_targets * logs).sum()) / 3;
  CHECK(std::abs((distilled.total - expected).item<double>()) < 1e-6);
  distilled.total.backward();
  CHECK_FALSE(copy.grad().defined());

  Criterion off(spec_with_momentum());
  off.add("mlm", MaskedLanguageOptions{.distillation = DistillationOptions{.alpha = 0.0}});
  off.forward(*plain_pass);
  CHECK(plain_pass->momentum_calls == 0);  // what is off costs nothing
}

}  // namespace
}  // namespace fgvl::losses
