#include "models/head_rows.hpp"

#include <cstring>

#include <ATen/Parallel.h>
#include <torch/torch.h>

namespace fgvl::models {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

constexpr std::int64_t kTokenGrain = 256;  // tokens for which another thread is worth while

/// Where heads of a tensor [N, heads, L, d] stand, and in which columns of rows.
struct HeadLayout {
  std::int64_t heads, length;
  std::size_t bytes;                 ///< of a head of a token
  std::size_t row_bytes, at_column;  ///< of a row, and in it before the first head

  void split(const char* rows, std::int64_t row, char* all, std::int64_t slot) const {
    const char* from = rows + static_cast<std::size_t>(row) * row_bytes + at_column;
    char* to = all + first_head(slot);
    for (std::int64_t head = 0; head < heads; ++head) std::memcpy(to + static_cast<std::size_t>(head * length) * bytes, from + static_cast<std::size_t>(head) * bytes, bytes);
  }
  void join(const char* all, std::int64_t slot, char* rows, std::int64_t row) const {
    const char* from = all + first_head(slot);
    char* to = rows + static_cast<std::size_t>(row) * row_bytes + at_column;
    for (std::int64_t head = 0; head < heads; ++head) std::memcpy(to + static_cast<std::size_t>(head) * bytes, from + static_cast<std::size_t>(head * length) * bytes, bytes);
  }

 private:
  std::size_t first_head(std::int64_t slot) const { return static_cast<std::size_t>(slot / length * heads * length + slot % length) * bytes; }
};

/// Of `heads` as part `part` of `rows`.
HeadLayout layout_of(const Tensor& heads, const Tensor& rows, std::size_t part = 0) {
  const std::size_t bytes = static_cast<std::size_t>(heads.size(3)) * heads.element_size(), columns = static_cast<std::size_t>(heads.size(1)) * bytes;
  return {heads.size(1), heads.size(2), bytes, static_cast<std::size_t>(rows.size(1)) * rows.element_size(), part * columns};
}
const char* bytes_of(const Tensor& tensor) { return static_cast<const char*>(tensor.const_data_ptr()); }
char* bytes_to(const Tensor& tensor) { return static_cast<char*>(tensor.mutable_data_ptr()); }

/// Calls copy(i, where[i]) for all i, shared among threads.
template <class Copy>
void each_token(const Tensor& where, const Copy& copy) {
  const std::int64_t* at = where.const_data_ptr<std::int64_t>();
  at::parallel_for(0, where.size(0), kTokenGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) copy(i, at[i]);
  });
}

/// Part `part` of `rows` [K, ...] becomes what stands in slot slots[k] of `heads`.
void join_part(const Tensor& heads, const Tensor& slots, const Tensor& rows, std::size_t part) {
  const Tensor source = heads.contiguous();
  const HeadLayout layout = layout_of(source, rows, part);
  const char* from = bytes_of(source);
  char* to = bytes_to(rows);
  each_token(slots, [&](std::int64_t row, std::int64_t slot) { layout.join(from, slot, to, row); });
}

class SplitRows final : public Function<SplitRows> {
 public:
  static variable_list forward(AutogradContext* context, const Tensor& rows, const Tensor& places, const Tensor& own, at::IntArrayRef shape) {
    context->save_for_backward({own});
    const Tensor source = rows.contiguous();
    const char* from = bytes_of(source);
    variable_list parts(static_cast<std::size_t>(rows.size(1) / (shape[1] * shape[3])));
    for (std::size_t i = 0; i < parts.size(); ++i) {
      parts[i] = at::empty(shape, source.options());
      const HeadLayout layout = layout_of(parts[i], source, i);
      char* to = bytes_to(parts[i]);
      each_token(places, [&](std::int64_t slot, std::int64_t row) { layout.split(from, row, to, slot); });
    }
    return parts;
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const Tensor own = context->get_saved_variables()[0], &first = gradients[0];
    const Tensor rows = at::empty({own.size(0), static_cast<std::int64_t>(gradients.size()) * first.size(1) * first.size(3)}, first.options());
    for (std::size_t i = 0; i < gradients.size(); ++i) join_part(gradients[i], own, rows, i);
    return {rows, Tensor(), Tensor(), Tensor()};
  }
};

/// Slots that are not taken get a gradient of zeros.
class JoinRows final : public Function<JoinRows> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& heads, const Tensor& slots) {
    context->save_for_backward({slots});
    context->saved_data["shape"] = heads.sizes();
    const Tensor rows = at::empty({slots.size(0), heads.size(1) * heads.size(3)}, heads.options());
    join_part(heads, slots, rows, 0);
    return rows;
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const std::vector<std::int64_t> shape = context->saved_data["shape"].toIntVector();
    const Tensor slots = context->get_saved_variables()[0], source = gradients[0].contiguous();
    const Tensor result = slots.size(0) == shape[0] * shape[2] ? at::empty(shape, source.options()) : at::zeros(shape, source.options());
    const HeadLayout layout = layout_of(result, source);
    const char* from = bytes_of(source);
    char* to = bytes_to(result);
    each_token(slots, [&](std::int64_t row, std::int64_t slot) { layout.split(from, row, to, slot); });
    return {result, Tensor()};
  }
};

}  // namespace

std::vector<Tensor> split_rows(const Tensor& rows, const Tensor& places, const Tensor& own, at::IntArrayRef shape) { return SplitRows::apply(rows, places, own, shape); }

Tensor join_rows(const Tensor& heads, const Tensor& slots) { return JoinRows::apply(heads, slots); }

}  // namespace fgvl::models
