#include "models/packed_texts.hpp"

#include <torch/torch.h>

#include "models/attention.hpp"
#include "models/bundles.hpp"
#include "models/head_rows.hpp"

namespace fgvl::models {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// Note [Rows that move]
// Both functions select rows, and index_select would compute the same. Its backward adds row by row, because it cannot know that rows are taken at most once; here that is known, so that the way back is a
// selection of rows too.

/// [A, ...] at `index` [B], which takes each row of A at most once: backward puts them back, and zeros where nothing was taken.
class Take final : public Function<Take> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& source, const Tensor& index) {
    context->save_for_backward({index});
    context->saved_data["rows"] = source.size(0);
    return source.index_select(0, index);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    std::vector<std::int64_t> shape = gradients[0].sizes().vec();
    shape[0] = context->saved_data["rows"].toInt();
    return {at::zeros(shape, gradients[0].options()).index_copy_(0, context->get_saved_variables()[0], gradients[0]), Tensor()};
  }
};

/// [A, ...] at `index` [B], of which `own` [A] says where each row of A stands; all other places repeat some row, and their gradient is dropped.
class Repeat final : public Function<Repeat> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& source, const Tensor& index, const Tensor& own) {
    context->save_for_backward({own});
    return source.index_select(0, index);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    return {gradients[0].index_select(0, context->get_saved_variables()[0]), Tensor(), Tensor()};
  }
};

}  // namespace

PackedTexts::PackedTexts(const Tensor& mask, bool at_padding) : PackedTexts(mask.size(0), mask.size(1)) {
  if (at_padding) return;
  const Tensor real = mask.flatten();
  const Tensor rows = real.nonzero().squeeze(1);
  if (rows.size(0) == real.size(0)) return;
  rows_ = rows;
  places_ = (real.cumsum(0) - 1).clamp_min_(0);
}

Tensor PackedTexts::place_in_text() const { return (whole() ? at::arange(texts_ * length_, at::kLong) : rows_).remainder(length_); }

Tensor PackedTexts::pack(const Tensor& padded) const {
  const Tensor all = padded.flatten(0, 1);
  return whole() ? all : Take::apply(all, rows_);
}

Tensor PackedTexts::pad(const Tensor& packed) const {
  return (whole() ? packed : Repeat::apply(packed, places_, rows_)).view({texts_, length_, packed.size(1)});
}

Tensor PackedTexts::pad_heads(const Tensor& packed, std::int64_t heads) const {
  if (whole() || !packed.is_cpu()) return split_heads(pad(packed), heads);
  return split_rows(packed, places_, rows_, {texts_, heads, length_, packed.size(1) / heads})[0];
}

Tensor PackedTexts::pack_heads(const Tensor& padded) const {
  const bool joined = padded.transpose(1, 2).is_contiguous();  // as the fused kernels leave it
  return whole() || !padded.is_cpu() || joined ? pack(merge_heads(padded)) : join_rows(padded, rows_);
}

Tensor PackedTexts::spread(const Tensor& packed) const {
  return (whole() ? packed : at::zeros({texts_ * length_, packed.size(1)}, packed.options()).index_copy(0, rows_, packed)).view({texts_, length_, packed.size(1)});
}

Tensor PackedTexts::at_positions(const Tensor& packed, const Tensor& positions) const {
  const Tensor first = at::arange(texts_, positions.options()).unsqueeze(1) * length_;
  const Tensor places = (first + positions).flatten();
  return packed.index_select(0, whole() ? places : places_.index_select(0, places));
}

PackedTexts PackedTexts::of_positions(const Tensor& positions) { return PackedTexts(positions.size(0), positions.size(1)); }

PackedTexts PackedTexts::bundled(const Bundles& bundles) const {
  PackedTexts in_bundles(bundles.sequence.size(0), bundles.size * length_);
  const Tensor places = whole() ? at::arange(texts_ * length_, bundles.pair_to_slot.options()) : places_;
  const Tensor text = (whole() ? places : rows_).div(length_, "floor"), place = place_in_text().to(text.device());
  in_bundles.places_ = places.view({texts_, length_}).index_select(0, bundles.slot_to_pair).flatten();
  in_bundles.rows_ = bundles.pair_to_slot.index_select(0, text) * length_ + place;
  return in_bundles;
}

}  // namespace fgvl::models
