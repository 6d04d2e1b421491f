#include "fgvl/losses/matching.hpp"

#include <charconv>
#include <optional>
#include <vector>

#include <torch/torch.h>

#include "core/linear.hpp"
#include "core/mlp_head.hpp"
#include "fgvl/losses/temperature.hpp"
#include "losses/foil_rows.hpp"
#include "losses/require_fusion.hpp"
#include "losses/true_pairs.hpp"

namespace fgvl::losses {
namespace {

/// The whole of `text` as a number.
std::optional<double> as_number(const std::string& text) {
  double number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  return parsed.ec == std::errc() && parsed.ptr == text.data() + text.size() ? std::optional(number) : std::nullopt;
}

/// Negative pairs: texts, as the rows that `texts` counts, against visuals of this rank.
struct NegativePairs {
  TextInput texts = TextInput::kText;
  Tensor text_index{}, visual_index{};  ///< [N] int64
};

/// Where this rank's rows stand among those of all ranks.
struct Place {
  std::int64_t first = 0, total = 0;  ///< of the rows that the term uses
  std::int64_t first_text = 0;        ///< of all texts
};

Place place_of(const Tensor& rows, std::int64_t texts, Collective& collective) {
  if (collective.size() == 1) return {0, rows.size(0), 0};
  const Tensor counts = collective.all_gather_rows(torch::tensor({{rows.size(0), texts}}, rows.options())).to(at::kCPU), before = counts.slice(0, 0, collective.rank()).sum(0);
  return {before[0].item<std::int64_t>(), counts.select(1, 0).sum().item<std::int64_t>(), before[1].item<std::int64_t>()};
}

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
    const Tensor rows = rows_where(batch, rows_condition(batch, options_.rows));
    const std::int64_t count = rows.size(0);
    Tensor first_tokens = pass.matched().index_select(0, rows);
    const NegativePairs pairs = negative_pairs(pass, rows);
    std::int64_t negatives = pairs.text_index.size(0);
    // Texts of all ranks are asked for even where none of them is a negative of this rank: the others wait for its own.
    if (negatives > 0 || pairs.texts == TextInput::kAllRanks) {
      const Tensor positions = at::zeros({negatives, 1}, rows.options());
      const Tensor fused = pass.fuse({.text = pairs.texts, .text_index = pairs.text_index, .visual = VisualInput::kRegion, .visual_index = pairs.visual_index, .positions = positions});
      first_tokens = at::cat({first_tokens, fused.select(1, 0)});
    }
    if (const Tensor foils = options_.foils ? foils_of(batch, rows) : Tensor(); foils.defined() && foils.size(0) > 0) {
      first_tokens = at::cat({first_tokens, fused_foils(pass, foils)});
      negatives += foils.size(0);
    }
    const Tensor labels = at::cat({at::ones({count}, rows.options()), at::zeros({negatives}, rows.options())});
    const Tensor sum = at::cross_entropy_loss(pair_logits(first_tokens), labels, {}, at::Reduction::Sum);
    return Loss().part("", 1.0, sum, static_cast<double>(count + negatives));
  }

 private:
  /// First a negative visual for each text, then a negative text for each visual.
  NegativePairs negative_pairs(ForwardPass& pass, const Tensor& rows) {
    const RegionBatch& batch = pass.batch();
    if (options_.given.visual_for_text.defined() || options_.given.text_for_visual.defined()) return given_pairs(batch, rows);
    Collective& collective = pass.collective();
    const bool everywhere = options_.negatives_from == NegativesFrom::kAllRanks && collective.size() > 1;
    const RowIdentity own = row_identity(batch, rows, collective), all = everywhere ? own.gathered(collective) : own;
    const Similarities similarity = similarities(pass, rows, all.row.size(0), everywhere);
    torch::NoGradGuard guard;
    const RowIdentity known = options_.reference ? RowIdentity{} : known_rows(batch, collective);
    const Tensor excluded_texts = true_pairs(own, all, known, batch.implied_keys), excluded_visuals = (everywhere ? true_pairs(all, own, known, batch.implied_keys) : excluded_texts).t();
    const Place place = place_of(rows, batch.text_count(), collective);
    Generator generator = pass.generator(draws());
    const Tensor visual_of_text = draw(similarity.to_visual, excluded_visuals, place, generator), text_of_visual = draw(similarity.to_text, excluded_texts, place, generator);
    if (everywhere) return pairs_here(rows, place, visual_of_text, text_of_visual, collective);
    const Tensor texts = found(visual_of_text), visuals = found(text_of_visual);
    return {TextInput::kText, at::cat({rows.index_select(0, texts), rows.index_select(0, text_of_visual.index_select(0, visuals))}),
            at::cat({rows.index_select(0, visual_of_text.index_select(0, texts)), rows.index_select(0, visuals)})};
  }

  /// Of the pairs that all ranks drew, those with a visual of this rank. `visual_of_text`, `text_of_visual` [N]: what was drawn for its own rows, as places among the rows of all ranks; -1: nothing.
  static NegativePairs pairs_here(const Tensor& rows, const Place& place, const Tensor& visual_of_text, const Tensor& text_of_visual, Collective& collective) {
    const Tensor text_index = collective.all_gather_rows(rows + place.first_text);  // [total]: the text that stands at a place
    const Tensor own_visual = collective.all_gather_rows(visual_of_text) - place.first;
    const Tensor texts = own_visual.ge(0).logical_and(own_visual < rows.size(0)).nonzero().squeeze(1), visuals = found(text_of_visual);
    return {TextInput::kAllRanks, at::cat({text_index.index_select(0, texts), text_index.index_select(0, text_of_visual.index_select(0, visuals))}),
            at::cat({rows.index_select(0, own_visual.index_select(0, texts)), rows.index_select(0, visuals)})};
  }

  /// [N, M] each, in float32 and divided by the temperature: of this rank's N rows to the M rows among which negatives are drawn.
  struct Similarities {
    Tensor to_text{}, to_visual{};
  };
  Similarities similarities(ForwardPass& pass, const Tensor& rows, std::int64_t candidates, bool everywhere) {
    if (options_.negatives == Negatives::kUniform) {
      const Tensor none = at::zeros({rows.size(0), candidates}, rows.options().dtype(at::kFloat));
      return {none, none};
    }
    // Asked for with gradients on, because the pass keeps what it makes and other terms need the gradient.
    ForwardPass& keys = options_.similarity == Similarity::kMomentum ? pass.momentum() : pass;
    const Tensor visual = pass.regions().features, text = pass.text().features, visual_keys = keys.regions().features, text_keys = keys.text().features;
    torch::NoGradGuard guard;
    const Tensor divisor = (fixed_temperature_ ? torch::tensor(*fixed_temperature_, visual.options()) : temperature_->divisor()).to(at::kFloat);
    const auto to = [&](const Tensor& queries, const Tensor& features) {
      Tensor candidates_of = features.index_select(0, rows);
      if (everywhere) candidates_of = pass.collective().all_gather_rows(candidates_of);
      return at::matmul(queries.index_select(0, rows), candidates_of.t()).to(at::kFloat) / divisor;
    };
    return {to(visual, text_keys), to(text, visual_keys)};
  }

  /// Terms on different rows draw for themselves.
  const char* draws() const { return options_.rows == Rows::kAll ? "matching.negatives" : options_.rows == Rows::kImage ? "matching.negatives.image" : "matching.negatives.region"; }

  /// [N, M] bool: which texts are no negatives of which visuals.
  Tensor true_pairs(const RowIdentity& visuals, const RowIdentity& texts, const RowIdentity& known, const Tensor& implied_keys) const {
    return options_.reference ? visuals.row.unsqueeze(1) == texts.row.unsqueeze(0) : text_is_true_of(visuals, texts, known, implied_keys);
  }

  /// Those of the caller, for the rows that this term may use.
  NegativePairs given_pairs(const RegionBatch& batch, const Tensor& rows) const {
    const auto of_rows = [&](const Tensor& given, const char* name) {
      TORCH_CHECK(given.defined() && given.dim() == 1 && given.size(0) == batch.text_count(), "[matching] given.", name, ": expected [T] with T = ", batch.text_count(), ", got ",
                  given.defined() ? c10::str(given.sizes()) : "nothing");
      return given.to(rows.device()).index_select(0, rows);
    };
    return {TextInput::kText, at::cat({rows, of_rows(options_.given.text_for_visual, "text_for_visual")}), at::cat({of_rows(options_.given.visual_for_text, "visual_for_text"), rows})};
  }

  /// [N] what is drawn for each of this rank's rows, -1 where nothing can be. The numbers belong to the rows' places among those of all ranks, so that as many processes as one likes draw the same.
  Tensor draw(const Tensor& similarity, const Tensor& excluded, const Place& place, Generator& generator) const {
    const Tensor weights = (at::softmax(similarity, 1) + options_.floor).masked_fill(excluded, 0.0);
    std::vector<double> uniform(static_cast<std::size_t>(place.total));
    for (double& value : uniform) value = generator.uniform();
    return draw_columns(weights, torch::tensor(uniform, torch::kFloat64).slice(0, place.first, place.first + similarity.size(0)).to(similarity.device()));
  }
  static Tensor found(const Tensor& drawn) { return (drawn >= 0).nonzero().squeeze(1); }

  MatchingOptions options_;
  std::optional<double> fixed_temperature_;
  std::shared_ptr<MlpHead> mlp_;  // one of the two
  Linear linear_{nullptr};
  LossTermPtr temperature_owner_;
  TemperatureSource* temperature_ = nullptr;
};

}  // namespace

config::EnumNames<Negatives> enum_names(Negatives) { return {{Negatives::kHard, "hard"}, {Negatives::kUniform, "uniform"}}; }
config::EnumNames<Similarity> enum_names(Similarity) { return {{Similarity::kLive, "live"}, {Similarity::kMomentum, "momentum"}}; }
config::EnumNames<NegativesFrom> enum_names(NegativesFrom) { return {{NegativesFrom::kRank, "rank"}, {NegativesFrom::kAllRanks, "all_ranks"}}; }
config::EnumNames<MatchingHead> enum_names(MatchingHead) { return {{MatchingHead::kMlp, "mlp"}, {MatchingHead::kLinear, "linear"}}; }

void visit_fields(config::Visitor& visitor, MatchingOptions& options) {
  visitor("rows", options.rows, "texts of the batch that take part");
  visitor("negatives", options.negatives, "hard: drawn by similarity; uniform: all alike");
  visitor("temperature", options.temperature, "of the draw: a number, or the name of a contrastive term");
  visitor("floor", options.floor, "added to the weights of hard negatives: 1e-5 in X-VLM, 1e-4 in BLIP, 0 in ALBEF", config::kFraction);
  visitor("similarity", options.similarity, "that hard negatives are drawn by: of live features, or of live ones to the momentum encoders', as ALBEF and BLIP");
  visitor("negatives_from", options.negatives_from, "rank: negatives are drawn among a rank's own texts and visuals, as all references; all_ranks: among those of all");
  visitor("foils", options.foils, "the foils that the batch carries are further negatives");
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
  TORCH_CHECK(options.floor >= 0, "[matching] floor: expected a number of at least 0, got ", options.floor);
  TORCH_CHECK(options.similarity == Similarity::kLive || spec.momentum, "[matching] similarity: momentum needs a model with momentum encoders (model.momentum)");
  return std::make_shared<MatchingTerm>(options, spec);
}

}  // namespace fgvl::losses
