#include "fgvl/losses/masked_language.hpp"

#include <torch/torch.h>

#include "core/linear.hpp"
#include "core/moving_average.hpp"
#include "losses/masked_slots.hpp"
#include "losses/require_fusion.hpp"
#include "losses/word_head.hpp"

namespace fgvl::losses {
namespace {

/// BERT's prediction head under its official names: transform.dense, transform.LayerNorm, bias, and decoder where it has its own.
class Head {
 public:
  Head(torch::nn::Module& owner, const MaskedLanguageOptions& options, const FeatureSpec& spec) : words_(owner, spec) {
    if (options.decoder == WordDecoder::kOwn) decoder_ = owner.register_module("decoder", Linear(torch::nn::LinearOptions(spec.fusion_width, spec.vocab_size).bias(false)));
  }

  Tensor logits(const Tensor& tokens, const Tensor& word_embedding) { return words_.logits(tokens, decoder_ ? decoder_->weight : word_embedding); }
  Tensor zero() const { return words_.zero(); }

 private:
  WordHead words_;
  Linear decoder_{nullptr};
};

class MaskedLanguageTerm final : public LossTerm, public WordPredictor {
 public:
  MaskedLanguageTerm(const MaskedLanguageOptions& options, const FeatureSpec& spec) : options_(options), decay_(spec.momentum.value_or(0)), head_(*this, options, spec) {
    if (!options.distillation) return;
    copy_ = register_module("momentum", std::make_shared<torch::nn::Module>());
    copied_head_.emplace(*copy_, options, spec);
    never_train(*copy_);
  }

  Tensor word_logits(const Tensor& tokens, const Tensor& word_embedding) override { return head_.logits(tokens, word_embedding); }

  void update_momentum() override {
    if (copy_) follow(*copy_, *this, decay_);
  }

  Loss forward(ForwardPass& pass) override {
    const RegionBatch& batch = pass.batch();
    const MaskedSlots slots = masked_slots(batch, rows_where(batch, rows_condition(batch, options_.rows, has_masks(batch, "masked_language"))));
    if (slots.labels.size(0) == 0) return Loss().part("", 1.0, head_.zero(), 0);
    const Tensor labels = slots.labels.index({slots.valid});
    const double alpha = copied_head_ ? options_.distillation->alpha.at(pass.step()) : 0.0;
    const bool over_tokens = options_.reference && alpha > 0;  // then a slot's distillation needs the logits of its whole text
    const Tensor of_texts = over_tokens ? logits_of_texts(slots.query, pass) : Tensor();
    const Tensor logits = over_tokens ? at_slots(of_texts, slots) : word_logits(pass.fuse(slots.query).index({slots.valid}), pass.word_embedding());
    Tensor sum = at::cross_entropy_loss(logits, labels, {}, at::Reduction::Sum);
    if (alpha > 0) {
      ForwardPass& momentum = pass.momentum();
      const Tensor soft_targets = copied_head_->logits(momentum.fuse(slots.query).index({slots.valid}), momentum.word_embedding()).detach().softmax(-1);
      const Tensor log_probabilities = over_tokens ? at_slots(at::log_softmax(of_texts, 1), slots) : at::log_softmax(logits, -1);
      sum = (1 - alpha) * sum - alpha * (soft_targets * log_probabilities).sum();
    }
    return Loss().part("", 1.0, sum, static_cast<double>(labels.size(0)));
  }

 private:
  /// [N, L, V]: of every token of the masked texts, padding too.
  Tensor logits_of_texts(FusionQuery query, ForwardPass& pass) {
    query.positions = Tensor();
    return word_logits(pass.fuse(query), pass.word_embedding());
  }

  /// [N, L, V] -> [R, V] at the R slots in use.
  static Tensor at_slots(const Tensor& of_texts, const MaskedSlots& slots) {
    const Tensor& places = slots.query.positions;
    const Tensor text = at::arange(of_texts.size(0), places.options()).unsqueeze(1).expand_as(places);
    return of_texts.index({text.index({slots.valid}), places.index({slots.valid})});
  }

  MaskedLanguageOptions options_;
  double decay_;  ///< FeatureSpec::momentum
  Head head_;
  std::shared_ptr<torch::nn::Module> copy_;  ///< of the head, with distillation
  std::optional<Head> copied_head_;
};

}  // namespace

config::EnumNames<WordDecoder> enum_names(WordDecoder) { return {{WordDecoder::kTied, "tied"}, {WordDecoder::kOwn, "own"}}; }

void visit_fields(config::Visitor& visitor, MaskedLanguageOptions& options) {
  visitor("rows", options.rows, "texts of the batch that take part");
  visitor("decoder", options.decoder, "from tokens to words: tied to the word embeddings, as BERT; or a matrix of its own, as X2-VLM with separate encoders");
  visitor("distillation", options.distillation, "targets are in part the momentum encoders' own softmax (momentum distillation), as ALBEF: {alpha: 0.4}, or a schedule of it; null: none. Needs model.momentum");
  visitor("reference", options.reference, "distil as PEVL: each word's softmax runs over the tokens of a text, padding included, instead of each token's over words. Needs model.at_padding");
}

void visit_fields(config::Visitor& visitor, DistillationOptions& options) {
  visitor("alpha", options.alpha, "that part", config::kFraction);
}

LossTermPtr make_term(const MaskedLanguageOptions& options, const FeatureSpec& spec) {
  require_fusion(spec, "masked_language");
  TORCH_CHECK(spec.momentum || !options.distillation, "[masked_language] distillation: learns from momentum encoders, and this model has none; add model.momentum, or remove it");
  TORCH_CHECK(!options.distillation || (options.distillation->alpha.min() >= 0 && options.distillation->alpha.max() <= 1), "[masked_language] distillation.alpha: expected shares in [0, 1], got ",
              options.distillation->alpha.words());
  TORCH_CHECK(!options.reference || spec.at_padding, "[masked_language] reference: PEVL's distillation reads fused tokens at padding, which this model leaves out; set model.at_padding: true, or remove it");
  return std::make_shared<MaskedLanguageTerm>(options, spec);
}

}  // namespace fgvl::losses
