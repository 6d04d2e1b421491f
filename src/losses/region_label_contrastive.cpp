#include "fgvl/losses/region_label_contrastive.hpp"

#include <unordered_set>
#include <vector>

#include <torch/torch.h>

#include "fgvl/losses/tiled_contrastive.hpp"
#include "losses/true_pairs.hpp"

namespace fgvl::losses {
namespace {

/// [U] int64: the first row of every distinct key, ascending.
Tensor first_of_each(const Tensor& keys) {
  const Tensor host = keys.to(at::kCPU).contiguous();
  const std::int64_t* key = host.const_data_ptr<std::int64_t>();
  std::unordered_set<std::int64_t> seen;
  std::vector<std::int64_t> rows;
  for (std::int64_t row = 0; row < host.numel(); ++row) {
    if (seen.insert(key[row]).second) rows.push_back(row);
  }
  return torch::tensor(rows, torch::kLong).to(keys.device());
}

class RegionLabelContrastiveTerm final : public LossTerm, public TemperatureSource {
 public:
  explicit RegionLabelContrastiveTerm(const RegionLabelContrastiveOptions& options)
      : options_(options), temperature_(register_module("temperature", std::make_shared<Temperature>(options.temperature))) {}

  Tensor divisor() override { return temperature_->divisor(); }

  Loss forward(ForwardPass& pass) override {
    const RegionBatch& batch = pass.batch();
    const Tensor rows = rows_where(batch, batch.is_region);
    Collective& collective = pass.collective();
    const Tensor region = pass.regions().features.index_select(0, rows), text = pass.text().features.index_select(0, rows);
    const Tensor temperature = divisor().to(region.scalar_type());
    const RowIdentity own = row_identity(batch, rows, collective), all = own.gathered(collective), known = known_rows(batch, collective);
    const Tensor weight = batch.text_weight.defined() ? batch.text_weight.index_select(0, rows).to(region.scalar_type()) : at::ones({rows.size(0)}, region.options());

    // Every distinct text once; the rank that holds its first row owns it in the direction text -> region.
    const Tensor distinct = first_of_each(all.key);
    const RowIdentity texts = selected(all, distinct);
    const Tensor all_text = collective.all_gather_rows(text).index_select(0, distinct);

    // Region -> text: also labels that no region of the batch bears.
    RowIdentity choices = texts;
    Tensor choice_features = all_text;
    if (batch.label_key.defined() && batch.label_key.size(0) > 0) {
      const Tensor unseen = at::isin(batch.label_key, texts.key).logical_not().nonzero().squeeze(1);
      choices = joined(texts, text_identity(batch.label_key.index_select(0, unseen)));
      choice_features = at::cat({all_text, pass.label_text().features.index_select(0, unseen)});
    }
    const Tensor to_text = weight * tiled_contrastive({.queries = region, .keys = choice_features, .temperature = temperature, .pairs = rules(own, choices, known, batch.implied_keys)}).to_keys;

    // Text -> region.
    const Tensor owned = at::isin(texts.row, own.row).nonzero().squeeze(1);
    const Tensor owned_weight = collective.all_gather_rows(weight).index_select(0, distinct.index_select(0, owned));
    const Tensor all_region = collective.all_gather_rows(region);
    const PairRules transposed = rules(all, selected(texts, owned), known, batch.implied_keys).transposed();
    const Tensor to_region = owned_weight * tiled_contrastive({.queries = all_text.index_select(0, owned), .keys = all_region, .temperature = temperature, .pairs = transposed}).to_keys;
    return Loss().part("to_text", 0.5, to_text.sum(), weight.sum().item<double>()).part("to_region", 0.5, to_region.sum(), owned_weight.sum().item<double>());
  }

 private:
  PairRules rules(const RowIdentity& regions, const RowIdentity& texts, const RowIdentity& known, const Tensor& implied_keys) const {
    PairRules rules = pair_rules(regions, texts, known, implied_keys, /*equal_is_positive=*/true);
    // A region's own text and what follows from it: what is true of it where nothing else of its picture is known.
    if (options_.implied == Implied::kPositive && implied_keys.defined()) rules.positive = true_texts(regions, selected(known, known.row.slice(0, 0, 0)), implied_keys);
    return rules;
  }

  RegionLabelContrastiveOptions options_;
  std::shared_ptr<Temperature> temperature_;
};

}  // namespace

config::EnumNames<Implied> enum_names(Implied) { return {{Implied::kPositive, "positive"}, {Implied::kIgnored, "ignored"}}; }

void visit_fields(config::Visitor& visitor, RegionLabelContrastiveOptions& options) {
  visitor("temperature", options.temperature, "of the softmax");
  visitor("implied", options.implied, "what a text that a region's own implies (data.labels.parents) is to the region");
}

LossTermPtr make_term(const RegionLabelContrastiveOptions& options, const FeatureSpec&) { return std::make_shared<RegionLabelContrastiveTerm>(options); }

}  // namespace fgvl::losses
