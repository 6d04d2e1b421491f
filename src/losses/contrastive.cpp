#include "fgvl/losses/contrastive.hpp"

#include <limits>

#include <torch/torch.h>

#include "losses/feature_queue.hpp"
#include "losses/foil_rows.hpp"
#include "losses/true_pairs.hpp"

namespace fgvl::losses {
namespace {

/// What rows are told from: candidate m is one row of the batch, of any rank, or behind those an entry of the queue.
struct Candidates {
  Tensor visual{}, text{};   ///< [M, E]
  RowIdentity rows{};        ///< of those of the batch
  Tensor queued_key{};       ///< [K] int64 of the others; undefined: none
};

class ContrastiveTerm final : public LossTerm, public TemperatureSource {
 public:
  ContrastiveTerm(const ContrastiveOptions& options, const FeatureSpec& spec)
      : options_(options), temperature_(register_module("temperature", std::make_shared<Temperature>(options.temperature))), has_momentum_(options.queue.has_value() || options.alpha.max() > 0) {
    if (!options.queue) return;
    queue_ = register_module("queue", std::make_shared<FeatureQueue>(options.queue->size, spec.embed_dim));
    if (options.reference) queue_->fill(spec.seed);
  }

  Tensor divisor() override { return temperature_->divisor(); }

  Loss forward(ForwardPass& pass) override {
    const RegionBatch& batch = pass.batch();
    const Tensor rows = rows_where(batch, rows_condition(batch, options_.rows));
    Collective& collective = pass.collective();
    const Tensor visual = pass.regions().features.index_select(0, rows), text = pass.text().features.index_select(0, rows);
    const Tensor temperature = divisor().to(visual.scalar_type());
    const RowIdentity own = row_identity(batch, rows, collective), known = options_.reference ? RowIdentity{} : known_rows(batch, collective);
    const double alpha = options_.alpha.at(pass.step());
    Tensor sum;
    if (has_momentum_) {
      ForwardPass& momentum = pass.momentum();
      const Tensor visual_m = momentum.regions().features.index_select(0, rows).detach(), text_m = momentum.text().features.index_select(0, rows).detach();
      const Candidates candidates = with_queue({visual_m, text_m, own, {}}, collective);
      const Tensor foils = foils_for(pass, rows, momentum, text_m).detach();
      // As the official codes, in float64 too: their hard targets are float32, and so is the share that these have.
      const double hard = options_.reference ? static_cast<double>(static_cast<float>(1 - alpha)) : 1 - alpha, share = alpha / (hard + alpha);
      const auto direction = [&](const Tensor& queries, const Tensor& queries_m, const Tensor& keys, const PairRoles& roles) {
        const Tensor logits = at::matmul(queries, keys.t()) / temperature;
        return share > 0 ? soft_target_cross_entropy(logits, roles, at::matmul(queries_m, keys.t()) / temperature.detach(), share) : multi_positive_cross_entropy(logits, roles);
      };
      sum = (hard + alpha) * (direction(visual, visual_m, with_rows(candidates.text, foils), with_negatives(roles(own, candidates, known, false), foils.size(0))).sum() + direction(text, text_m, candidates.visual, roles(own, candidates, known, true)).sum());
      if (queue_ && pass.training()) enqueue({visual_m, text_m, own.key}, collective);
    } else {
      if (options_.reference) divide_gradients({visual, text}, collective.size());
      const Candidates candidates{collective.all_gather_rows(visual), collective.all_gather_rows(text), own.gathered(collective), {}};
      const Tensor foils = foils_for(pass, rows, pass, text);
      const Tensor to_text = multi_positive_cross_entropy(at::matmul(visual, with_rows(candidates.text, foils).t()) / temperature, with_negatives(roles(own, candidates, known, false), foils.size(0)));
      const Tensor to_visual = multi_positive_cross_entropy(at::matmul(text, candidates.visual.t()) / temperature, roles(own, candidates, known, true));
      sum = to_text.sum() + to_visual.sum();
    }
    return Loss().part("", 1.0, 0.5 * sum, static_cast<double>(rows.size(0)));
  }

 private:
  /// [F', E] columns behind the texts, of which there may be none; `like`: any features.
  Tensor foils_for(ForwardPass& pass, const Tensor& rows, ForwardPass& features_from, const Tensor& like) const {
    return options_.foils ? foil_columns(pass, rows, features_from) : like.slice(0, 0, 0);
  }
  static Tensor with_rows(const Tensor& keys, const Tensor& foils) { return foils.size(0) > 0 ? at::cat({keys, foils.to(keys.scalar_type())}) : keys; }

  /// In X-VLM (models/xvlm.py, AllGather) every rank computes the loss of all rows and sends the gradient of its own rows back, of which data parallelism takes the mean: 1 / ranks of what it should be.
  static void divide_gradients(std::initializer_list<Tensor> features, std::int64_t ranks) {
    for (const Tensor& rows : features) {
      if (ranks > 1 && rows.requires_grad()) rows.register_hook([ranks](const Tensor& gradient) { return gradient / static_cast<double>(ranks); });
    }
  }

  /// Candidates of the own rank, to which those of the others are added, and the queue's.
  Candidates with_queue(Candidates own, Collective& collective) const {
    Candidates all = options_.reference ? std::move(own) : Candidates{collective.all_gather_rows(own.visual), collective.all_gather_rows(own.text), own.rows.gathered(collective), {}};
    if (!queue_) return all;
    const FeatureQueue::Entries queued = queue_->entries();
    all.visual = at::cat({all.visual, queued.visual.to(all.visual.scalar_type())});
    all.text = at::cat({all.text, queued.text.to(all.text.scalar_type())});
    all.queued_key = queued.key;
    return all;
  }

  /// The same rows in the same order on every rank.
  void enqueue(const FeatureQueue::Entries& own, Collective& collective) { queue_->push({collective.all_gather_rows(own.visual), collective.all_gather_rows(own.text), collective.all_gather_rows(own.key)}); }

  /// Roles of pairs of `own` rows and candidates: own visuals with candidate texts or, `of_texts`, own texts with candidate visuals.
  PairRoles roles(const RowIdentity& own, const Candidates& candidates, const RowIdentity& known, bool of_texts) const {
    const Tensor same_row = own.row.unsqueeze(1) == candidates.rows.row.unsqueeze(0), same_text = own.key.unsqueeze(1) == candidates.rows.key.unsqueeze(0);
    PairRoles roles{same_row, {}};
    if (!options_.reference) {
      if (options_.same_text == SameText::kPositive) roles.positive = same_text;
      const Tensor is_true = of_texts ? text_is_true_of(candidates.rows, own, known).t() : text_is_true_of(own, candidates.rows, known);
      roles.ignored = is_true.logical_and(roles.positive.logical_not());
    }
    if (!candidates.queued_key.defined()) return roles;
    const Tensor queued = options_.reference ? at::zeros({own.key.size(0), candidates.queued_key.size(0)}, same_row.options()) : own.key.unsqueeze(1) == candidates.queued_key.unsqueeze(0);
    const bool positive = options_.same_text == SameText::kPositive;
    roles.positive = at::cat({roles.positive, positive ? queued : at::zeros_like(queued)}, 1);
    if (roles.ignored.defined()) roles.ignored = at::cat({roles.ignored, positive ? at::zeros_like(queued) : queued}, 1);
    return roles;
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
  visitor("queue", options.queue, "momentum features of earlier batches as further candidates, as ALBEF; null: none. Needs model.momentum");
  visitor("alpha", options.alpha, "share of the targets that is the momentum encoders' opinion, as ALBEF; above 0 it needs model.momentum", config::kFraction);
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

Tensor soft_target_cross_entropy(const Tensor& logits, const PairRoles& roles, const Tensor& opinion, double alpha) {
  constexpr double kNever = -std::numeric_limits<double>::infinity();
  Tensor kept = logits, believed = opinion.detach();
  if (roles.ignored.defined()) {
    kept = kept.masked_fill(roles.ignored, kNever);
    believed = believed.masked_fill(roles.ignored, kNever);
  }
  Tensor logs = at::log_softmax(kept, 1);
  if (roles.ignored.defined()) logs = logs.masked_fill(roles.ignored, 0.0);
  const Tensor positives = roles.positive.sum(1).clamp_min(1).to(logs.scalar_type());
  const Tensor hard = logs.masked_fill(roles.positive.logical_not(), 0.0).sum(1) / positives;
  return -((1 - alpha) * hard + alpha * (believed.softmax(1) * logs).sum(1));
}

Tensor contrastive(const Tensor& visual, const Tensor& text, const Tensor& temperature) {
  TORCH_CHECK(visual.dim() == 2 && visual.sizes() == text.sizes(), "[contrastive] visual, text: expected two [N, E], got ", visual.sizes(), " and ", text.sizes());
  if (visual.size(0) == 0) return visual.sum() + text.sum();
  const Tensor logits = at::matmul(visual, text.t()) / temperature;
  const PairRoles own{at::eye(visual.size(0), logits.options().dtype(at::kBool)), {}};
  return 0.5 * (multi_positive_cross_entropy(logits, own).mean() + multi_positive_cross_entropy(logits.t(), own).mean());
}

LossTermPtr make_term(const ContrastiveOptions& options, const FeatureSpec& spec) {
  TORCH_CHECK(spec.momentum || !options.queue, "[contrastive] queue: holds features of momentum encoders, and this model has none; add model.momentum, or remove the queue");
  TORCH_CHECK(spec.momentum || options.alpha.max() <= 0, "[contrastive] alpha: the share of what momentum encoders say, and this model has none; add model.momentum, or set it to 0");
  TORCH_CHECK(options.alpha.min() >= 0 && options.alpha.max() <= 1, "[contrastive] alpha: expected shares in [0, 1], got ", options.alpha.words());
  TORCH_CHECK(!options.queue || options.queue->size > 0, "[contrastive] queue.size: expected a positive number, got ", options.queue->size);
  return std::make_shared<ContrastiveTerm>(options, spec);
}

}  // namespace fgvl::losses
