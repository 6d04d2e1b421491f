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

class RegionLabelContrastiveTerm final : public LossTerm, public TemperatureSource {
 public:
  explicit RegionLabelContrastiveTerm(const RegionLabelContrastiveOptions& options)
      : temperature_(register_module("temperature", std::make_shared<Temperature>(options.temperature))) {}

  Tensor divisor() override { return temperature_->divisor(); }

  Loss forward(ForwardPass& pass) override {
    const RegionBatch& batch = pass.batch();
    const Tensor rows = rows_where(batch, batch.is_region);
    Collective& collective = pass.collective();
    const Tensor region = pass.regions().features.index_select(0, rows), text = pass.text().features.index_select(0, rows);
    const RowIdentity own = row_identity(batch, rows, collective), all = own.gathered(collective);
    const Tensor temperature = divisor().to(region.scalar_type());

    const RowIdentity known = known_rows(batch, collective);
    // Every distinct text once; the rank that holds its first row owns it in the direction text -> region.
    const Tensor distinct = first_of_each(all.key);
    const RowIdentity texts{all.row.index_select(0, distinct), all.key.index_select(0, distinct), all.image.index_select(0, distinct), all.boxes.index_select(0, distinct)};
    const Tensor all_text = collective.all_gather_rows(text).index_select(0, distinct);
    const Tensor to_text = multi_positive_cross_entropy(at::matmul(region, all_text.t()) / temperature, roles(own, texts, known));

    const Tensor owned = at::isin(texts.row, own.row).nonzero().squeeze(1);
    const Tensor all_region = collective.all_gather_rows(region);
    PairRoles transposed = roles(all, texts, known);
    transposed.positive = transposed.positive.t().index_select(0, owned);
    transposed.ignored = transposed.ignored.t().index_select(0, owned);
    const Tensor to_region = multi_positive_cross_entropy(at::matmul(all_text.index_select(0, owned), all_region.t()) / temperature, transposed);
    return Loss().part("to_text", 0.5, to_text.sum(), static_cast<double>(rows.size(0))).part("to_region", 0.5, to_region.sum(), static_cast<double>(owned.size(0)));
  }

 private:
  static PairRoles roles(const RowIdentity& regions, const RowIdentity& texts, const RowIdentity& known) {
    const Tensor positive = regions.key.unsqueeze(1) == texts.key.unsqueeze(0);
    return {positive, text_is_true_of(regions, texts, known).logical_and(positive.logical_not())};
  }

  std::shared_ptr<Temperature> temperature_;
};

}  // namespace

void visit_fields(config::Visitor& visitor, RegionLabelContrastiveOptions& options) { visitor("temperature", options.temperature, "of the softmax"); }

LossTermPtr make_term(const RegionLabelContrastiveOptions& options, const FeatureSpec&) { return std::make_shared<RegionLabelContrastiveTerm>(options); }

}  // namespace fgvl::losses
