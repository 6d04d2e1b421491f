#include "models/length_groups.hpp"

#include <algorithm>
#include <numeric>

namespace fgvl::models {
namespace {

constexpr double kWorthwhile = 0.9;  // of the tokens of one group: below, a second pass over small tensors costs more than it saves

}  // namespace

LengthGroups::LengthGroups(const Tensor& mask) {
  const Tensor host = mask.sum(1).to(at::kCPU).contiguous();
  const std::int64_t* lengths = host.const_data_ptr<std::int64_t>();
  const std::int64_t count = host.numel();
  std::vector<std::int64_t> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) { return lengths[a] < lengths[b]; });
  const auto length_at = [&](std::int64_t i) { return lengths[order[static_cast<std::size_t>(i)]]; };

  // The best place to cut the sorted texts in two.
  std::int64_t cut = 0;
  auto fewest = static_cast<std::int64_t>(kWorthwhile * static_cast<double>(count * mask.size(1)));
  for (std::int64_t i = 1; i < count; ++i) {
    const std::int64_t tokens = i * length_at(i - 1) + (count - i) * mask.size(1);
    if (length_at(i) != length_at(i - 1) && tokens < fewest) {
      fewest = tokens;
      cut = i;
    }
  }
  const auto on_device = [&](const std::vector<std::int64_t>& values) { return torch::tensor(values, at::kLong).to(mask.device()); };
  if (cut == 0) {
    groups_.push_back({Tensor(), mask.size(1)});
    return;
  }
  std::sort(order.begin(), order.begin() + cut);
  std::sort(order.begin() + cut, order.end());
  std::vector<std::int64_t> place(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) place[static_cast<std::size_t>(order[i])] = static_cast<std::int64_t>(i);
  std::int64_t longest = 1;
  for (std::int64_t i = 0; i < cut; ++i) longest = std::max(longest, lengths[order[static_cast<std::size_t>(i)]]);
  groups_.push_back({on_device({order.begin(), order.begin() + cut}), longest});
  groups_.push_back({on_device({order.begin() + cut, order.end()}), mask.size(1)});
  place_ = on_device(place);
}

Tensor LengthGroups::rows_of(const Tensor& of_texts, const Group& group) const {
  return of_texts.defined() && groups_.size() > 1 ? of_texts.index_select(0, group.rows) : of_texts;
}

Tensor LengthGroups::joined_parts(std::vector<Tensor>& parts) const {
  if (parts.size() == 1) return parts[0];
  const std::int64_t length = std::max(parts[0].size(1), parts[1].size(1));
  for (Tensor& part : parts) {
    if (part.size(1) < length) part = at::constant_pad_nd(part, {0, 0, 0, length - part.size(1)});
  }
  return at::cat(parts).index_select(0, place_);
}

}  // namespace fgvl::models
