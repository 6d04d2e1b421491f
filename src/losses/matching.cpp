#include "fgvl/losses/matching.hpp"

#include <charconv>
#include <optional>
#include <vector>

#include <torch/torch.h>

#include "core/linear.hpp"
#include "core/mlp_head.hpp"
#include "fgvl/losses/temperature.hpp"
#include "losses/require_fusion.hpp"
#include "losses/true_pairs.hpp"

namespace fgvl::losses {
namespace {

constexpr double kWeightFloor = 1e-5;  // added after the softmax, as X-VLM: without it, sharp similarities leave no weight at all

/// The whole of `text` as a number.
std::optional<double> as_number(const std::string& text) {
  double number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  return parsed.ec == std::errc() && parsed.ptr == text.data() + text.size() ? std::optional(number) : std::nullopt;
}

/// Row indices where a draw succeeded, and what was drawn.
struct Drawn {
  Tensor rows{}, columns{};
};

class MatchingTerm final : public LossTerm, public PairScorer {
 public:
  MatchingTerm(const MatchingOptions& options, const FeatureSpec& spec)
      : options_(options), fixed_temperature_(as_number(options.temperature)) {
    if (options.head == MatchingHead::kMlp) {
      mlp_ = register_module("itm_head", std::make_shared<MlpHead>(spec.fusion_width, 2, spec.head_layer_norm_eps));
    } else {
      linear_ = register_module("itm_head", Linear(spec.fusion_width, 2));
    }
    TORCH_CHECK(!fixed_temperature_ || *fixed_temperature_ > 0, "[matching] temperature: expected a positive number or the name of a contrastive term, got ", options.temperature);
  }

  void connect(const TermLookup& terms) override {
    if (fixed_temperature_) return;
    temperature_owner_ = terms.find(options_.temperature);
    temperature_ = dynamic_cast<TemperatureSource*>(temperature_owner_.get());
    TORCH_CHECK(temperature_ != nullptr, "[matching] temperature: '", options_.temperature,
                "' is neither a number nor the name of a term with a temperature in this criterion; add that term, or give a number");
  }

  Tensor pair_logits(const Tensor& first_token) override { return mlp_ ? mlp_->forward(first_token) : linear_(first_token); }

  Loss forward(ForwardPass& pass) override {
    const RegionBatch& batch = pass.batch();
    const Tensor rows = rows_where(batch);
    const std::int64_t count = rows.size(0);
    Tensor first_tokens = pass.matched().index_select(0, rows);
    const auto [text_index, visual_index] = negative_pairs(pass, rows);
    const std::int64_t negatives = text_index.size(0);
    if (negatives > 0) {
      const Tensor positions = at::zeros({negatives, 1}, text_index.options());
      const Tensor fused = pass.fuse({.text = TextInput::kText, .text_index = text_index, .visual = VisualInput::kRegion, .visual_index = visual_index, .positions = positions});
      first_tokens = at::cat({first_tokens, fused.select(1, 0)});
    }
    const Tensor labels = at::cat({at::ones({count}, rows.options()), at::zeros({negatives}, rows.options())});
    const Tensor sum = at::cross_entropy_loss(pair_logits(first_tokens), labels, {}, at::Reduction::Sum);
    return Loss().part("", 1.0, sum, static_cast<double>(count + negatives));
  }

 private:
  /// The negative pairs (text, visual), both as rows of the batch: first a negative visual for each text, then a negative text for each visual.
  std::pair<Tensor, Tensor> negative_pairs(ForwardPass& pass, const Tensor& rows) {
    const RegionBatch& batch = pass.batch();
    if (options_.given.visual_for_text.defined() || options_.given.text_for_visual.defined()) return given_pairs(batch, rows);
    Tensor similarity;  // [visual, text]
    if (options_.negatives == Negatives::kHard) {
      // Asked for with gradients on, because the pass keeps what it makes and other terms need the gradient.
      const Tensor visual = pass.regions().features, text = pass.text().features;
      torch::NoGradGuard guard;
      const Tensor divisor = fixed_temperature_ ? torch::tensor(*fixed_temperature_, visual.options()) : temperature_->divisor();
      similarity = at::matmul(visual.index_select(0, rows), text.index_select(0, rows).t()).to(at::kFloat) / divisor.to(at::kFloat);
    } else {
      similarity = at::zeros({rows.size(0), rows.size(0)}, batch.boxes.options());
    }
    torch::NoGradGuard guard;
    const RowIdentity identity = row_identity(batch, rows, pass.collective());
    const Tensor excluded = options_.reference ? at::eye(rows.size(0), batch.is_region.options()) : text_is_true_of(identity, identity, known_rows(batch, pass.collective()));
    Generator generator = pass.generator("matching.negatives");
    const Drawn visuals = draw(similarity.t(), excluded.t(), generator), texts = draw(similarity, excluded, generator);
    return {at::cat({rows.index_select(0, visuals.rows), rows.index_select(0, texts.columns)}), at::cat({rows.index_select(0, visuals.columns), rows.index_select(0, texts.rows)})};
  }

  /// Those of the caller, for the rows that this term may use.
  std::pair<Tensor, Tensor> given_pairs(const RegionBatch& batch, const Tensor& rows) const {
    const auto of_rows = [&](const Tensor& given, const char* name) {
      TORCH_CHECK(given.defined() && given.dim() == 1 && given.size(0) == batch.text_count(), "[matching] given.", name, ": expected [T] with T = ", batch.text_count(), ", got ",
                  given.defined() ? c10::str(given.sizes()) : "nothing");
      return given.to(rows.device()).index_select(0, rows);
    };
    return {at::cat({rows, of_rows(options_.given.text_for_visual, "text_for_visual")}), at::cat({of_rows(options_.given.visual_for_text, "visual_for_text"), rows})};
  }

  static Drawn draw(const Tensor& similarity, const Tensor& excluded, Generator& generator) {
    const Tensor weights = (at::softmax(similarity, 1) + kWeightFloor).masked_fill(excluded, 0.0);
    std::vector<double> uniform(static_cast<std::size_t>(similarity.size(0)));
    for (double& value : uniform) value = generator.uniform();
    const Tensor columns = draw_columns(weights, torch::tensor(uniform, torch::kFloat64).to(similarity.device()));
    const Tensor rows = (columns >= 0).nonzero().squeeze(1);
    return {rows, columns.index_select(0, rows)};
  }

  MatchingOptions options_;
  std::optional<double> fixed_temperature_;
  std::shared_ptr<MlpHead> mlp_;  // one of the two
  Linear linear_{nullptr};
  LossTermPtr temperature_owner_;
  TemperatureSource* temperature_ = nullptr;
};

}  // namespace

config::EnumNames<Negatives> enum_names(Negatives) { return {{Negatives::kHard, "hard"}, {Negatives::kUniform, "uniform"}}; }
config::EnumNames<MatchingHead> enum_names(MatchingHead) { return {{MatchingHead::kMlp, "mlp"}, {MatchingHead::kLinear, "linear"}}; }

void visit_fields(config::Visitor& visitor, MatchingOptions& options) {
  visitor("negatives", options.negatives, "hard: drawn by similarity; uniform: all alike");
  visitor("temperature", options.temperature, "of the draw: a number, or the name of a contrastive term");
  visitor("reference", options.reference, "as X-VLM: only a row's own pair is excluded from its negatives");
  visitor("head", options.head, "mlp: with LayerNorm, as X-VLM; linear: one layer, as ALBEF, BLIP and PEVL");
  const std::optional<double> number = as_number(options.temperature);
  visitor.check(!number || *number > 0, "temperature: a number must be above 0");
}

Tensor draw_columns(const Tensor& weights, const Tensor& uniform) {
  TORCH_CHECK(weights.dim() == 2 && uniform.dim() == 1 && uniform.size(0) == weights.size(0), "[draw_columns] expected weights [N, M] and uniform [N], got ", weights.sizes(),
              " and ", uniform.sizes());
  if (weights.size(1) == 0) return at::full({weights.size(0)}, -1, weights.options().dtype(at::kLong));
  const Tensor cumulative = at::nan_to_num(weights.to(at::kDouble), 0.0, 0.0, 0.0).clamp_min(0).cumsum(1);
  const Tensor total = cumulative.select(1, -1);
  // The first column whose cumulative weight exceeds the point: never one of zero weight.
  const Tensor column = (cumulative <= (uniform * total).unsqueeze(1)).sum(1).clamp_max(weights.size(1) - 1);
  return column.masked_fill(total <= 0, -1);
}

LossTermPtr make_term(const MatchingOptions& options, const FeatureSpec& spec) {
  require_fusion(spec, "matching");
  return std::make_shared<MatchingTerm>(options, spec);
}

}  // namespace fgvl::losses
