#include "losses/pair_table.hpp"

#include <algorithm>
#include <array>
#include <numeric>
#include <unordered_map>

#include <torch/torch.h>

namespace fgvl::losses {
namespace {

std::vector<std::int64_t> host_ids(const Tensor& values) {
  const Tensor copy = values.to(at::kCPU).contiguous();
  return {copy.const_data_ptr<std::int64_t>(), copy.const_data_ptr<std::int64_t>() + copy.numel()};
}

void check_ids(const Tensor& ids, std::int64_t count, const char* where, const char* field) {
  TORCH_CHECK(ids.defined() && ids.dim() == 1 && ids.size(0) == count && ids.scalar_type() == at::kLong, "[", where, "] pairs.", field, ": expected [", count, "] int64, got ",
              ids.defined() ? c10::str(ids.sizes(), " ", ids.scalar_type()) : "nothing");
}

void check_pairs(const Tensor& pairs, const char* where, const char* field) {
  TORCH_CHECK(!pairs.defined() || (pairs.dim() == 2 && pairs.size(1) == 2 && pairs.scalar_type() == at::kLong), "[", where, "] pairs.", field, ": expected [A, 2] int64, got ", pairs.sizes(), " ",
              pairs.scalar_type());
}

/// Indices 0 .. n - 1 in the order of their values, equal values ascending, and where each value's indices stand.
template <class Range>
std::vector<std::int64_t> sorted_by(const std::vector<std::int64_t>& values, std::unordered_map<std::int64_t, Range>& ranges) {
  std::vector<std::int64_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  const auto value = [&](std::int64_t index) { return values[static_cast<std::size_t>(index)]; };
  std::sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) { return value(a) != value(b) ? value(a) < value(b) : a < b; });
  ranges.reserve(values.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    const auto [range, first] = ranges.try_emplace(value(order[i]), Range{static_cast<std::int64_t>(i), 0});
    range->second.end = static_cast<std::int64_t>(i) + 1;
  }
  return order;
}

}  // namespace

PairRules PairRules::transposed() const {
  const auto swapped = [](const Tensor& pairs) { return pairs.defined() ? pairs.flip(1) : pairs; };
  return {key_id, query_id, key_group, query_group, swapped(positive), swapped(ignored)};
}

PairRules PairRules::diagonal(std::int64_t count, at::Device device) {
  const Tensor ids = at::arange(count, at::TensorOptions(at::kLong).device(device));
  return {ids, ids, {}, {}, {}, {}};
}

void check_rules(const PairRules& rules, std::int64_t queries, std::int64_t keys, const char* where) {
  check_ids(rules.query_id, queries, where, "query_id");
  check_ids(rules.key_id, keys, where, "key_id");
  check_pairs(rules.positive, where, "positive");
  check_pairs(rules.ignored, where, "ignored");
  if (!rules.positive.defined() && !rules.ignored.defined()) return;
  check_ids(rules.query_group, queries, where, "query_group");
  check_ids(rules.key_group, keys, where, "key_group");
}

PairTable::PairTable(const PairRules& rules, std::int64_t queries, std::int64_t keys, const char* where) : keys_(keys) {
  check_rules(rules, queries, keys, where);
  std::unordered_map<std::int64_t, Range> by_id;
  keys_by_id_ = sorted_by(host_ids(rules.key_id), by_id);
  for (const std::int64_t id : host_ids(rules.query_id)) {
    const auto found = by_id.find(id);
    ids_.push_back(found == by_id.end() ? Range{} : found->second);
  }
  if (!rules.positive.defined() && !rules.ignored.defined()) return;

  std::unordered_map<std::int64_t, Range> by_group;
  keys_by_group_ = sorted_by(host_ids(rules.key_group), by_group);
  const std::vector<std::int64_t> query_group = host_ids(rules.query_group);
  const auto resolve = [&](const Tensor& pairs, Relations& relations, std::vector<Range>& of_query) {
    if (!pairs.defined()) return;
    const std::vector<std::int64_t> flat = host_ids(pairs);
    std::vector<std::array<std::int64_t, 2>> list;
    for (std::size_t i = 0; i < flat.size(); i += 2) {
      if (by_group.contains(flat[i + 1])) list.push_back({flat[i], flat[i + 1]});
    }
    std::sort(list.begin(), list.end());
    list.erase(std::unique(list.begin(), list.end()), list.end());
    std::unordered_map<std::int64_t, Range> of_group;
    for (const auto& [query, key] : list) {
      const auto next = static_cast<std::int64_t>(relations.size());
      of_group.try_emplace(query, Range{next, 0}).first->second.end = next + 1;
      relations.push_back(by_group.at(key));
    }
    for (const std::int64_t group : query_group) {
      const auto found = of_group.find(group);
      of_query.push_back(found == of_group.end() ? Range{} : found->second);
    }
  };
  resolve(rules.positive, positive_, positive_of_);
  resolve(rules.ignored, ignored_, ignored_of_);
}

PairTable::Marked PairTable::marked(const Tile& tile) const {
  Marked marked;
  std::vector<std::int64_t> found;  // of one query: 2 * column, odd where ignored, so that a pair named twice sorts with its positive in front
  const auto collect = [&](const std::vector<std::int64_t>& keys, const Range& range, std::int64_t ignored) {
    const auto end = keys.begin() + range.end;
    for (auto key = std::lower_bound(keys.begin() + range.begin, end, tile.key_begin); key != end && *key < tile.key_end; ++key) found.push_back(2 * (*key - tile.key_begin) + ignored);
  };
  const auto collect_related = [&](const std::vector<Range>& of_query, const Relations& relations, std::size_t query, std::int64_t ignored) {
    if (of_query.empty()) return;
    for (std::int64_t i = of_query[query].begin; i < of_query[query].end; ++i) collect(keys_by_group_, relations[static_cast<std::size_t>(i)], ignored);
  };
  for (std::int64_t row = 0; row < tile.rows(); ++row) {
    const auto query = static_cast<std::size_t>(tile.query_begin + row);
    found.clear();
    collect(keys_by_id_, ids_[query], 0);
    collect_related(positive_of_, positive_, query, 0);
    collect_related(ignored_of_, ignored_, query, 1);
    std::sort(found.begin(), found.end());
    std::int64_t last = -1;
    for (const std::int64_t code : found) {
      const std::int64_t column = code / 2;
      if (column == last) continue;
      last = column;
      (code % 2 == 0 ? marked.positive_row : marked.ignored_row).push_back(row);
      (code % 2 == 0 ? marked.positive_column : marked.ignored_column).push_back(column);
    }
  }
  return marked;
}

}  // namespace fgvl::losses
