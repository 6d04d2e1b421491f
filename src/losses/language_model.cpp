#include "fgvl/losses/language_model.hpp"

#include <torch/torch.h>

#include "fgvl/losses/masked_language.hpp"
#include "losses/word_head.hpp"

namespace fgvl::losses {
namespace {

class LanguageModelTerm final : public LossTerm, public WordPredictor {
 public:
  LanguageModelTerm(const LanguageModelOptions& options, const FeatureSpec& spec)
      : options_(options), head_(*register_module("lm_head", std::make_shared<torch::nn::Module>()), spec) {}

  Tensor word_logits(const Tensor& tokens, const Tensor& word_embedding) override { return head_.logits(tokens, word_embedding); }

  Loss forward(ForwardPass& pass) override {
    const RegionBatch& batch = pass.batch();
    const Tensor predicted = batch.text_mask.slice(1, 1);  // texts stand first in their rows, so that the token before a real one is real
    const Tensor rows = rows_where(batch, rows_condition(batch, options_.rows, predicted.any(1)));
    if (rows.size(0) == 0) return Loss().part("", 1.0, head_.zero(), 0);
    const Tensor valid = predicted.index_select(0, rows), labels = batch.text_ids.slice(1, 1).index_select(0, rows).index({valid});
    const Tensor decoded = pass.decoded({.text = TextInput::kText, .text_index = rows, .visual = VisualInput::kRegion, .visual_index = rows});
    const Tensor logits = word_logits(decoded.slice(1, 0, -1).index({valid}), pass.word_embedding());
    const Tensor sum = at::cross_entropy_loss(logits, labels, {}, at::Reduction::Sum, /*ignore_index=*/-100, options_.label_smoothing);
    return Loss().part("", 1.0, sum, static_cast<double>(labels.size(0)));
  }

 private:
  LanguageModelOptions options_;
  WordHead head_;
};

}  // namespace

void visit_fields(config::Visitor& visitor, LanguageModelOptions& options) {
  visitor("rows", options.rows, "texts of the batch that take part");
  visitor("label_smoothing", options.label_smoothing, "share of the target that is spread evenly over all words", {0.0, 0.99});
}

LossTermPtr make_term(const LanguageModelOptions& options, const FeatureSpec& spec) {
  TORCH_CHECK(options.label_smoothing >= 0 && options.label_smoothing < 1, "[language_model] label_smoothing: expected a number in [0, 1), got ", options.label_smoothing);
  TORCH_CHECK(spec.has_decoder, "[language_model] this model has no decoder that could predict words in turn; choose a fusion encoder with one (model.fusion: {type: blip}), or remove this term");
  return std::make_shared<LanguageModelTerm>(options, spec);
}

}  // namespace fgvl::losses
