#include "fgvl/losses/region_label_contrastive.hpp"

#include <unordered_map>
#include <vector>

#include <torch/torch.h>

#include "losses/true_pairs.hpp"

namespace fgvl::losses {
namespace {

/// [U] int64: the first row of every distinct key, ascending.
Tensor first_of_each(const Tensor& keys) {
  const Tensor host = keys.to(at::kCPU).contiguous();
  const std::int64_t* key = host.const_data_ptr<std::int64_t>();
  std::unordered_map<std::int64_t, bool> seen;
  std::vector<std::int64_t> rows;
  for (std::int64_t row = 0; row < host.numel(); ++row) {
    if (seen.emplace(key[row], true).second) rows.push_back(row);
  }
  return torch::tensor(rows, torch::kLong).to(keys.device());
}

/// [N, M] bool: text m follows from text n. `implied` [A, 2]; undefined: nothing does.
Tensor follows_from(const Tensor& keys, const Tensor& others, const Tensor& implied) {
  if (!implied.defined()) return at::zeros({keys.size(0), others.size(0)}, keys.options().dtype(at::kBool));
  // A product, so that no [N, A, M] is made.
  const Tensor from = keys.unsqueeze(1) == implied.select(1, 0).unsqueeze(0), to = implied.select(1, 1).unsqueeze(1) == others.unsqueeze(0);
  return at::matmul(from.to(at::kFloat), to.to(at::kFloat)) > 0;
}

/// What stands for labels that no row bears: true of nothing but by its key.
RowIdentity label_identity(const Tensor& keys) {
  const Tensor nowhere = at::full_like(keys, -1);
  return {nowhere, keys, nowhere, at::zeros({keys.size(0), 4}, keys.options().dtype(at::kFloat))};
}

RowIdentity joined(const RowIdentity& a, const RowIdentity& b) {
  return {at::cat({a.row, b.row}), at::cat({a.key, b.key}), at::cat({a.image, b.image}), at::cat({a.boxes, b.boxes.to(a.boxes.scalar_type())})};
}

RowIdentity selected(const RowIdentity& identity, const Tensor& index) {
  return {identity.row.index_select(0, index), identity.key.index_select(0, index), identity.image.index_select(0, index), identity.boxes.index_select(0, index)};
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
      choices = joined(texts, label_identity(batch.label_key.index_select(0, unseen)));
      choice_features = at::cat({all_text, pass.label_text().features.index_select(0, unseen)});
    }
    const Tensor to_text = weight * multi_positive_cross_entropy(at::matmul(region, choice_features.t()) / temperature, roles(own, choices, known, batch.implied_keys));

    // Text -> region.
    const Tensor owned = at::isin(texts.row, own.row).nonzero().squeeze(1);
    const Tensor owned_weight = collective.all_gather_rows(weight).index_select(0, distinct.index_select(0, owned));
    const Tensor all_region = collective.all_gather_rows(region);
    PairRoles transposed = roles(all, selected(texts, owned), known, batch.implied_keys);
    transposed.positive = transposed.positive.t();
    transposed.ignored = transposed.ignored.t();
    const Tensor to_region = owned_weight * multi_positive_cross_entropy(at::matmul(all_text.index_select(0, owned), all_region.t()) / temperature, transposed);
    return Loss().part("to_text", 0.5, to_text.sum(), weight.sum().item<double>()).part("to_region", 0.5, to_region.sum(), owned_weight.sum().item<double>());
  }

 private:
  PairRoles roles(const RowIdentity& regions, const RowIdentity& texts, const RowIdentity& known, const Tensor& implied) const {
    const Tensor same = regions.key.unsqueeze(1) == texts.key.unsqueeze(0), follows = follows_from(regions.key, texts.key, implied);
    const Tensor positive = options_.implied == Implied::kPositive ? same.logical_or(follows) : same;
    return {positive, text_is_true_of(regions, texts, known).logical_or(follows).logical_and(positive.logical_not())};
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
