#include "losses/cuda/tiled_losses.hpp"

#include <algorithm>
#include <tuple>
#include <vector>

#include <torch/torch.h>

#include "losses/cuda/kernels.hpp"
#include "losses/pair_table.hpp"
#include "losses/tiles.hpp"

namespace fgvl::losses::cuda {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

bool fits(const Tensor& queries, std::int64_t keys) {
  return queries.is_cuda() && (queries.scalar_type() == at::kFloat || queries.scalar_type() == at::kBFloat16) && queries.size(0) > 0 && keys > 0 && queries.size(1) > 0;
}

void check(const PairRules& rules, const Tensor& queries, std::int64_t keys, const char* where) {
  check_rules(rules, queries.size(0), keys, where);
  for (const Tensor& names : {rules.query_id, rules.key_id, rules.query_group, rules.key_group, rules.positive, rules.ignored}) {
    TORCH_CHECK(!names.defined() || names.device() == queries.device(), "[", where, "] pairs: expected on ", queries.device(), " as queries, got ", names.device());
  }
}

Tensor contiguous(const Tensor& rows) { return rows.defined() ? rows.detach().contiguous() : rows; }

std::int64_t key_count(const ContrastiveInput& input) { return input.keys.size(0) + (input.queue.defined() ? input.queue.size(0) : 0); }

/// A new float32 tensor beside `like`.
Tensor floats(const Tensor& like, at::IntArrayRef sizes) { return at::empty(sizes, like.options().dtype(at::kFloat).requires_grad(false)); }

float* data(const Tensor& values) { return values.defined() ? values.mutable_data_ptr<float>() : nullptr; }
RunningSums* sums(const Tensor& values) { return values.defined() ? reinterpret_cast<RunningSums*>(values.mutable_data_ptr<float>()) : nullptr; }

/// PairRules with the groups that occur numbered from 0, in the layout of GroupRules.
struct NumberedRules {
  Tensor row_id{}, column_id{};        // int64
  Tensor row_group{}, column_group{};  // int32; undefined without rules of groups
  Tensor offsets{}, entries{};
};

NumberedRules numbered(const PairRules& rules) {
  NumberedRules result{.row_id = rules.query_id.contiguous(), .column_id = rules.key_id.contiguous()};
  std::vector<Tensor> listed, ignored;
  for (const Tensor& list : {rules.positive, rules.ignored}) {
    if (!list.defined()) continue;
    listed.push_back(list);
    ignored.push_back(at::full({list.size(0)}, listed.size() == 2 || !rules.positive.defined() ? 1 : 0, list.options()));
  }
  if (listed.empty()) return result;
  const auto number = [](const Tensor& groups, const Tensor& named) {  // the group's number, or how many there are if it does not occur
    const auto [values, numbers] = at::_unique(groups, /*sorted=*/true, /*return_inverse=*/true);
    const Tensor at_or_after = at::searchsorted(values, named.contiguous()), there = at_or_after.clamp_max(values.size(0) - 1);
    const Tensor of_named = at::where(values.index_select(0, there) == named, there, at::full_like(there, values.size(0)));
    return std::tuple(numbers, of_named, values.size(0));
  };
  const Tensor all = at::cat(listed);
  const auto [row_group, row_number, row_groups] = number(rules.query_group, all.select(1, 0));
  const auto [column_group, column_number, column_groups] = number(rules.key_group, all.select(1, 1));
  const std::int64_t stride = 2 * column_groups;
  // Sorted by group of rows, then group of columns, positives first. Rules of groups that do not occur come last, behind every offset.
  const Tensor nowhere = (row_number == row_groups).logical_or(column_number == column_groups);
  const Tensor code = (row_number * stride + column_number * 2 + at::cat(ignored)).masked_fill(nowhere, row_groups * stride);
  const Tensor sorted = std::get<0>(code.sort());
  result.row_group = row_group.to(at::kInt).contiguous();
  result.column_group = column_group.to(at::kInt).contiguous();
  result.offsets = at::searchsorted(sorted, at::arange(row_groups + 1, sorted.options()) * stride);
  // One more than needed, so that there is an address even if nothing is listed.
  result.entries = at::cat({sorted.remainder(stride), at::zeros({1}, sorted.options())}).to(at::kInt);
  return result;
}

/// What both losses and both passes compute with.
struct Problem {
  Tiling tiling;
  NumberedRules names{};
  Tensor queue{};                                 // contiguous, undefined without
  Tensor teacher_queries{}, teacher_keys{};       // contiguous, undefined without; the latter also where they are the keys and the queue
  Tensor scale{};                                 // [1] float32
  Tensor kept{};                                  // the products, if one tile has all of them: backward needs not compute them again

  Problem(const PairRules& rules, const Tensor& queries, std::int64_t keys, const Tensor& further_keys)
      : tiling(queries.size(0), keys, further_keys.defined() ? further_keys.size(0) : 0, queries.device()), names(numbered(rules)), queue(contiguous(further_keys)) {}

  /// The largest `size(rows, columns)` of a tile.
  template <typename Size>
  std::int64_t most(const Size& size) const {
    std::int64_t most = 0;
    tiling.for_each_tile([&](const PairTable::Tile& place) { most = std::max(most, size(place.rows(), place.columns())); });
    return most;
  }
};

/// The tiles of one pass.
class Pass {
 public:
  Pass(const Problem& problem, const Tensor& queries, const Tensor& keys)
      : problem_(problem), products_(contiguous(queries), contiguous(keys), problem.queue), buffer_(problem.kept.defined() ? problem.kept : new_buffer()) {
    if (!problem.teacher_queries.defined()) return;
    const bool own_keys = problem.teacher_keys.defined();
    teacher_products_ = TileProducts(problem.teacher_queries, own_keys ? problem.teacher_keys : contiguous(keys), own_keys ? Tensor() : problem.queue);
    teacher_buffer_ = new_buffer();
  }

  const TileProducts& products() const { return products_; }
  const Tensor& buffer() const { return buffer_; }
  CUstream_st* stream() const { return current_stream(products_.left()); }

  /// Calls `visit(tile, its place)` for every tile, in order; its products are in `buffer`.
  template <typename Visit>
  void for_each_tile(const Visit& visit) const {
    problem_.tiling.for_each_tile([&](const PairTable::Tile& place) {
      const Tensor of_tile = view(buffer_, place);
      if (!problem_.kept.defined()) multiply(of_tile, products_.left_of(place), products_.right_of(place).t(), /*add=*/false);
      Tensor of_teacher;
      if (teacher_buffer_.defined()) {
        of_teacher = view(teacher_buffer_, place);
        multiply(of_teacher, teacher_products_.left_of(place), teacher_products_.right_of(place).t(), /*add=*/false);
      }
      const NumberedRules& names = problem_.names;
      const auto names_of = [](const Tensor& id, const Tensor& group, std::int64_t first) {
        return Names{id.const_data_ptr<std::int64_t>() + first, group.defined() ? group.const_data_ptr<std::int32_t>() + first : nullptr};
      };
      visit(Tile{data(of_tile), data(of_teacher), place.rows(), place.columns(), of_tile.stride(0), data(problem_.scale), names_of(names.row_id, names.row_group, place.query_begin),
                 names_of(names.column_id, names.column_group, place.key_begin),
                 names.entries.defined() ? GroupRules{names.offsets.const_data_ptr<std::int64_t>(), names.entries.const_data_ptr<std::int32_t>()} : GroupRules{}},
            place);
    });
  }

  /// The part of such a buffer that is as large as a tile; each row starts at a multiple of 16 bytes.
  static Tensor view(const Tensor& buffer, const PairTable::Tile& place) {
    return buffer.narrow(0, 0, place.rows() * padded(place.columns())).view({place.rows(), padded(place.columns())}).narrow(1, 0, place.columns());
  }
  Tensor new_buffer(at::ScalarType dtype = at::kFloat) const {
    return at::empty({problem_.most([](std::int64_t rows, std::int64_t columns) { return rows * padded(columns); })}, products_.left().options().dtype(dtype));
  }
  /// For `Problem::kept`.
  Tensor only_tile() const {
    std::int64_t tiles = 0;
    problem_.tiling.for_each_tile([&](const PairTable::Tile&) { ++tiles; });
    return tiles == 1 ? buffer_ : Tensor();
  }

 private:
  static std::int64_t padded(std::int64_t columns) { return (columns + 7) / 8 * 8; }

  const Problem& problem_;
  TileProducts products_, teacher_products_{};
  Tensor buffer_, teacher_buffer_{};
};

struct Gradients {
  Tensor queries{}, keys{};           // float32; undefined where not asked for
  Tensor scale{}, similarities{};     // scalars float64: of the scale, and the sum over all pairs
};

/// `loss_of(tile, place)` is the loss as a tile's kernels take it, and may read the tile's products before the gradient takes their place.
template <typename LossOf>
Gradients gradients_of(const Problem& problem, const Pass& pass, bool of_queries, bool of_keys, const LossOf& loss_of) {
  const Tensor& rows = pass.products().left();
  const bool is_bfloat16 = rows.scalar_type() == at::kBFloat16;
  const Tensor query_sum = of_queries ? at::zeros_like(rows, rows.options().dtype(at::kFloat)) : Tensor();
  const Tensor key_sum = of_keys ? at::zeros(pass.products().right().sizes(), rows.options().dtype(at::kFloat)) : Tensor();
  // In the products' place, unless they are of another type or serve another backward pass, too.
  const Tensor change_buffer = is_bfloat16 || problem.kept.defined() ? pass.new_buffer(rows.scalar_type()) : pass.buffer();
  std::int64_t blocks = 0;
  problem.tiling.for_each_tile([&](const PairTable::Tile& place) { blocks += gradient_blocks(place.rows(), place.columns()); });
  const Tensor totals = floats(problem.scale, {2, blocks});
  float *scale_sums = data(totals), *change_sums = scale_sums + blocks;
  pass.for_each_tile([&](const Tile& tile, const PairTable::Tile& place) {
    const Tensor changes = Pass::view(change_buffer, place);
    const auto loss = loss_of(tile, place);
    if (is_bfloat16) {
      tile_gradient(tile, loss, static_cast<__nv_bfloat16*>(changes.mutable_data_ptr()), scale_sums, change_sums, pass.stream());
    } else {
      tile_gradient(tile, loss, data(changes), scale_sums, change_sums, pass.stream());
    }
    scale_sums += gradient_blocks(tile.rows, tile.columns);
    change_sums += gradient_blocks(tile.rows, tile.columns);
    if (of_queries) multiply(query_sum.narrow(0, place.query_begin, place.rows()), changes, pass.products().right_of(place), /*add=*/true);
    if (of_keys && !pass.products().is_queue(place)) multiply(key_sum.narrow(0, place.key_begin, place.columns()), changes.t(), pass.products().left_of(place), /*add=*/true);
  });
  const Tensor sums_over_pairs = totals.sum({1}, /*keepdim=*/false, at::kDouble);
  return {query_sum, key_sum, sums_over_pairs[0], sums_over_pairs[1]};
}

/// Of one direction's softmaxes: the rows of [4, lines] float32, of which the last is only there with a teacher.
struct Direction {
  Tensor values{};
  double alpha = 0;

  Direction() = default;
  Direction(const Tensor& running, double share, CUstream_st* stream) : values(floats(running, {share > 0 ? 4 : 3, running.size(0)})), alpha(share) {
    cross_entropies(sums(running), running.size(0), static_cast<float>(alpha), {line(0), line(1), line(2), line(3)}, stream);
  }
  Tensor losses() const { return values.select(0, 0); }
  SoftmaxSide side(const Tensor& gradient) const { return {data(gradient), line(1), line(2), line(3), static_cast<float>(alpha)}; }

 private:
  float* line(std::int64_t index) const { return index < values.size(0) ? data(values) + index * values.size(1) : nullptr; }
};

struct ContrastiveState final : torch::CustomClassHolder {
  ContrastiveState(const ContrastiveInput& input) : problem(input.pairs, input.queries, input.keys.size(0), input.queue), alpha(input.soft.alpha), both(input.both) {
    if (alpha == 0) return;
    problem.teacher_queries = contiguous(input.soft.queries);
    problem.teacher_keys = contiguous(input.soft.keys);
  }

  Problem problem;
  double alpha = 0;
  bool both = false;
  Direction to_keys{}, to_queries{};

  void sum_up(const Tensor& queries, const Tensor& keys) {
    const Pass pass(problem, queries, keys);
    const Tensor rows = floats(problem.scale, {queries.size(0), kRunningSums}), columns = both ? floats(problem.scale, {keys.size(0), kRunningSums}) : Tensor();
    const Tensor partials = floats(problem.scale, {kRunningSums * problem.most([&](std::int64_t height, std::int64_t width) { return row_partials(height, width) + (both ? column_partials(height, width) : 0); })});
    pass.for_each_tile([&](const Tile& tile, const PairTable::Tile& place) {
      const Lines<RunningSums> of_columns = both ? Lines<RunningSums>{sums(columns) + place.key_begin, place.query_begin == 0} : Lines<RunningSums>{};
      tile_statistics(tile, {sums(rows) + place.query_begin, place.key_begin == 0}, of_columns, sums(partials), pass.stream());
    });
    problem.kept = pass.only_tile();
    to_keys = Direction(rows, alpha, pass.stream());
    if (both) to_queries = Direction(columns, 0, pass.stream());
  }
};

void check_once(const char* function) { TORCH_CHECK(!at::GradMode::is_enabled(), "[", function, "] is differentiable once: create_graph is not supported"); }

class Contrastive final : public torch::autograd::Function<Contrastive> {
 public:
  static variable_list forward(AutogradContext* context, const Tensor& queries, const Tensor& keys, const Tensor& temperature, const c10::intrusive_ptr<ContrastiveState>& state) {
    state->problem.scale = temperature.detach().reshape({1}).to(queries.device(), at::kFloat).reciprocal();
    state->sum_up(queries, keys);
    variable_list losses{state->to_keys.losses()};
    if (state->both) losses.push_back(state->to_queries.losses());
    context->saved_data["state"] = c10::IValue::make_capsule(state);
    context->save_for_backward({queries, keys, temperature});
    return losses;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    check_once("tiled_contrastive");
    const auto state = c10::static_intrusive_pointer_cast<ContrastiveState>(context->saved_data["state"].toCapsule());
    const variable_list saved = context->get_saved_variables();
    const Tensor& scale = state->problem.scale;
    // Kept alive while the kernels are launched; PyTorch's allocator hands memory on in the stream's order.
    const Tensor of_queries = gradients[0].to(at::kFloat).contiguous(), of_keys = state->both ? gradients[1].to(at::kFloat).contiguous() : Tensor();
    const SoftmaxSide query_side = state->to_keys.side(of_queries), key_side = state->both ? state->to_queries.side(of_keys) : SoftmaxSide{};
    const Pass pass(state->problem, saved[0], saved[1]);
    const Gradients found = gradients_of(state->problem, pass, context->needs_input_grad(0), context->needs_input_grad(1) && saved[1].size(0) > 0, [&](const Tile&, const PairTable::Tile& place) {
      return SoftmaxLoss{query_side.from(place.query_begin), key_side.from(place.key_begin)};
    });
    // scale = 1 / temperature
    const auto as_given = [&](const Tensor& sum) { return sum.defined() ? sum.to(saved[0].scalar_type()) : sum; };
    return {as_given(found.queries), as_given(found.keys), (-found.scale * scale.to(at::kDouble).square()).reshape(saved[2].sizes()).to(saved[2].options()), Tensor()};
  }
};

struct SigmoidState final : torch::CustomClassHolder {
  SigmoidState(const SigmoidInput& input) : problem(input.pairs, input.queries, input.keys.size(0), Tensor()) {}

  Problem problem;
  bool with_gradients = false, of_queries = false, of_keys = false;
  Gradients found{};  // of the sum: the forward pass leaves them for the backward pass
};

/// As on the CPU, a pair's gradient needs no other pair: the forward pass computes it beside the loss.
class Sigmoid final : public torch::autograd::Function<Sigmoid> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& queries, const Tensor& keys, const Tensor& scale, const Tensor& bias, const c10::intrusive_ptr<SigmoidState>& state) {
    Problem& problem = state->problem;
    problem.scale = scale.detach().reshape({1}).to(queries.device(), at::kFloat);
    const Tensor bias_there = bias.detach().reshape({1}).to(queries.device(), at::kFloat);
    const Pass pass(problem, queries, keys);
    const Tensor losses = floats(problem.scale, {queries.size(0)}), partials = floats(problem.scale, {problem.most(row_partials)});
    const auto summed_up = [&](const Tile& tile, const PairTable::Tile& place) {
      const SigmoidLoss loss{data(bias_there)};
      tile_sigmoid_losses(tile, loss, {data(losses) + place.query_begin, place.key_begin == 0}, data(partials), pass.stream());
      return loss;
    };
    if (state->with_gradients) {
      state->found = gradients_of(problem, pass, state->of_queries, state->of_keys, summed_up);
      context->saved_data["state"] = c10::IValue::make_capsule(state);
      context->saved_data["dtype"] = queries.scalar_type();
      context->save_for_backward({scale, bias});
    } else {
      pass.for_each_tile(summed_up);
    }
    return losses.sum(at::kDouble).to(at::kFloat);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    check_once("tiled_sigmoid");
    const auto state = c10::static_intrusive_pointer_cast<SigmoidState>(context->saved_data["state"].toCapsule());
    const variable_list saved = context->get_saved_variables();
    const at::ScalarType dtype = context->saved_data["dtype"].toScalarType();
    const auto of_vectors = [&](const Tensor& of_sum) { return of_sum.defined() ? (of_sum * gradients[0]).to(dtype) : of_sum; };
    const auto of_scalar = [&](const Tensor& of_sum, const Tensor& value) { return (of_sum * gradients[0]).reshape(value.sizes()).to(value.options()); };
    return {of_vectors(state->found.queries), of_vectors(state->found.keys), of_scalar(state->found.scale, saved[0]), of_scalar(state->found.similarities, saved[1]), Tensor()};
  }
};

}  // namespace

bool has_kernels(const ContrastiveInput& input) { return fits(input.queries, key_count(input)); }

bool has_kernels(const SigmoidInput& input) { return fits(input.queries, input.keys.size(0)); }

ContrastiveLosses tiled_contrastive(const ContrastiveInput& input) {
  check(input.pairs, input.queries, key_count(input), "tiled_contrastive");
  const c10::OptionalDeviceGuard guard(input.queries.device());
  const auto state = c10::make_intrusive<ContrastiveState>(input);
  const variable_list losses = Contrastive::apply(input.queries, input.keys, input.temperature, state);
  return {losses[0], input.both ? losses[1] : Tensor()};
}

Tensor tiled_sigmoid(const SigmoidInput& input) {
  check(input.pairs, input.queries, input.keys.size(0), "tiled_sigmoid");
  const c10::OptionalDeviceGuard guard(input.queries.device());
  const auto state = c10::make_intrusive<SigmoidState>(input);
  state->with_gradients = needs_gradients({input.queries, input.keys, input.scale, input.bias});
  state->of_queries = state->with_gradients && input.queries.requires_grad();
  state->of_keys = state->with_gradients && input.keys.requires_grad();
  return Sigmoid::apply(input.queries, input.keys, input.scale, input.bias, state);
}

}  // namespace fgvl::losses::cuda
