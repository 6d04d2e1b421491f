#include "models/bundles.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

namespace fgvl::models {
namespace {

constexpr std::int64_t kLargestSize = 16;
constexpr std::int64_t kSequenceCost = 4;  // copying the keys and values of a sequence, forth and back, in units of the attention of one short text: measured

/// Bundles that hold `counts[s]` pairs of every sequence s.
std::int64_t bundle_count(const std::vector<std::int64_t>& counts, std::int64_t size) {
  return std::accumulate(counts.begin(), counts.end(), std::int64_t{0}, [&](std::int64_t sum, std::int64_t count) { return sum + (count + size - 1) / size; });
}

std::int64_t best_size(const std::vector<std::int64_t>& counts) {
  std::int64_t best = 1, least = std::numeric_limits<std::int64_t>::max();
  for (std::int64_t size = 1; size <= kLargestSize; ++size) {
    const std::int64_t cost = bundle_count(counts, size) * (size + kSequenceCost);
    if (cost < least) {
      least = cost;
      best = size;
    }
  }
  return best;
}

}  // namespace

Tensor Bundles::gather(const Tensor& of_pairs) const {
  std::vector<std::int64_t> shape = of_pairs.sizes().vec();
  shape[0] = sequence.size(0);
  shape.insert(shape.begin() + 1, size);
  return of_pairs.index_select(0, slot_to_pair).view(shape);
}

Bundles make_bundles(const Tensor& sequence_index) {
  const Tensor host = sequence_index.to(at::kCPU).contiguous();
  const std::int64_t* index = host.const_data_ptr<std::int64_t>();
  const std::int64_t pairs = host.numel(), sequences = pairs == 0 ? 0 : *std::max_element(index, index + pairs) + 1;
  std::vector<std::int64_t> counts(static_cast<std::size_t>(sequences), 0);
  for (std::int64_t n = 0; n < pairs; ++n) ++counts[static_cast<std::size_t>(index[n])];

  Bundles bundles;
  bundles.size = best_size(counts);
  std::vector<std::int64_t> order(static_cast<std::size_t>(pairs)), sequence, slot_to_pair, pair_to_slot(order.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) { return index[a] < index[b]; });
  for (const std::int64_t pair : order) {
    const std::int64_t own = index[pair], slots = static_cast<std::int64_t>(slot_to_pair.size()), used = slots % bundles.size;
    if (used != 0 && sequence.back() != own) slot_to_pair.resize(static_cast<std::size_t>(slots - used + bundles.size), slot_to_pair[static_cast<std::size_t>(slots - used)]);
    if (slot_to_pair.size() % static_cast<std::size_t>(bundles.size) == 0) sequence.push_back(own);
    pair_to_slot[static_cast<std::size_t>(pair)] = static_cast<std::int64_t>(slot_to_pair.size());
    slot_to_pair.push_back(pair);
  }
  const std::int64_t total = static_cast<std::int64_t>(sequence.size()) * bundles.size;
  if (pairs > 0) {
    const std::size_t first = static_cast<std::size_t>(total - bundles.size);
    slot_to_pair.resize(static_cast<std::size_t>(total), slot_to_pair[first]);
  }
  for (std::size_t c = 0; c < sequence.size(); ++c) bundles.in_order = (c == 0 || bundles.in_order) && sequence[c] == static_cast<std::int64_t>(c);
  const auto on_device = [&](const std::vector<std::int64_t>& values) { return torch::tensor(values, at::kLong).to(sequence_index.device()); };
  bundles.sequence = on_device(sequence);
  bundles.slot_to_pair = on_device(slot_to_pair);
  bundles.pair_to_slot = on_device(pair_to_slot);
  return bundles;
}

}  // namespace fgvl::models
