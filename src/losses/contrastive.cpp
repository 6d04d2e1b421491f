#include "fgvl/losses/contrastive.hpp"

#include <algorithm>
#include <limits>

#include <torch/torch.h>

#include "fgvl/losses/queue_owner.hpp"
#include "fgvl/losses/tiled_contrastive.hpp"
#include "losses/feature_queue.hpp"
#include "losses/foil_rows.hpp"
#include "losses/true_pairs.hpp"

namespace fgvl::losses {
namespace {

class ContrastiveTerm final : public LossTerm, public TemperatureSource, public QueueOwner {
 public:
  ContrastiveTerm(const ContrastiveOptions& options, const FeatureSpec& spec)
      : options_(options), temperature_(register_module("temperature", std::make_shared<Temperature>(options.temperature))), has_momentum_(options.queue.has_value() || options.alpha.max() > 0) {
    if (!options.queue) return;
    queue_ = register_module("queue", std::make_shared<FeatureQueue>(options.queue->size, spec.embed_dim));
    if (options.reference) queue_->fill(spec.seed);
  }

  Tensor divisor() override { return temperature_->divisor(); }
  std::int64_t queue_rows() const override { return queue_ ? queue_->size() : 0; }

  Loss forward(ForwardPass& pass) override {
    const RegionBatch& batch = pass.batch();
    const Tensor rows = rows_where(batch, rows_condition(batch, options_.rows));
    Collective& collective = pass.collective();
    const RowIdentity own = row_identity(batch, rows, collective);
    const Pairs pairs{batch, options_.reference ? RowIdentity{} : known_rows(batch, collective), options_.same_text == SameText::kPositive};
    const Tensor visual = pass.regions().features.index_select(0, rows), text = pass.text().features.index_select(0, rows), temperature = divisor().to(visual.scalar_type());
    const Tensor sum = has_momentum_ ? momentum_contrast(pass, rows, own, pairs, visual, text, temperature) : in_batch_contrast(pass, rows, own, pairs, visual, text, temperature);
    return Loss().part("", 1.0, 0.5 * sum, static_cast<double>(rows.size(0)));
  }

 private:
  /// What pairs of visuals and texts are to one another.
  struct Pairs {
    const RegionBatch& batch;
    RowIdentity known;
    bool equal_is_positive;
    PairRules of(const RowIdentity& visuals, const RowIdentity& texts) const { return pair_rules(visuals, texts, known, batch.implied_keys, equal_is_positive); }
  };

  /// Sum over rows and both directions; the candidates are the rows of all ranks.
  Tensor in_batch_contrast(ForwardPass& pass, const Tensor& rows, const RowIdentity& own, const Pairs& pairs, const Tensor& visual, const Tensor& text, const Tensor& temperature) const {
    Collective& collective = pass.collective();
    if (options_.reference) divide_gradients({visual, text}, collective.size());
    const Tensor foils = options_.foils ? foil_columns(pass, rows, pass) : Tensor();
    if (collective.size() == 1 && !foils.defined()) {
      const ContrastiveLosses both = tiled_contrastive({.queries = visual, .keys = text, .temperature = temperature, .pairs = pairs.of(own, own), .both = true});
      return both.to_keys.sum() + both.to_queries.sum();
    }
    const RowIdentity all = own.gathered(collective);
    const Tensor all_visual = collective.all_gather_rows(visual), all_text = collective.all_gather_rows(text);
    const Tensor to_text = tiled_contrastive({.queries = visual, .keys = with_rows(all_text, foils), .temperature = temperature, .pairs = pairs.of(own, with_foils(all, foils))}).to_keys;
    const Tensor to_visual = tiled_contrastive({.queries = text, .keys = all_visual, .temperature = temperature, .pairs = pairs.of(all, own).transposed()}).to_keys;
    return to_text.sum() + to_visual.sum();
  }

  /// The same where the candidates are the momentum encoders' features, of the batch and, in the queue, of earlier ones (MoCo).
  Tensor momentum_contrast(ForwardPass& pass, const Tensor& rows, const RowIdentity& own, const Pairs& pairs, const Tensor& visual, const Tensor& text, const Tensor& temperature) {
    ForwardPass& momentum = pass.momentum();
    Collective& collective = pass.collective();
    const Tensor visual_m = momentum.regions().features.index_select(0, rows).detach(), text_m = momentum.text().features.index_select(0, rows).detach();
    // In the official codes the features of other ranks are no candidates until they are in the queue.
    const auto gathered = [&](const Tensor& features) { return options_.reference ? features : collective.all_gather_rows(features); };
    RowIdentity candidates = options_.reference ? own : own.gathered(collective);
    const Tensor foils = options_.foils ? foil_columns(pass, rows, momentum).detach() : Tensor(), text_keys = with_rows(gathered(text_m), foils), visual_keys = gathered(visual_m);
    RowIdentity texts = with_foils(candidates, foils);
    FeatureQueue::Entries queued;
    if (queue_) {
      queued = queue_->entries();
      candidates = joined(candidates, text_identity(queued.key));
      texts = joined(texts, text_identity(queued.key));
      queued.visual = queued.visual.to(visual.scalar_type());
      queued.text = queued.text.to(text.scalar_type());
    }
    // As the official codes, in float64 too: their hard targets are float32, and so is the share that these have.
    const double alpha = options_.alpha.at(pass.step()), hard = options_.reference ? static_cast<double>(static_cast<float>(1 - alpha)) : 1 - alpha, share = alpha / (hard + alpha);
    const auto cross_entropy = [&](const Tensor& queries, const Tensor& teacher, const Tensor& keys, const Tensor& queue, const PairRules& rules) {
      return tiled_contrastive({.queries = queries, .keys = keys, .queue = queue, .temperature = temperature, .pairs = rules, .soft = {.alpha = share, .queries = teacher}}).to_keys.sum();
    };
    const Tensor sum = (hard + alpha) * (cross_entropy(visual, visual_m, text_keys, queued.text, pairs.of(own, texts)) + cross_entropy(text, text_m, visual_keys, queued.visual, pairs.of(candidates, own).transposed()));
    // The same rows in the same order on every rank.
    if (queue_ && pass.training()) queue_->push({collective.all_gather_rows(visual_m), collective.all_gather_rows(text_m), collective.all_gather_rows(own.key)});
    return sum;
  }

  static Tensor with_rows(const Tensor& keys, const Tensor& foils) { return foils.defined() ? at::cat({keys, foils.to(keys.scalar_type())}) : keys; }
  static RowIdentity with_foils(const RowIdentity& texts, const Tensor& foils) {
    return foils.defined() ? joined(texts, text_identity(at::full({foils.size(0)}, FeatureQueue::kUnknownKey, texts.key.options()))) : texts;
  }

  /// In X-VLM (models/xvlm.py, AllGather) every rank computes the loss of all rows and sends the gradient of its own rows back, of which data parallelism takes the mean: 1 / ranks of what it should be.
  static void divide_gradients(std::initializer_list<Tensor> features, std::int64_t ranks) {
    for (const Tensor& rows : features) {
      if (ranks > 1 && rows.requires_grad()) rows.register_hook([ranks](const Tensor& gradient) { return gradient / static_cast<double>(ranks); });
    }
  }

  ContrastiveOptions options_;
  std::shared_ptr<Temperature> temperature_;
  bool has_momentum_;
  std::shared_ptr<FeatureQueue> queue_;  ///< null: none
};

}  // namespace

config::EnumNames<SameText> enum_names(SameText) { return {{SameText::kPositive, "positive"}, {SameText::kIgnored, "ignored"}}; }

void visit_fields(config::Visitor& visitor, ContrastiveOptions& options) {
  visitor("rows", options.rows, "texts of the batch that take part");
  visitor("same_text", options.same_text, "what rows of equal text are to one another");
  visitor("temperature", options.temperature, "of the softmax");
  visitor("queue", options.queue, "momentum features of earlier batches as further candidates, as ALBEF: {size: 65536}; null: none. Needs model.momentum");
  visitor("alpha", options.alpha, "share of the targets that is the momentum encoders' own softmax (momentum distillation), as ALBEF; above 0 it needs model.momentum", config::kFraction);
  visitor("foils", options.foils, "the foils that the batch carries are further texts to tell every visual from, as NegCLIP");
  visitor("reference", options.reference, "as X-VLM, ALBEF and BLIP: every pair but a row's own is a negative, and several ranks' gradients as theirs");
}

void visit_fields(config::Visitor& visitor, QueueOptions& options) { visitor("size", options.size, "rows", {1, 1e9}); }

Tensor multi_positive_cross_entropy(const Tensor& logits, const PairRoles& roles) {
  Tensor kept = logits;
  if (roles.ignored.defined()) kept = logits.masked_fill(roles.ignored, -std::numeric_limits<double>::infinity());
  const Tensor positives = roles.positive.sum(1);
  const Tensor chosen = at::log_softmax(kept, 1).masked_fill(roles.positive.logical_not(), 0.0).sum(1);
  return -chosen / positives.clamp_min(1).to(chosen.scalar_type());
}

Tensor contrastive(const Tensor& visual, const Tensor& text, const Tensor& temperature) {
  TORCH_CHECK(visual.dim() == 2 && visual.sizes() == text.sizes(), "[contrastive] visual, text: expected two [N, E], got ", visual.sizes(), " and ", text.sizes());
  const std::int64_t rows = visual.size(0);
  const ContrastiveLosses both = tiled_contrastive({.queries = visual, .keys = text, .temperature = temperature, .pairs = PairRules::diagonal(rows, visual.device()), .both = true});
  return 0.5 * (both.to_keys.sum() + both.to_queries.sum()) / std::max<std::int64_t>(rows, 1);
}

LossTermPtr make_term(const ContrastiveOptions& options, const FeatureSpec& spec) {
  TORCH_CHECK(spec.momentum || !options.queue, "[contrastive] queue: holds features of momentum encoders, and this model has none; add model.momentum, or remove the queue");
  TORCH_CHECK(spec.momentum || options.alpha.max() <= 0, "[contrastive] alpha: the share of the momentum encoders' softmax in the targets, and this model has none; add model.momentum, or set it to 0");
  TORCH_CHECK(options.alpha.min() >= 0 && options.alpha.max() <= 1, "[contrastive] alpha: expected shares in [0, 1], got ", options.alpha.words());
  TORCH_CHECK(!options.queue || options.queue->size > 0, "[contrastive] queue.size: expected a positive number, got ", options.queue->size);
  return std::make_shared<ContrastiveTerm>(options, spec);
}

}  // namespace fgvl::losses
