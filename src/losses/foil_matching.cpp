#include "fgvl/losses/foil_matching.hpp"

#include <torch/torch.h>

#include "fgvl/losses/matching.hpp"
#include "losses/foil_rows.hpp"
#include "losses/require_fusion.hpp"

namespace fgvl::losses {
namespace {

class FoilMatchingTerm final : public LossTerm {
 public:
  explicit FoilMatchingTerm(const FoilMatchingOptions& options) : options_(options) {}

  void connect(const TermLookup& terms) override {
    matching_ = terms.find(options_.matching);
    scorer_ = dynamic_cast<PairScorer*>(matching_.get());
    TORCH_CHECK(scorer_ != nullptr, "[foil_matching] matching: this criterion has no matching term named '", options_.matching, "'; foils are ranked by its scores");
  }

  Loss forward(ForwardPass& pass) override {
    const RegionBatch& batch = pass.batch();
    TORCH_CHECK(scorer_ != nullptr, "[foil_matching] used before connect(); add it to a Criterion");
    const Tensor usable = foils_of(batch, rows_where(batch, rows_condition(batch, options_.rows)));
    const std::int64_t count = usable.size(0);
    // Without a foil: an exact zero with a gradient of zero, from scores that matching needs anyway.
    if (count == 0) return Loss().part("", 1.0, scorer_->pair_logits(pass.matched().slice(0, 0, 0)).sum(), 0);
    const Tensor texts = batch.foil_to_text.index_select(0, usable);
    const Tensor logits = scorer_->pair_logits(at::cat({pass.matched().index_select(0, texts), fused_foils(pass, usable)}));
    const Tensor score = logits.select(1, 1) - logits.select(1, 0);
    return Loss().part("", 1.0, ranking_loss(score.slice(0, 0, count), score.slice(0, count)).sum(), static_cast<double>(count));
  }

 private:
  FoilMatchingOptions options_;
  LossTermPtr matching_;
  PairScorer* scorer_ = nullptr;
};

}  // namespace

void visit_fields(config::Visitor& visitor, FoilMatchingOptions& options) {
  visitor("rows", options.rows, "texts of the batch whose foils take part");
  visitor("matching", options.matching, "name of the matching term whose scores are ranked");
}

Tensor ranking_loss(const Tensor& matched_score, const Tensor& foil_score) { return at::softplus(foil_score - matched_score); }

LossTermPtr make_term(const FoilMatchingOptions& options, const FeatureSpec& spec) {
  require_fusion(spec, "foil_matching");
  return std::make_shared<FoilMatchingTerm>(options);
}

}  // namespace fgvl::losses
