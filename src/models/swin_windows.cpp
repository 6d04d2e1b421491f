#include "models/swin_windows.hpp"

#include <algorithm>

#include "models/head_rows.hpp"

namespace fgvl::models {
namespace {

using at::Tensor;

constexpr double kApart = -100.0, kFilling = -10000.0;

/// [filled] int64: which of the three stretches of a rolled axis a place belongs to; only places of one stretch were neighbours before.
Tensor stretches(const WindowGrid& grid) {
  const Tensor place = at::arange(grid.filled(), at::kLong);
  return (place >= grid.filled() - grid.window).to(at::kLong) + (place >= grid.filled() - grid.shift).to(at::kLong);
}

/// A map [filled, filled] -> [windows, N].
Tensor cut(const Tensor& map, const WindowGrid& grid) {
  const std::int64_t n = grid.filled() / grid.window;
  return map.view({n, grid.window, n, grid.window}).transpose(1, 2).reshape({n * n, grid.tokens()});
}

/// [filled^2] int64: the place in the map, row by row, of what stands in each slot, window by window.
Tensor places_of_slots(const WindowGrid& grid) {
  const Tensor map = at::arange(grid.filled() * grid.filled(), at::kLong).view({grid.filled(), grid.filled()});
  return cut(grid.shift > 0 ? at::roll(map, {-grid.shift, -grid.shift}, {0, 1}) : map, grid).flatten();
}

/// The other way round: the slot of each place.
Tensor slots_of_places(const Tensor& places) { return at::empty_like(places).index_copy_(0, places, at::arange(places.size(0), places.options())); }

/// Of one image [K] -> of `images` behind one another, each of which has `tokens`.
Tensor of_images(const Tensor& of_one, std::int64_t images, std::int64_t tokens) { return (at::arange(images, at::kLong).unsqueeze(1) * tokens + of_one).flatten(); }

/// [B, filled, filled, 3 * D] as [3, B, n, n, heads, window, window, D / heads], a view.
Tensor in_windows(const Tensor& qkv, const WindowGrid& grid, std::int64_t heads) {
  const std::int64_t n = grid.filled() / grid.window;
  return qkv.view({qkv.size(0), n, grid.window, n, grid.window, 3, heads, qkv.size(3) / (3 * heads)}).permute({5, 0, 1, 3, 6, 2, 4, 7});
}

/// Three tensors out of one copy, whose gradients go to their places in another: left to autograd, they are put together first and then copied once more.
class ToWindows final : public torch::autograd::Function<ToWindows> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context, const Tensor& qkv, const WindowGrid& grid, std::int64_t heads) {
    context->saved_data["sizes"] = qkv.sizes();
    context->saved_data["grid"] = std::vector<std::int64_t>{grid.side, grid.window, grid.shift};
    context->saved_data["heads"] = heads;
    const at::AutoDispatchBelowADInplaceOrView not_as_views;
    return in_windows(qkv, grid, heads).clone(at::MemoryFormat::Contiguous).view({3, qkv.size(0), grid.windows(), heads, grid.tokens(), -1}).unbind(0);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, const torch::autograd::variable_list& gradients) {
    const std::vector<std::int64_t> numbers = context->saved_data["grid"].toIntVector();
    const Tensor of_qkv = at::empty(context->saved_data["sizes"].toIntVector(), gradients[0].options());
    const Tensor parts = in_windows(of_qkv, {numbers[0], numbers[1], numbers[2]}, context->saved_data["heads"].toInt());
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      const Tensor part = parts.select(0, static_cast<std::int64_t>(i));
      part.copy_(gradients[i].reshape(part.sizes()));
    }
    return {of_qkv, Tensor(), Tensor()};
  }
};

}  // namespace

WindowGrid make_window_grid(std::int64_t side, std::int64_t window, bool shifted) {
  if (side <= window) return {side, side, 0};
  return {side, window, shifted ? window / 2 : 0};
}

Tensor fill_and_roll(const Tensor& map, const WindowGrid& grid) {
  const std::int64_t missing = grid.filled() - grid.side;
  const Tensor filled = missing > 0 ? at::constant_pad_nd(map, {0, 0, 0, missing, 0, missing}) : map;
  return grid.shift > 0 && !map.is_cpu() ? at::roll(filled, {-grid.shift, -grid.shift}, {1, 2}) : filled;
}

std::vector<Tensor> to_windows(const Tensor& qkv, const WindowGrid& grid, std::int64_t heads) {
  if (!qkv.is_cpu()) return ToWindows::apply(qkv, grid, heads);
  const std::int64_t images = qkv.size(0), tokens = grid.filled() * grid.filled(), width = qkv.size(3) / 3;
  const Tensor places = places_of_slots(grid);
  std::vector<Tensor> parts = split_rows(qkv.flatten(0, 2), of_images(places, images, tokens), of_images(slots_of_places(places), images, tokens), {images * grid.windows(), heads, grid.tokens(), width / heads});
  for (Tensor& part : parts) part = part.view({images, grid.windows(), heads, grid.tokens(), width / heads});
  return parts;
}

Tensor from_windows(const Tensor& windows, const WindowGrid& grid) {
  const std::int64_t images = windows.size(0), n = grid.filled() / grid.window, heads = windows.size(2), d = windows.size(4), side = grid.side;
  if (windows.is_cpu()) {
    const Tensor slots = slots_of_places(places_of_slots(grid)).view({grid.filled(), grid.filled()}).slice(0, 0, side).slice(1, 0, side).flatten();
    return join_rows(windows.flatten(0, 1), of_images(slots, images, grid.filled() * grid.filled())).view({images, side, side, heads * d});
  }
  const Tensor map = windows.reshape({images, n, n, heads, grid.window, grid.window, d}).permute({0, 1, 4, 2, 5, 3, 6}).reshape({images, grid.filled(), grid.filled(), heads * d});
  const Tensor unrolled = grid.shift > 0 ? at::roll(map, {grid.shift, grid.shift}, {1, 2}) : map;
  return grid.filled() > side ? unrolled.slice(1, 0, side).slice(2, 0, side) : unrolled;
}

Tensor window_mask(const WindowGrid& grid) {
  Tensor mask;
  if (grid.shift > 0) {
    const Tensor axis = stretches(grid), stretch = cut(3 * axis.unsqueeze(1) + axis.unsqueeze(0), grid);
    mask = (stretch.unsqueeze(1) != stretch.unsqueeze(2)).to(at::kFloat) * kApart;
  }
  if (grid.filled() > grid.side) {
    const Tensor outside = at::roll(at::arange(grid.filled(), at::kLong) >= grid.side, -grid.shift);
    const Tensor filling = cut(outside.unsqueeze(1).logical_or(outside.unsqueeze(0)), grid).to(at::kFloat) * kFilling;
    const Tensor keys = filling.unsqueeze(1).expand({-1, grid.tokens(), -1});
    mask = mask.defined() ? mask + keys : keys.contiguous();
  }
  return mask;
}

Tensor relative_position_index(std::int64_t window) {
  const Tensor axis = at::arange(window, at::kLong), offset = axis.unsqueeze(1) - axis.unsqueeze(0) + (window - 1);  // (query, key)
  const Tensor rows = offset.view({window, 1, window, 1}) * (2 * window - 1), columns = offset.view({1, window, 1, window});
  return (rows + columns).reshape({window * window, window * window});
}

Tensor relative_position_bias(const Tensor& table, std::int64_t window) {
  const std::int64_t heads = table.size(1), side = 2 * window - 1;
  // unfold gives [a, b, head, y, x] = table[a + y, b + x]; with a = window - 1 - (row of the key) that is the offset of the query (y, x) from it.
  const Tensor places = table.view({side, side, heads}).unfold(0, window, 1).unfold(1, window, 1).flip({0, 1});
  return places.permute({2, 3, 4, 0, 1}).reshape({heads, window * window, window * window});
}

}  // namespace fgvl::models
