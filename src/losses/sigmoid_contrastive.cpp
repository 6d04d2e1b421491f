#include "fgvl/losses/sigmoid_contrastive.hpp"

#include <algorithm>

#include <torch/torch.h>

#include "fgvl/losses/tiled_contrastive.hpp"
#include "losses/true_pairs.hpp"

namespace fgvl::losses {
namespace {

class SigmoidContrastiveTerm final : public LossTerm, public TemperatureSource {
 public:
  explicit SigmoidContrastiveTerm(const SigmoidContrastiveOptions& options) : options_(options), temperature_(register_module("temperature", std::make_shared<Temperature>(options.temperature))) {
    const Tensor start = torch::tensor(options.bias, torch::kFloat32);
    bias_ = options.learn_bias ? register_parameter("logit_bias", start) : register_buffer("logit_bias", start);
  }

  Tensor divisor() override { return temperature_->divisor(); }

  Loss forward(ForwardPass& pass) override {
    const RegionBatch& batch = pass.batch();
    const Tensor rows = rows_where(batch, rows_condition(batch, options_.rows));
    Collective& collective = pass.collective();
    const Tensor visual = pass.regions().features.index_select(0, rows), text = pass.text().features.index_select(0, rows);
    const RowIdentity own = row_identity(batch, rows, collective), known = options_.reference ? RowIdentity{} : known_rows(batch, collective);
    // Every rank judges its own visuals with the texts of all ranks: each pair once.
    const PairRules pairs = pair_rules(own, own.gathered(collective), known, batch.implied_keys, options_.same_text == SameText::kPositive);
    const Tensor scale = divisor().to(visual.scalar_type()).reciprocal();
    const Tensor sum = tiled_sigmoid({.queries = visual, .keys = collective.all_gather_rows(text), .scale = scale, .bias = bias_.to(visual.scalar_type()), .pairs = pairs});
    return Loss().part("", 1.0, sum, static_cast<double>(rows.size(0)));
  }

 private:
  SigmoidContrastiveOptions options_;
  std::shared_ptr<Temperature> temperature_;
  Tensor bias_;
};

}  // namespace

void visit_fields(config::Visitor& visitor, SigmoidContrastiveOptions& options) {
  visitor("rows", options.rows, "texts of the batch that take part");
  visitor("same_text", options.same_text, "what rows of equal text are to one another");
  visitor("temperature", options.temperature, "by which similarities are divided");
  visitor("bias", options.bias, "added to every logit, at the start");
  visitor("learn_bias", options.learn_bias, "train it");
  visitor("reference", options.reference, "as open_clip: every pair but a row's own is a negative");
}

Tensor sigmoid_contrastive(const Tensor& visual, const Tensor& text, const Tensor& scale, const Tensor& bias) {
  TORCH_CHECK(visual.dim() == 2 && visual.sizes() == text.sizes(), "[sigmoid_contrastive] visual, text: expected two [N, E], got ", visual.sizes(), " and ", text.sizes());
  const std::int64_t rows = visual.size(0);
  return tiled_sigmoid({.queries = visual, .keys = text, .scale = scale, .bias = bias, .pairs = PairRules::diagonal(rows, visual.device())}) / std::max<std::int64_t>(rows, 1);
}

LossTermPtr make_term(const SigmoidContrastiveOptions& options, const FeatureSpec&) { return std::make_shared<SigmoidContrastiveTerm>(options); }

}  // namespace fgvl::losses
