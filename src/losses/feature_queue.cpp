#include "losses/feature_queue.hpp"

#include <algorithm>

#include <torch/torch.h>

#include "fgvl/core/initialize.hpp"

namespace fgvl::losses {

FeatureQueue::FeatureQueue(std::int64_t size, std::int64_t width)
    : visual_(register_buffer("visual", torch::zeros({size, width}))),
      text_(register_buffer("text", torch::zeros({size, width}))),
      key_(register_buffer("key", torch::full({size}, kUnknownKey, torch::kLong))),
      pointer_(register_buffer("pointer", torch::zeros({1}, torch::kLong))) {}

void FeatureQueue::fill(std::uint64_t seed) {
  for (auto& [rows, name] : {std::pair<Tensor&, const char*>{visual_, "queue.visual"}, {text_, "queue.text"}}) {
    draw_normal(rows, seed, name, 1.0);
    rows.div_(rows.norm(2, 1, /*keepdim=*/true));
  }
}

FeatureQueue::Entries FeatureQueue::entries() const {
  const Tensor written = visual_.any(1).logical_and(text_.any(1)).nonzero().squeeze(1);
  return {visual_.index_select(0, written), text_.index_select(0, written), key_.index_select(0, written)};
}

void FeatureQueue::push(const Entries& rows) {
  torch::NoGradGuard guard;
  const Tensor finite = at::isfinite(rows.visual).all(1).logical_and(at::isfinite(rows.text).all(1)).nonzero().squeeze(1);
  const Tensor kept = finite.slice(0, std::max<std::int64_t>(0, finite.size(0) - size()));
  // A file may hold the pointer of a queue of another size.
  const Tensor places = (at::arange(kept.size(0), pointer_.options()) + pointer_).remainder(size());
  visual_.index_copy_(0, places, rows.visual.index_select(0, kept).to(visual_.scalar_type()));
  text_.index_copy_(0, places, rows.text.index_select(0, kept).to(text_.scalar_type()));
  key_.index_copy_(0, places, rows.key.index_select(0, kept));
  pointer_.add_(kept.size(0)).remainder_(size());
}

void FeatureQueue::to(at::ScalarType dtype, bool non_blocking) {
  for (Tensor* features : {&visual_, &text_}) features->set_data(features->to(dtype, non_blocking));
}

}  // namespace fgvl::losses
