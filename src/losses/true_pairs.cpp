#include "losses/true_pairs.hpp"

#include <algorithm>
#include <unordered_map>
#include <vector>

#include <torch/torch.h>

#include "fgvl/core/boxes.hpp"

namespace fgvl::losses {
namespace {

constexpr std::int64_t kRankStride = std::int64_t{1} << 40;  // more rows than any rank holds
constexpr double kContainmentTolerance = 1e-4;               // of the image side: float32 corners of one box written twice

Tensor host(const Tensor& values) { return values.to(at::kCPU).contiguous(); }

}  // namespace

RowIdentity RowIdentity::gathered(Collective& collective) const {
  if (collective.size() == 1) return *this;
  return {collective.all_gather_rows(row), collective.all_gather_rows(key), collective.all_gather_rows(image), collective.all_gather_rows(boxes)};
}

RowIdentity row_identity(const RegionBatch& batch, const Tensor& rows, const Collective& collective) {
  const std::int64_t offset = collective.rank() * kRankStride;
  return {rows + offset, batch.text_key.index_select(0, rows), batch.text_to_image.index_select(0, rows) + offset,
          cxcywh_to_xyxy(batch.boxes.index_select(0, rows))};
}

RowIdentity text_identity(const Tensor& keys) {
  const Tensor nowhere = at::full_like(keys, -1);
  return {nowhere, keys, nowhere, at::zeros({keys.size(0), 4}, keys.options().dtype(at::kFloat))};
}

RowIdentity joined(const RowIdentity& a, const RowIdentity& b) {
  return {at::cat({a.row, b.row}), at::cat({a.key, b.key}), at::cat({a.image, b.image}), at::cat({a.boxes, b.boxes.to(a.boxes.scalar_type())})};
}

RowIdentity selected(const RowIdentity& identity, const Tensor& index) {
  return {identity.row.index_select(0, index), identity.key.index_select(0, index), identity.image.index_select(0, index), identity.boxes.index_select(0, index)};
}

RowIdentity known_rows(const RegionBatch& batch, Collective& collective) {
  return row_identity(batch, at::arange(batch.text_count(), batch.text_to_image.options()), collective).gathered(collective);
}

Tensor true_texts(const RowIdentity& visuals, const RowIdentity& known, const Tensor& implied_keys) {
  // Lists, on the host: their length is that of the answer, where masks of all pairs would take as much as the similarities.
  const Tensor key = host(visuals.key), image = host(visuals.image), boxes = host(visuals.boxes.to(at::kDouble)), known_key = host(known.key), known_image = host(known.image),
               known_boxes = host(known.boxes.to(at::kDouble));
  std::unordered_map<std::int64_t, std::vector<std::int64_t>> known_of_image, implied_by;
  for (std::int64_t row = 0; row < known_image.size(0); ++row) known_of_image[known_image.const_data_ptr<std::int64_t>()[row]].push_back(row);
  if (implied_keys.defined()) {
    const Tensor pairs = host(implied_keys);
    for (std::int64_t i = 0; i < pairs.size(0); ++i) implied_by[pairs.const_data_ptr<std::int64_t>()[2 * i]].push_back(pairs.const_data_ptr<std::int64_t>()[2 * i + 1]);
  }
  const auto is_inside = [&](std::int64_t inner, std::int64_t outer) {
    const double *in = known_boxes.const_data_ptr<double>() + 4 * inner, *out = boxes.const_data_ptr<double>() + 4 * outer;
    return out[0] <= in[0] + kContainmentTolerance && out[1] <= in[1] + kContainmentTolerance && out[2] >= in[2] - kContainmentTolerance && out[3] >= in[3] - kContainmentTolerance;
  };
  std::vector<std::int64_t> pairs, texts;
  for (std::int64_t visual = 0; visual < key.size(0); ++visual) {
    texts = {key.const_data_ptr<std::int64_t>()[visual]};
    if (const auto rows = known_of_image.find(image.const_data_ptr<std::int64_t>()[visual]); rows != known_of_image.end()) {
      for (const std::int64_t row : rows->second) {
        if (is_inside(row, visual)) texts.push_back(known_key.const_data_ptr<std::int64_t>()[row]);
      }
    }
    const std::size_t stated = texts.size();
    for (std::size_t i = 0; !implied_by.empty() && i < stated; ++i) {
      if (const auto implied = implied_by.find(texts[i]); implied != implied_by.end()) texts.insert(texts.end(), implied->second.begin(), implied->second.end());
    }
    std::sort(texts.begin(), texts.end());
    texts.erase(std::unique(texts.begin(), texts.end()), texts.end());
    for (const std::int64_t text : texts) pairs.insert(pairs.end(), {visual, text});
  }
  return torch::tensor(pairs, torch::kLong).view({-1, 2}).to(visuals.key.device());
}

Tensor text_is_true_of(const RowIdentity& visuals, const RowIdentity& texts, const RowIdentity& known, const Tensor& implied_keys) {
  // A column a distinct text, and then each text's column.
  const auto [distinct, column] = at::_unique(texts.key, /*sorted=*/true, /*return_inverse=*/true);
  Tensor said = at::zeros({visuals.key.size(0), distinct.size(0)}, visuals.key.options().dtype(at::kBool));
  if (distinct.size(0) == 0) return said;
  const Tensor pairs = true_texts(visuals, known, implied_keys);
  const Tensor place = at::searchsorted(distinct, pairs.select(1, 1).contiguous()).clamp_max(distinct.size(0) - 1);
  const Tensor present = (distinct.index_select(0, place) == pairs.select(1, 1)).nonzero().squeeze(1);
  said.index_put_({pairs.select(1, 0).index_select(0, present), place.index_select(0, present)}, at::ones({}, said.options()));
  return said.index_select(1, column);
}

PairRules pair_rules(const RowIdentity& visuals, const RowIdentity& texts, const RowIdentity& known, const Tensor& implied_keys, bool equal_is_positive) {
  if (!known.row.defined()) return {visuals.row, texts.row, {}, {}, {}, {}};
  return {equal_is_positive ? visuals.key : visuals.row, equal_is_positive ? texts.key : texts.row, at::arange(visuals.key.size(0), visuals.key.options()), texts.key, {},
          true_texts(visuals, known, implied_keys)};
}

}  // namespace fgvl::losses
