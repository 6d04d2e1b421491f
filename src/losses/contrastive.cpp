#include "fgvl/losses/contrastive.hpp"

#include <limits>

#include <torch/torch.h>

#include "losses/true_pairs.hpp"

namespace fgvl::losses {
namespace {

class ContrastiveTerm final : public LossTerm, public TemperatureSource {
 public:
  explicit ContrastiveTerm(const ContrastiveOptions& options) : options_(options), temperature_(register_module("temperature", std::make_shared<Temperature>(options.temperature))) {}

  Tensor divisor() override { return temperature_->divisor(); }

  Loss forward(ForwardPass& pass) override {
    const RegionBatch& batch = pass.batch();
    const Tensor rows = rows_where(batch, rows_condition(batch, options_.rows));
    Collective& collective = pass.collective();
    const Tensor visual = pass.regions().features.index_select(0, rows), text = pass.text().features.index_select(0, rows);
    const Tensor all_visual = collective.all_gather_rows(visual), all_text = collective.all_gather_rows(text);
    const Tensor temperature = divisor().to(visual.scalar_type());
    const RowIdentity own = row_identity(batch, rows, collective), all = own.gathered(collective);
    const RowIdentity known = options_.reference ? RowIdentity{} : known_rows(batch, collective);
    const Tensor to_text = multi_positive_cross_entropy(at::matmul(visual, all_text.t()) / temperature, roles(own, all, known, false));
    const Tensor to_visual = multi_positive_cross_entropy(at::matmul(text, all_visual.t()) / temperature, roles(all, own, known, true));
    return Loss().part("", 1.0, 0.5 * (to_text.sum() + to_visual.sum()), static_cast<double>(rows.size(0)));
  }

 private:
  /// Roles of (visual, text) pairs; `transposed` makes texts the rows.
  PairRoles roles(const RowIdentity& visuals, const RowIdentity& texts, const RowIdentity& known, bool transposed) const {
    const Tensor own = visuals.row.unsqueeze(1) == texts.row.unsqueeze(0);
    PairRoles roles{own, {}};
    if (!options_.reference) {
      if (options_.same_text == SameText::kPositive) roles.positive = visuals.key.unsqueeze(1) == texts.key.unsqueeze(0);
      roles.ignored = text_is_true_of(visuals, texts, known).logical_and(roles.positive.logical_not());
    }
    if (transposed) {
      roles.positive = roles.positive.t();
      if (roles.ignored.defined()) roles.ignored = roles.ignored.t();
    }
    return roles;
  }

  ContrastiveOptions options_;
  std::shared_ptr<Temperature> temperature_;
};

}  // namespace

config::EnumNames<SameText> enum_names(SameText) { return {{SameText::kPositive, "positive"}, {SameText::kIgnored, "ignored"}}; }

void visit_fields(config::Visitor& visitor, ContrastiveOptions& options) {
  visitor("rows", options.rows, "texts of the batch that take part");
  visitor("same_text", options.same_text, "what rows of equal text are to one another");
  visitor("temperature", options.temperature, "of the softmax");
  visitor("reference", options.reference, "as X-VLM: every pair but a row's own is a negative");
}

Tensor multi_positive_cross_entropy(const Tensor& logits, const PairRoles& roles) {
  Tensor kept = logits;
  if (roles.ignored.defined()) kept = logits.masked_fill(roles.ignored, -std::numeric_limits<double>::infinity());
  const Tensor positives = roles.positive.sum(1);
  const Tensor chosen = at::log_softmax(kept, 1).masked_fill(roles.positive.logical_not(), 0.0).sum(1);
  return -chosen / positives.clamp_min(1).to(chosen.scalar_type());
}

Tensor contrastive(const Tensor& visual, const Tensor& text, const Tensor& temperature) {
  TORCH_CHECK(visual.dim() == 2 && visual.sizes() == text.sizes(), "[contrastive] visual, text: expected two [N, E], got ", visual.sizes(), " and ", text.sizes());
  if (visual.size(0) == 0) return visual.sum() + text.sum();
  const Tensor logits = at::matmul(visual, text.t()) / temperature;
  const PairRoles own{at::eye(visual.size(0), logits.options().dtype(at::kBool)), {}};
  return 0.5 * (multi_positive_cross_entropy(logits, own).mean() + multi_positive_cross_entropy(logits.t(), own).mean());
}

LossTermPtr make_term(const ContrastiveOptions& options, const FeatureSpec&) { return std::make_shared<ContrastiveTerm>(options); }

}  // namespace fgvl::losses
