#include "models/packed_texts.hpp"

#include <cstring>

#include <ATen/Parallel.h>
#include <torch/torch.h>

#include "models/attention.hpp"
#include "models/bundles.hpp"

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

// Note [Heads that move]
// Products of heads need [N, heads, L, d] in one piece. A CPU copies each head of each token there straight from the packed rows and back, where padding, splitting and joining by ATen's operators are three copies, whose
// operator for rows takes longer for a short row than the copy itself.

/// Where heads stand: text and place are those of one of the N * L slots.
struct HeadLayout {
  std::int64_t heads, length;
  std::size_t bytes;  ///< of a head of a token

  /// Of the first head of a slot, in units of a head.
  std::int64_t of_slot(std::int64_t slot) const { return slot / length * heads * length + slot % length; }

  void split(const char* row, char* all, std::int64_t slot) const {
    char* to = all + static_cast<std::size_t>(of_slot(slot)) * bytes;
    for (std::int64_t head = 0; head < heads; ++head) std::memcpy(to + static_cast<std::size_t>(head * length) * bytes, row + static_cast<std::size_t>(head) * bytes, bytes);
  }
  void join(const char* all, std::int64_t slot, char* row) const {
    const char* from = all + static_cast<std::size_t>(of_slot(slot)) * bytes;
    for (std::int64_t head = 0; head < heads; ++head) std::memcpy(row + static_cast<std::size_t>(head) * bytes, from + static_cast<std::size_t>(head * length) * bytes, bytes);
  }
  char* row(char* rows, std::int64_t index) const { return rows + static_cast<std::size_t>(index * heads) * bytes; }
  const char* row(const char* rows, std::int64_t index) const { return rows + static_cast<std::size_t>(index * heads) * bytes; }
};

HeadLayout layout_of(const Tensor& heads) { return {heads.size(1), heads.size(2), static_cast<std::size_t>(heads.size(3)) * heads.element_size()}; }
const char* bytes_of(const Tensor& tensor) { return static_cast<const char*>(tensor.const_data_ptr()); }
char* bytes_to(const Tensor& tensor) { return static_cast<char*>(tensor.mutable_data_ptr()); }

constexpr std::int64_t kTokenGrain = 256;  // tokens for which another thread is worth while

/// [N, heads, L, d] out of rows [R, heads * d]: token places[slot] in each slot.
Tensor split_rows(const Tensor& rows, const Tensor& places, at::IntArrayRef shape) {
  const Tensor source = rows.contiguous(), result = at::empty(shape, source.options());
  const HeadLayout layout = layout_of(result);
  const std::int64_t* place = places.const_data_ptr<std::int64_t>();
  const char* from = bytes_of(source);
  char* to = bytes_to(result);
  at::parallel_for(0, places.size(0), kTokenGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t slot = begin; slot < end; ++slot) layout.split(layout.row(from, place[slot]), to, slot);
  });
  return result;
}

/// Rows [R, heads * d] out of [N, heads, L, d]: what stands in slot slots[row].
Tensor joined_rows(const Tensor& heads, const Tensor& slots) {
  const Tensor source = heads.contiguous(), result = at::empty({slots.size(0), source.size(1) * source.size(3)}, source.options());
  const HeadLayout layout = layout_of(source);
  const std::int64_t* slot = slots.const_data_ptr<std::int64_t>();
  const char* from = bytes_of(source);
  char* to = bytes_to(result);
  at::parallel_for(0, slots.size(0), kTokenGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) layout.join(from, slot[row], layout.row(to, row));
  });
  return result;
}

/// split_rows() where `own` [R] says in which slot each row stands; what other slots repeat gets no gradient.
class SplitRows final : public Function<SplitRows> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& rows, const Tensor& places, const Tensor& own, at::IntArrayRef shape) {
    context->save_for_backward({own});
    return split_rows(rows, places, shape);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    return {joined_rows(gradients[0], context->get_saved_variables()[0]), Tensor(), Tensor(), Tensor()};
  }
};

/// joined_rows() of slots that are taken once at most: all others get zeros.
class JoinRows final : public Function<JoinRows> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& heads, const Tensor& slots) {
    context->save_for_backward({slots});
    context->saved_data["shape"] = heads.sizes();
    return joined_rows(heads, slots);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const Tensor source = gradients[0].contiguous(), result = at::zeros(context->saved_data["shape"].toIntVector(), source.options()), slots = context->get_saved_variables()[0];
    const HeadLayout layout = layout_of(result);
    const std::int64_t* slot = slots.const_data_ptr<std::int64_t>();
    const char* from = bytes_of(source);
    char* to = bytes_to(result);
    at::parallel_for(0, slots.size(0), kTokenGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) layout.split(layout.row(from, row), to, slot[row]);
    });
    return {result, Tensor()};
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
  return SplitRows::apply(packed, places_, rows_, std::vector<std::int64_t>{texts_, heads, length_, packed.size(1) / heads});
}

Tensor PackedTexts::pack_heads(const Tensor& padded) const {
  const bool joined = padded.transpose(1, 2).is_contiguous();  // as the fused kernels leave it
  return whole() || !padded.is_cpu() || joined ? pack(merge_heads(padded)) : JoinRows::apply(padded, rows_);
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
