#pragma once
#include <limits>
#include <set>

#include <torch/torch.h>

#include "fgvl/losses/tiled_contrastive.hpp"

/// tiled_contrastive and tiled_sigmoid as one writes them down: in float64, with all similarities and a mask of every kind of pair.
namespace fgvl::test {

struct Masks {
  Tensor positive{}, ignored{};  // [N, M] bool
};

inline Masks masks_of(const losses::PairRules& rules) {
  const auto values = [](const Tensor& tensor) { return tensor.defined() ? tensor.cpu().contiguous() : tensor; };
  const Tensor query_id = values(rules.query_id), key_id = values(rules.key_id), query_group = values(rules.query_group), key_group = values(rules.key_group);
  const auto listed = [&](const Tensor& list) {
    std::set<std::pair<std::int64_t, std::int64_t>> pairs;
    for (std::int64_t i = 0; list.defined() && i < list.size(0); ++i) pairs.emplace(list[i][0].item<std::int64_t>(), list[i][1].item<std::int64_t>());
    return pairs;
  };
  const auto positive = listed(rules.positive), ignored = listed(rules.ignored);
  Masks masks{torch::zeros({query_id.size(0), key_id.size(0)}, torch::kBool), torch::zeros({query_id.size(0), key_id.size(0)}, torch::kBool)};
  for (std::int64_t n = 0; n < query_id.size(0); ++n) {
    for (std::int64_t m = 0; m < key_id.size(0); ++m) {
      const std::pair<std::int64_t, std::int64_t> groups{query_group.defined() ? query_group.data_ptr<std::int64_t>()[n] : 0, key_group.defined() ? key_group.data_ptr<std::int64_t>()[m] : 0};
      const bool together = query_id.data_ptr<std::int64_t>()[n] == key_id.data_ptr<std::int64_t>()[m] || positive.contains(groups);
      masks.positive.data_ptr<bool>()[n * key_id.size(0) + m] = together;
      masks.ignored.data_ptr<bool>()[n * key_id.size(0) + m] = !together && ignored.contains(groups);
    }
  }
  return masks;
}

inline losses::ContrastiveLosses full_contrastive(const losses::ContrastiveInput& input) {
  const Masks masks = masks_of(input.pairs);
  const auto doubles = [](const Tensor& rows) { return rows.to(torch::kFloat64); };
  const Tensor keys = input.queue.defined() ? torch::cat({doubles(input.keys), doubles(input.queue)}) : doubles(input.keys), temperature = doubles(input.temperature);
  const Tensor similarities = doubles(input.queries).matmul(keys.t()) / temperature;
  const auto losses = [&](const Tensor& logits, const Tensor& positive, const Tensor& ignored, const Tensor& teacher) {
    const double none = -std::numeric_limits<double>::infinity();
    const Tensor count = positive.sum(1, true), logarithms = torch::log_softmax(logits.masked_fill(ignored, none), 1).masked_fill(ignored, 0.0);
    Tensor target = (1 - input.soft.alpha) * positive.to(torch::kFloat64) / count.clamp_min(1);
    if (teacher.defined()) target = target + input.soft.alpha * torch::softmax(teacher.masked_fill(ignored, none), 1);
    return torch::where(count.squeeze(1) > 0, -(target * logarithms).sum(1), torch::zeros({}, torch::kFloat64));
  };
  Tensor teacher;
  if (input.soft.alpha > 0) teacher = (doubles(input.soft.queries).matmul(doubles(input.soft.keys.defined() ? input.soft.keys : keys).t()) / temperature).detach();
  return {losses(similarities, masks.positive, masks.ignored, teacher), input.both ? losses(similarities.t(), masks.positive.t(), masks.ignored.t(), {}) : Tensor()};
}

inline Tensor full_sigmoid(const losses::SigmoidInput& input) {
  const Masks masks = masks_of(input.pairs);
  const auto doubles = [](const Tensor& rows) { return rows.to(torch::kFloat64); };
  const Tensor logits = doubles(input.queries).matmul(doubles(input.keys).t()) * doubles(input.scale) + doubles(input.bias);
  const Tensor sign = torch::where(masks.positive, torch::ones({}, torch::kFloat64), -torch::ones({}, torch::kFloat64));
  return -torch::log_sigmoid(sign * logits).masked_fill(masks.ignored, 0.0).sum();
}

}  // namespace fgvl::test
