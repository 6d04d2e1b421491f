#include "losses/cuda/tiled_losses.hpp"

#include <optional>
#include <tuple>
#include <vector>

#include <torch/torch.h>

#include "losses/cuda/kernels.hpp"
#include "losses/pair_table.hpp"

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

/// What both losses and both passes compute with. Queries are the rows; `transposed` makes keys the rows.
struct Problem {
  Tensor queries{}, keys{};                          // contiguous; keys with the queue behind them
  Tensor teacher_queries{}, teacher_keys{};          // undefined without
  Tensor scale{};                                    // [1] float32
  PairRules rules{};

  bool is_bfloat16() const { return queries.scalar_type() == at::kBFloat16; }

  /// Calls `compute` with the pairs as the kernels take them; `rows` limits the rows to the first so many.
  template <typename Compute>
  void with_pairs(bool transposed, std::int64_t rows, const Compute& compute) const {
    const NumberedRules names = numbered(transposed ? rules.transposed() : rules);
    if (is_bfloat16()) {
      compute(pairs<__nv_bfloat16>(names, transposed, rows));
    } else {
      compute(pairs<float>(names, transposed, rows));
    }
  }

 private:
  template <typename T>
  Pairs<T> pairs(const NumberedRules& names, bool transposed, std::int64_t rows) const {
    const auto side = [](const Tensor& vectors, const Tensor& teacher, const Tensor& id, const Tensor& group, std::int64_t count) {
      return Vectors<T>{static_cast<const T*>(vectors.const_data_ptr()), teacher.defined() ? static_cast<const T*>(teacher.const_data_ptr()) : nullptr, id.const_data_ptr<std::int64_t>(),
                        group.defined() ? group.const_data_ptr<std::int32_t>() : nullptr, count};
    };
    const Tensor &row_vectors = transposed ? keys : queries, &column_vectors = transposed ? queries : keys;
    const GroupRules of_groups = names.entries.defined() ? GroupRules{names.offsets.const_data_ptr<std::int64_t>(), names.entries.const_data_ptr<std::int32_t>()} : GroupRules{};
    return {side(row_vectors, transposed ? teacher_keys : teacher_queries, names.row_id, names.row_group, rows),
            side(column_vectors, transposed ? teacher_queries : teacher_keys, names.column_id, names.column_group, column_vectors.size(0)),
            static_cast<int>(queries.size(1)), scale.const_data_ptr<float>(), of_groups};
  }
};

/// A gradient of some rows, and what its pass adds up beside it.
struct Gradient {
  Tensor rows{};                      // [rows, E] of the vectors' type
  Tensor scale{}, similarities{};     // scalars float64: of the scale, and the sum over all pairs
};

template <typename Loss>
Gradient gradient_of(const Problem& problem, bool transposed, std::int64_t rows, const Loss& loss) {
  const std::int64_t columns = (transposed ? problem.queries : problem.keys).size(0), width = problem.queries.size(1);
  const Geometry geometry = gradient_geometry(rows, columns, width);
  const Tensor partials = floats(problem.scale, {geometry.partials}), result = floats(problem.scale, {rows, width});
  const Tensor scale_sum = floats(problem.scale, {geometry.row_tiles * geometry.splits}), change_sum = at::empty_like(scale_sum);
  problem.with_pairs(transposed, rows, [&](const auto& pairs) {
    row_gradient(pairs, loss, RowGradient{data(result), data(scale_sum), data(change_sum)}, data(partials), current_stream(problem.queries));
  });
  return {result.to(problem.queries.scalar_type()), scale_sum.sum(at::kDouble), change_sum.sum(at::kDouble)};
}

/// Statistics of one direction, all [rows] float32.
struct Statistics {
  Tensor log_sum_exp{}, positive_sum{}, positive_count{};
  Tensor teacher_log_sum_exp{}, teacher_mean{};  // undefined without a teacher

  Tensor has_positive() const { return positive_count > 0; }
  /// Cross-entropies against (1 - alpha) of the positives and alpha of the teacher; 0 without a positive.
  Tensor losses(double alpha) const {
    Tensor target = positive_sum / positive_count.clamp_min(1);
    if (teacher_mean.defined()) target = (1 - alpha) * target + alpha * teacher_mean;
    return at::where(has_positive(), log_sum_exp - target, at::zeros({}, log_sum_exp.options()));
  }
};

Statistics statistics_of(const Problem& problem, bool transposed) {
  const std::int64_t rows = (transposed ? problem.keys : problem.queries).size(0), columns = (transposed ? problem.queries : problem.keys).size(0);
  Statistics result{floats(problem.scale, {rows}), floats(problem.scale, {rows}), floats(problem.scale, {rows}), {}, {}};
  if (problem.teacher_queries.defined()) {
    result.teacher_log_sum_exp = floats(problem.scale, {rows});
    result.teacher_mean = floats(problem.scale, {rows});
  }
  const Tensor partials = floats(problem.scale, {statistics_geometry(rows, columns).partials});
  problem.with_pairs(transposed, rows, [&](const auto& pairs) {
    row_statistics(pairs, {data(result.log_sum_exp), data(result.positive_sum), data(result.positive_count), data(result.teacher_log_sum_exp), data(result.teacher_mean)}, data(partials),
                   current_stream(problem.queries));
  });
  return result;
}

struct ContrastiveState final : torch::CustomClassHolder {
  Problem problem{};  // without queries and keys, which autograd keeps
  Tensor queue{};
  double alpha = 0;
  bool both = false;
  Statistics to_keys{}, to_queries{};

  Problem with(const Tensor& queries, const Tensor& keys) const {
    Problem full = problem;
    full.queries = contiguous(queries);
    full.keys = queue.defined() ? at::cat({keys.detach(), queue}) : contiguous(keys);
    if (full.teacher_queries.defined() && !full.teacher_keys.defined()) full.teacher_keys = full.keys;
    return full;
  }
};

/// The weights of one direction's gradient, kept alive while the kernels are launched; PyTorch's allocator hands memory on in the stream's order.
struct Weights {
  Tensor weight{}, positive{}, teacher{};

  Weights(const Tensor& gradient, const Statistics& statistics, double alpha)
      : weight(gradient.to(at::kFloat).contiguous() * statistics.has_positive()), positive((1 - alpha) * weight / statistics.positive_count.clamp_min(1)) {
    if (statistics.teacher_mean.defined()) teacher = alpha * weight;
  }
  SoftmaxSide side(const Statistics& statistics) const {
    return {data(statistics.log_sum_exp), data(weight), data(positive), data(statistics.teacher_log_sum_exp), data(teacher)};
  }
};

void check_once(const char* function) { TORCH_CHECK(!at::GradMode::is_enabled(), "[", function, "] is differentiable once: create_graph is not supported"); }

class Contrastive final : public torch::autograd::Function<Contrastive> {
 public:
  static variable_list forward(AutogradContext* context, const Tensor& queries, const Tensor& keys, const Tensor& temperature, const c10::intrusive_ptr<ContrastiveState>& state) {
    state->problem.scale = temperature.detach().reshape({1}).to(queries.device(), at::kFloat).reciprocal();
    const Problem problem = state->with(queries, keys);
    state->to_keys = statistics_of(problem, false);
    variable_list losses{state->to_keys.losses(state->alpha)};
    if (state->both) {
      state->to_queries = statistics_of(problem, true);
      losses.push_back(state->to_queries.losses(0));
    }
    context->saved_data["state"] = c10::IValue::make_capsule(state);
    context->save_for_backward({queries, keys, temperature});
    return losses;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    check_once("tiled_contrastive");
    const auto state = c10::static_intrusive_pointer_cast<ContrastiveState>(context->saved_data["state"].toCapsule());
    const variable_list saved = context->get_saved_variables();
    const Problem problem = state->with(saved[0], saved[1]);
    const Weights of_queries(gradients[0], state->to_keys, state->alpha);
    std::optional<Weights> of_keys;
    if (state->both) of_keys.emplace(gradients[1], state->to_queries, 0.0);
    const SoftmaxSide query_side = of_queries.side(state->to_keys), key_side = of_keys ? of_keys->side(state->to_queries) : SoftmaxSide{};
    Tensor query_gradient, key_gradient, temperature_gradient;
    if (context->needs_input_grad(0) || context->needs_input_grad(2)) {
      const Gradient gradient = gradient_of(problem, false, saved[0].size(0), SoftmaxLoss{query_side, key_side});
      query_gradient = gradient.rows;
      temperature_gradient = (-gradient.scale * problem.scale.to(at::kDouble).square()).reshape(saved[2].sizes()).to(saved[2].options());  // scale = 1 / temperature
    }
    if (context->needs_input_grad(1) && saved[1].size(0) > 0) key_gradient = gradient_of(problem, true, saved[1].size(0), SoftmaxLoss{key_side, query_side}).rows;
    return {query_gradient, key_gradient, temperature_gradient, Tensor()};
  }
};

struct SigmoidState final : torch::CustomClassHolder {
  Problem problem{};  // without queries and keys, which autograd keeps
  Tensor bias{};      // [1] float32
};

class Sigmoid final : public torch::autograd::Function<Sigmoid> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& queries, const Tensor& keys, const Tensor& scale, const Tensor& bias, const c10::intrusive_ptr<SigmoidState>& state) {
    state->problem.scale = scale.detach().reshape({1}).to(queries.device(), at::kFloat);
    state->bias = bias.detach().reshape({1}).to(queries.device(), at::kFloat);
    const Problem problem = with(*state, queries, keys);
    const Tensor losses = floats(problem.scale, {queries.size(0)}), partials = floats(problem.scale, {statistics_geometry(queries.size(0), keys.size(0)).partials});
    problem.with_pairs(false, queries.size(0), [&](const auto& pairs) {
      sigmoid_row_losses(pairs, {data(state->bias), nullptr, nullptr}, data(losses), data(partials), current_stream(problem.queries));
    });
    context->saved_data["state"] = c10::IValue::make_capsule(state);
    context->save_for_backward({queries, keys, scale, bias});
    return losses;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    check_once("tiled_sigmoid");
    const auto state = c10::static_intrusive_pointer_cast<SigmoidState>(context->saved_data["state"].toCapsule());
    const variable_list saved = context->get_saved_variables();
    const Problem problem = with(*state, saved[0], saved[1]);
    const Tensor weight = gradients[0].to(at::kFloat).contiguous();
    Tensor query_gradient, key_gradient, scale_gradient, bias_gradient;
    if (context->needs_input_grad(0) || context->needs_input_grad(2) || context->needs_input_grad(3)) {
      const Gradient gradient = gradient_of(problem, false, saved[0].size(0), SigmoidLoss{data(state->bias), data(weight), nullptr});
      query_gradient = gradient.rows;
      scale_gradient = gradient.scale.reshape(saved[2].sizes()).to(saved[2].options());
      bias_gradient = gradient.similarities.reshape(saved[3].sizes()).to(saved[3].options());
    }
    if (context->needs_input_grad(1)) key_gradient = gradient_of(problem, true, saved[1].size(0), SigmoidLoss{data(state->bias), nullptr, data(weight)}).rows;
    return {query_gradient, key_gradient, scale_gradient, bias_gradient, Tensor()};
  }

 private:
  static Problem with(const SigmoidState& state, const Tensor& queries, const Tensor& keys) {
    Problem full = state.problem;
    full.queries = contiguous(queries);
    full.keys = contiguous(keys);
    return full;
  }
};

}  // namespace

bool has_kernels(const ContrastiveInput& input) { return fits(input.queries, key_count(input)); }

bool has_kernels(const SigmoidInput& input) { return fits(input.queries, input.keys.size(0)); }

ContrastiveLosses tiled_contrastive(const ContrastiveInput& input) {
  check(input.pairs, input.queries, key_count(input), "tiled_contrastive");
  const c10::OptionalDeviceGuard guard(input.queries.device());
  auto state = c10::make_intrusive<ContrastiveState>();
  state->problem.rules = input.pairs;
  state->queue = contiguous(input.queue);
  state->alpha = input.soft.alpha;
  state->both = input.both;
  if (input.soft.alpha > 0) {
    state->problem.teacher_queries = contiguous(input.soft.queries);
    state->problem.teacher_keys = contiguous(input.soft.keys);
  }
  const variable_list losses = Contrastive::apply(input.queries, input.keys, input.temperature, state);
  return {losses[0], input.both ? losses[1] : Tensor()};
}

Tensor tiled_sigmoid(const SigmoidInput& input) {
  check(input.pairs, input.queries, input.keys.size(0), "tiled_sigmoid");
  const c10::OptionalDeviceGuard guard(input.queries.device());
  auto state = c10::make_intrusive<SigmoidState>();
  state->problem.rules = input.pairs;
  return Sigmoid::apply(input.queries, input.keys, input.scale, input.bias, state);
}

}  // namespace fgvl::losses::cuda
