#include "fgvl/losses/position_tokens.hpp"

#include <torch/torch.h>

#include "fgvl/losses/masked_language.hpp"
#include "losses/masked_slots.hpp"
#include "losses/require_fusion.hpp"

namespace fgvl::losses {
namespace {

class PositionTokensTerm final : public LossTerm {
 public:
  PositionTokensTerm(const PositionTokensOptions& options, const FeatureSpec& spec) : options_(options), first_(spec.first_position_id), width_(spec.fusion_width) {
    TORCH_CHECK(first_ >= 0, "[position_tokens] the vocabulary has no position tokens; set data.tokenizer.options.position_tokens: true, and position_tokens: true on the streams whose texts carry them");
  }

  void connect(const TermLookup& terms) override {
    masked_language_ = terms.find(options_.masked_language);
    words_ = dynamic_cast<WordPredictor*>(masked_language_.get());
    TORCH_CHECK(words_ != nullptr, "[position_tokens] masked_language: this criterion has no masked_language term named '", options_.masked_language, "'; its head predicts position tokens too");
  }

  Loss forward(ForwardPass& pass) override {
    const RegionBatch& batch = pass.batch();
    TORCH_CHECK(words_ != nullptr, "[position_tokens] used before connect(); add it to a Criterion");
    // All masked texts of its streams, as masked_language asks for them, so that one fusion serves both.
    const MaskedSlots slots = masked_slots(batch, rows_where(batch, rows_condition(batch, options_.rows, has_masks(batch, "position_tokens"))));
    const Tensor labels = slots.labels - first_, positions = slots.valid.logical_and(labels >= 0).logical_and(labels < kPositionBins);
    const Tensor bins = labels.index({positions});
    if (bins.size(0) == 0) return Loss().part("", 1.0, words_->word_logits(at::zeros({0, width_}, pass.word_embedding().options()), pass.word_embedding()).sum(), 0);
    const Tensor logits = words_->word_logits(pass.fuse(slots.query).index({positions}), pass.word_embedding());
    return Loss().part("", 1.0, position_loss(logits, bins, first_, options_.decay).sum(), static_cast<double>(bins.size(0)));
  }

 private:
  PositionTokensOptions options_;
  std::int64_t first_, width_;
  LossTermPtr masked_language_;
  WordPredictor* words_ = nullptr;
};

}  // namespace

void visit_fields(config::Visitor& visitor, PositionTokensOptions& options) {
  visitor("rows", options.rows, "texts of the batch that take part");
  visitor("masked_language", options.masked_language, "name of the masked_language term whose head predicts words");
  visitor("decay", options.decay, "of the target a bin away from the right one, e^-decay; 0.15 in PEVL's pre-training and grounding, 0.25 in its visual relations", config::kNonNegative);
}

Tensor position_targets(const Tensor& bins, double decay) {
  const Tensor all = at::arange(kPositionBins, bins.options());
  const Tensor weights = at::exp((bins.unsqueeze(1) - all).abs().to(at::kDouble) * -decay);
  return (weights / weights.sum(1, /*keepdim=*/true)).to(at::kFloat);
}

Tensor position_loss(const Tensor& logits, const Tensor& bins, std::int64_t first, double decay) {
  TORCH_CHECK(logits.dim() == 2 && bins.dim() == 1 && bins.size(0) == logits.size(0), "[position_loss] logits, bins: expected [N, V] and [N], got ", logits.sizes(), " and ", bins.sizes());
  TORCH_CHECK(first >= 0 && first + kPositionBins <= logits.size(1), "[position_loss] first: expected ", kPositionBins, " words from it on of ", logits.size(1), ", got ", first);
  // -sum_j t_j log softmax(z)_j without the [N, V] logarithms.
  const Tensor targets = position_targets(bins, decay).to(logits.scalar_type());
  return targets.sum(1) * logits.logsumexp(1) - (targets * logits.slice(1, first, first + kPositionBins)).sum(1);
}

LossTermPtr make_term(const PositionTokensOptions& options, const FeatureSpec& spec) {
  require_fusion(spec, "position_tokens");
  return std::make_shared<PositionTokensTerm>(options, spec);
}

}  // namespace fgvl::losses
