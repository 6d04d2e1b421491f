#include "fgvl/losses/masked_language.hpp"

#include <torch/torch.h>

#include "core/linear.hpp"
#include "losses/require_fusion.hpp"
#include "losses/word_head.hpp"

namespace fgvl::losses {
namespace {

constexpr std::int64_t kIgnoredLabel = -100;

/// BERT's prediction head under its official names: transform.dense, transform.LayerNorm, bias, and decoder where it has its own.
class MaskedLanguageTerm final : public LossTerm, public WordPredictor {
 public:
  MaskedLanguageTerm(const MaskedLanguageOptions& options, const FeatureSpec& spec) : rows_(options.rows), head_(*this, spec) {
    if (options.decoder == WordDecoder::kOwn) decoder_ = register_module("decoder", Linear(torch::nn::LinearOptions(spec.fusion_width, spec.vocab_size).bias(false)));
  }

  Tensor word_logits(const Tensor& tokens, const Tensor& word_embedding) override {
    return head_.logits(tokens, decoder_ ? decoder_->weight : word_embedding);
  }

  Loss forward(ForwardPass& pass) override {
    const RegionBatch& batch = pass.batch();
    TORCH_CHECK(batch.masked_ids.defined(), "[masked_language] batch.masked_ids: required, but undefined; switch masking on in the data, or remove this term");
    const Tensor valid_slots = batch.masked_labels != kIgnoredLabel;
    const Tensor rows = rows_where(batch, rows_condition(batch, rows_, valid_slots.any(1)));
    if (rows.size(0) == 0) return Loss().part("", 1.0, head_.zero(), 0);
    const Tensor valid = valid_slots.index_select(0, rows), labels = batch.masked_labels.index_select(0, rows).index({valid});
    const Tensor fused = pass.fuse({.text = TextInput::kMasked, .text_index = rows, .visual = VisualInput::kRegion, .visual_index = rows,
                                    .positions = batch.masked_positions.index_select(0, rows)});
    const Tensor sum = at::cross_entropy_loss(word_logits(fused.index({valid}), pass.word_embedding()), labels, {}, at::Reduction::Sum);
    return Loss().part("", 1.0, sum, static_cast<double>(labels.size(0)));
  }

 private:
  Rows rows_;
  WordHead head_;
  Linear decoder_{nullptr};
};

}  // namespace

config::EnumNames<WordDecoder> enum_names(WordDecoder) { return {{WordDecoder::kTied, "tied"}, {WordDecoder::kOwn, "own"}}; }

void visit_fields(config::Visitor& visitor, MaskedLanguageOptions& options) {
  visitor("rows", options.rows, "texts of the batch that take part");
  visitor("decoder", options.decoder, "from tokens to words: tied to the word embeddings, as BERT; or a matrix of its own, as X2-VLM with separate encoders");
}

LossTermPtr make_term(const MaskedLanguageOptions& options, const FeatureSpec& spec) {
  require_fusion(spec, "masked_language");
  return std::make_shared<MaskedLanguageTerm>(options, spec);
}

}  // namespace fgvl::losses
