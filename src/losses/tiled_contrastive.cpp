#include "fgvl/losses/tiled_contrastive.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include <torch/torch.h>

#include "losses/pair_table.hpp"
#include "losses/tiles.hpp"
#ifdef FGVL_CUDA_KERNELS
#include "losses/cuda/tiled_losses.hpp"
#endif

// Note [Exponentials of tiles]
// The cross-entropies need log-sum-exps of the logits' rows and columns. With one shift c for all logits, exp(s - c) is computed once a tile and serves rows and columns, forward and backward (the
// probabilities are its products with 1 / row sum and 1 / column sum): one pass where running maxima need two of maxima and two of exponentials. By Cauchy-Schwarz no logit exceeds
// B = max |q| max |k| / temperature, so that c = max(0, B - L) cannot overflow, L being the largest exponent whose sum over a side is finite. What may underflow is checked afterwards, not assumed: a sum
// is exact to rounding as long as all that could have vanished, (number of logits) * (smallest normal number), is below an eighth of an ulp of it. When a sum is smaller, or B so large that this is to be
// expected, maxima are kept as they run and each side has its own exponentials. Unit rows at temperatures from 0.01 (CLIP's limit) pass unless all cosines of a row are below about -0.2.

namespace fgvl::losses {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Largest exponent of which `count` exponentials have a finite sum, and in float32 one whose inverse times a small gradient is still a normal number.
double largest_exponent(at::ScalarType dtype, std::int64_t count) {
  const double largest = dtype == at::kDouble ? std::numeric_limits<double>::max() : std::numeric_limits<float>::max();
  return std::log(largest) - std::log(static_cast<double>(std::max<std::int64_t>(count, 1))) - (dtype == at::kDouble ? 1 : 17);
}

/// Sums of `count` exponentials below this may have lost some to underflow.
double smallest_sum(at::ScalarType dtype, std::int64_t count) {
  const double smallest = dtype == at::kDouble ? std::numeric_limits<double>::min() : std::numeric_limits<float>::min();
  const double epsilon = dtype == at::kDouble ? std::numeric_limits<double>::epsilon() : std::numeric_limits<float>::epsilon();
  return static_cast<double>(count) * smallest * 8 / epsilon;
}

/// The c of Note [Exponentials of tiles], or nothing where maxima are to be kept. `factor`: the largest number by which exponentials are multiplied before they are summed.
std::optional<double> common_shift(const TileProducts& products, std::int64_t count, double factor = 1) {
  const double bound = products.bound(), largest = largest_exponent(products.left().scalar_type(), count) - std::log(std::max(1.0, factor));
  return bound <= 2 * largest ? std::optional(std::max(0.0, bound - largest)) : std::nullopt;
}

/// Sums of exponentials over one side of the tiles that come in: exp(logit - shift), where the shift is common to all or each sum's own largest logit.
class ExponentialSums {
 public:
  ExponentialSums() = default;
  ExponentialSums(std::int64_t count, std::optional<double> shift, at::TensorOptions options) : shift_(shift), sum_(at::zeros({count}, options.dtype(at::kDouble))) {
    if (!shift_) top_ = at::full_like(sum_, -kInfinity);
  }

  /// Exponentials with the common shift; sums run along `dim` of the tile, the first of them is number `begin`.
  void add(const Tensor& exponentials, std::int64_t dim, std::int64_t begin) { sum_.narrow(0, begin, exponentials.size(1 - dim)).add_(exponentials.sum(dim)); }

  /// Logits, -inf where a pair does not count. Leaves exp(logits - largest so far) in `scratch`, and returns by what everything that came before shrinks, [number of sums] float64.
  Tensor add_logits(const Tensor& logits, std::int64_t dim, std::int64_t begin, Tensor& scratch) {
    const std::int64_t count = logits.size(1 - dim);
    Tensor top = top_.narrow(0, begin, count);
    const Tensor next = at::maximum(top, logits.amax(dim).to(at::kDouble)), finite = next.masked_fill(next == -kInfinity, 0.0);
    at::sub_out(scratch, logits, finite.to(logits.scalar_type()).unsqueeze(dim)).exp_();
    const Tensor shrink = at::exp(top - finite);
    sum_.narrow(0, begin, count).mul_(shrink).add_(scratch.sum(dim));
    top.copy_(next);
    return shrink;
  }

  /// out = exp(logits - shift), as when they were added.
  void exponentials_into(Tensor& out, const Tensor& logits, std::int64_t dim, std::int64_t begin) const {
    if (shift_) {
      if (*shift_ != 0) {
        at::sub_out(out, logits, at::scalar_tensor(*shift_, logits.options())).exp_();
      } else {
        at::exp_out(out, logits);
      }
    } else {
      const Tensor top = top_.narrow(0, begin, logits.size(1 - dim));
      at::sub_out(out, logits, top.masked_fill(top == -kInfinity, 0.0).to(logits.scalar_type()).unsqueeze(dim)).exp_();
    }
  }

  const std::optional<double>& shift() const { return shift_; }
  const Tensor& sum() const { return sum_; }
  /// [count] float64; -inf where nothing counted.
  Tensor log() const { return shift_ ? sum_.log() + *shift_ : top_ + sum_.log(); }

 private:
  std::optional<double> shift_{};
  Tensor top_{}, sum_{};
};

/// What one direction knows after the forward pass; all [count] float64.
struct Direction {
  ExponentialSums sums{};
  Tensor positives{};  ///< number of them
  Tensor chosen{};     ///< sum of their logits

  Direction() = default;
  Direction(std::int64_t count, std::optional<double> shift, at::TensorOptions options)
      : sums(count, shift, options), positives(at::zeros({count}, options.dtype(at::kDouble))), chosen(at::zeros_like(positives)) {}

  void add_positives(const Tensor& index, std::int64_t begin, const Tensor& logits) {
    const Tensor place = index + begin;
    chosen.index_add_(0, place, logits);
    positives.index_add_(0, place, at::ones_like(logits));
  }
  Tensor has_positive() const { return positives > 0; }
  bool may_have_underflowed(double smallest) const { return sums.shift() && (sums.sum() < smallest).logical_and(has_positive()).any().item<bool>(); }
  Tensor mean_chosen() const { return chosen / positives.clamp_min(1); }
};

/// What the two passes share.
struct Plan final : torch::CustomClassHolder {
  Plan(const ContrastiveInput& input, PairTable pairs)
      : table(std::move(pairs)), tiling(input.queries.size(0), input.keys.size(0), input.queue.defined() ? input.queue.size(0) : 0, input.queries.device()), both(input.both), alpha(input.soft.alpha) {}

  PairTable table;
  Tiling tiling;
  bool both;
  double alpha;
  Tensor queue{}, teacher_queries{}, teacher_keys{};
  // Set by forward.
  Direction to_keys{}, to_queries{};
  ExponentialSums teacher{};
  std::vector<Tensor> kept{};  ///< exponentials of the first tiles, ignored ones 0: backward needs a product and an exponential less for each
};

struct Work {
  TileProducts products, teacher{};

  Work(const Plan& plan, const Tensor& queries, const Tensor& keys, double temperature) : products(queries / temperature, keys, plan.queue) {
    if (plan.alpha == 0) return;
    const bool own_keys = plan.teacher_keys.defined();
    teacher = TileProducts(plan.teacher_queries / temperature, own_keys ? plan.teacher_keys : keys, own_keys ? Tensor() : plan.queue);
  }
};

/// Fills what forward sets; false when a common shift has lost too much.
bool sum_tiles(Plan& plan, const Work& work, std::optional<double> shift, std::optional<double> teacher_shift, Tensor& teacher_dot) {
  const at::TensorOptions options = work.products.left().options();
  const std::int64_t queries = plan.table.queries(), keys = plan.table.keys();
  plan.to_keys = Direction(queries, shift, options);
  if (plan.both) plan.to_queries = Direction(keys, shift, options);
  plan.kept.clear();
  bool keeps = shift && plan.alpha == 0;  // until there is no room
  const bool soft = plan.alpha > 0;
  if (soft) {
    plan.teacher = ExponentialSums(queries, teacher_shift, options);
    teacher_dot = at::zeros({queries}, options.dtype(at::kDouble));
  }
  const Tensor buffer = plan.tiling.buffer(work.products.left());
  const Tensor scratch_buffer = soft || !shift ? at::empty_like(buffer) : Tensor(), teacher_buffer = soft ? at::empty_like(buffer) : Tensor();
  for (const Tiling::Block& rows : plan.tiling.rows()) {
    plan.tiling.for_each_tile_of(rows, [&](const PairTable::Tile& tile) {
      const TileMarks marks(plan.table, tile, options.device());
      keeps = keeps && plan.tiling.has_room_for(tile, plan.kept);
      Tensor logits = keeps ? at::empty({tile.rows(), tile.columns()}, options) : Tiling::view(buffer, tile);
      Tensor scratch = scratch_buffer.defined() ? Tiling::view(scratch_buffer, tile) : Tensor();
      work.products.into(logits, tile);
      if (marks.positive.defined()) {
        const Tensor chosen = logits.view(-1).index_select(0, marks.positive).to(at::kDouble);
        plan.to_keys.add_positives(marks.positive_row, tile.query_begin, chosen);
        if (plan.both) plan.to_queries.add_positives(marks.positive_column, tile.key_begin, chosen);
      }
      if (soft) {
        Tensor teacher = Tiling::view(teacher_buffer, tile), dot = teacher_dot.narrow(0, tile.query_begin, tile.rows());
        work.teacher.into(teacher, tile);
        if (teacher_shift) {
          plan.teacher.exponentials_into(teacher, teacher, 1, tile.query_begin);
          marks.fill_ignored(teacher, 0.0);
          plan.teacher.add(teacher, 1, tile.query_begin);
          at::mul_out(scratch, teacher, logits);
        } else {
          marks.fill_ignored(teacher, -kInfinity);
          dot.mul_(plan.teacher.add_logits(teacher, 1, tile.query_begin, scratch));
          scratch.mul_(logits);
        }
        dot.add_(scratch.sum(1));
      }
      if (shift) {
        plan.to_keys.sums.exponentials_into(logits, logits, 1, tile.query_begin);
        marks.fill_ignored(logits, 0.0);
        plan.to_keys.sums.add(logits, 1, tile.query_begin);
        if (plan.both) plan.to_queries.sums.add(logits, 0, tile.key_begin);
        if (keeps) plan.kept.push_back(logits);
      } else {
        marks.fill_ignored(logits, -kInfinity);
        plan.to_keys.sums.add_logits(logits, 1, tile.query_begin, scratch);
        if (plan.both) plan.to_queries.sums.add_logits(logits, 0, tile.key_begin, scratch);
      }
    });
  }
  const double smallest = smallest_sum(work.products.left().scalar_type(), std::max(queries, keys));
  if (plan.to_keys.may_have_underflowed(smallest) || (plan.both && plan.to_queries.may_have_underflowed(smallest))) return false;
  return !soft || !teacher_shift || !(plan.teacher.sum() < smallest).logical_and(plan.to_keys.has_positive()).any().item<bool>();
}

/// What exponentials are multiplied by to become probabilities times the gradient of each loss; 0 where there is no positive.
Tensor scale_of(const Tensor& gradient, const Tensor& sum, const Tensor& has_positive, at::ScalarType dtype) {
  return at::where(has_positive, gradient.to(at::kDouble) / sum, at::zeros({}, sum.options())).to(dtype);
}

class TiledContrastive final : public torch::autograd::Function<TiledContrastive> {
 public:
  static variable_list forward(AutogradContext* context, const Tensor& queries, const Tensor& keys, const Tensor& temperature, const c10::intrusive_ptr<Plan>& shared) {
    Plan& plan = *shared;
    const Work work(plan, queries, keys, temperature.item<double>());
    const std::int64_t count = std::max(plan.table.queries(), plan.table.keys());
    const bool soft = plan.alpha > 0;
    Tensor teacher_dot;
    const std::optional<double> shift = common_shift(work.products, count), teacher_shift = soft ? common_shift(work.teacher, count, work.products.bound()) : std::nullopt;
    if (!sum_tiles(plan, work, shift, teacher_shift, teacher_dot)) sum_tiles(plan, work, std::nullopt, std::nullopt, teacher_dot);

    context->saved_data["plan"] = c10::IValue::make_capsule(shared);
    context->save_for_backward({queries, keys, temperature});
    const Tensor zero = at::zeros({}, plan.to_keys.chosen.options());
    Tensor to_keys = plan.to_keys.sums.log() - (1 - plan.alpha) * plan.to_keys.mean_chosen();
    if (soft) to_keys = to_keys - plan.alpha * teacher_dot / plan.teacher.sum();
    variable_list losses{at::where(plan.to_keys.has_positive(), to_keys, zero).to(queries.scalar_type())};
    if (plan.both) losses.push_back(at::where(plan.to_queries.has_positive(), plan.to_queries.sums.log() - plan.to_queries.mean_chosen(), zero).to(queries.scalar_type()));
    return losses;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "[tiled_contrastive] is differentiable once: create_graph is not supported");
    const auto shared = c10::static_intrusive_pointer_cast<Plan>(context->saved_data["plan"].toCapsule());
    const Plan& plan = *shared;
    const variable_list saved = context->get_saved_variables();
    const Tensor &queries = saved[0], &keys = saved[1];
    const double temperature = saved[2].item<double>();
    const bool left_needed = context->needs_input_grad(0) || context->needs_input_grad(2), right_needed = context->needs_input_grad(1);
    const Work work(plan, queries, keys, temperature);
    const at::ScalarType dtype = queries.scalar_type();
    const Tensor row_scale = scale_of(gradients[0], plan.to_keys.sums.sum(), plan.to_keys.has_positive(), dtype);
    const Tensor row_target = (gradients[0].to(at::kDouble) * (1 - plan.alpha) / plan.to_keys.positives.clamp_min(1)).to(dtype);
    Tensor column_scale, column_target, teacher_scale;
    if (plan.both) {
      column_scale = scale_of(gradients[1], plan.to_queries.sums.sum(), plan.to_queries.has_positive(), dtype);
      column_target = (gradients[1].to(at::kDouble) / plan.to_queries.positives.clamp_min(1)).to(dtype);
    }
    if (plan.alpha > 0) teacher_scale = scale_of(gradients[0] * plan.alpha, plan.teacher.sum(), plan.to_keys.has_positive(), dtype);

    Tensor query_gradient = left_needed ? at::zeros_like(queries, at::MemoryFormat::Contiguous) : Tensor(), key_gradient = right_needed ? at::zeros_like(keys, at::MemoryFormat::Contiguous) : Tensor();
    Tensor temperature_gradient = at::zeros({}, queries.options().dtype(at::kDouble));
    const Tensor buffer = plan.tiling.buffer(queries), scratch_buffer = at::empty_like(buffer);
    std::size_t visited = 0;
    for (const Tiling::Block& rows : plan.tiling.rows()) {
      plan.tiling.for_each_tile_of(rows, [&](const PairTable::Tile& tile) {
        const TileMarks marks(plan.table, tile, queries.device());
        Tensor gradient = Tiling::view(buffer, tile), scratch = Tiling::view(scratch_buffer, tile);
        const Tensor by_row = row_scale.narrow(0, tile.query_begin, tile.rows()).unsqueeze(1);
        const Tensor by_column = plan.both ? column_scale.narrow(0, tile.key_begin, tile.columns()).unsqueeze(0) : Tensor();
        gradient_of_logits(plan, work, tile, marks, visited < plan.kept.size() ? plan.kept[visited] : Tensor(), by_row, by_column, gradient, scratch);
        ++visited;
        if (marks.positive.defined()) {
          Tensor target = row_target.narrow(0, tile.query_begin, tile.rows()).index_select(0, marks.positive_row);
          if (plan.both) target = target + column_target.narrow(0, tile.key_begin, tile.columns()).index_select(0, marks.positive_column);
          gradient.view(-1).index_add_(0, marks.positive, target, -1);
        }
        if (plan.alpha > 0) {
          work.teacher.into(scratch, tile);
          plan.teacher.exponentials_into(scratch, scratch, 1, tile.query_begin);
          marks.fill_ignored(scratch, 0.0);
          gradient.addcmul_(scratch, teacher_scale.narrow(0, tile.query_begin, tile.rows()).unsqueeze(1), -1);
        }
        if (left_needed) query_gradient.narrow(0, tile.query_begin, tile.rows()).addmm_(gradient, work.products.right_of(tile));
        if (right_needed && !work.products.is_queue(tile)) key_gradient.narrow(0, tile.key_begin, tile.columns()).addmm_(gradient.t(), work.products.left_of(tile));
      });
      if (!left_needed) continue;
      // d logits / d temperature = -logits / temperature, and sum_m gradient * logits is the query's gradient times the query.
      const std::int64_t count = rows.end - rows.begin;
      Tensor of_rows = query_gradient.narrow(0, rows.begin, count);
      temperature_gradient.sub_((of_rows * work.products.left().narrow(0, rows.begin, count)).sum(at::kDouble) / temperature);
      of_rows.div_(temperature);
    }
    return {query_gradient, key_gradient, temperature_gradient.to(saved[2].scalar_type()).view_as(saved[2]), Tensor()};
  }

 private:
  /// gradient = probability * gradient of the loss, of both directions together, before targets; 0 where ignored.
  static void gradient_of_logits(const Plan& plan, const Work& work, const PairTable::Tile& tile, const TileMarks& marks, const Tensor& kept, const Tensor& by_row, const Tensor& by_column,
                                 Tensor& gradient, Tensor& scratch) {
    if (plan.to_keys.sums.shift()) {
      Tensor exponentials = kept;
      if (!exponentials.defined()) {
        work.products.into(gradient, tile);
        plan.to_keys.sums.exponentials_into(gradient, gradient, 1, tile.query_begin);
        marks.fill_ignored(gradient, 0.0);
        exponentials = gradient;
      }
      if (plan.both) {
        at::mul_out(gradient, exponentials, at::add_out(scratch, by_row, by_column));
      } else {
        at::mul_out(gradient, exponentials, by_row);
      }
      return;
    }
    work.products.into(scratch, tile);
    plan.to_keys.sums.exponentials_into(gradient, scratch, 1, tile.query_begin);
    gradient.mul_(by_row);
    if (plan.both) {
      plan.to_queries.sums.exponentials_into(scratch, scratch, 0, tile.key_begin);
      gradient.addcmul_(scratch, by_column);
    }
    marks.fill_ignored(gradient, 0.0);
  }
};

void check(const ContrastiveInput& input) {
  const auto check_rows = [&](const Tensor& rows, const char* name) {
    TORCH_CHECK(rows.defined() && rows.dim() == 2 && rows.is_floating_point(), "[tiled_contrastive] ", name, ": expected floating-point rows [_, E], got ",
                rows.defined() ? c10::str(rows.sizes(), " ", rows.scalar_type()) : "nothing");
    TORCH_CHECK(rows.size(1) == input.queries.size(1), "[tiled_contrastive] ", name, ": expected width ", input.queries.size(1), " as queries, got ", rows.sizes());
    TORCH_CHECK(rows.scalar_type() == input.queries.scalar_type() && rows.device() == input.queries.device(), "[tiled_contrastive] ", name, ": expected ", input.queries.scalar_type(), " on ",
                input.queries.device(), " as queries, got ", rows.scalar_type(), " on ", rows.device());
  };
  check_rows(input.queries, "queries");
  check_rows(input.keys, "keys");
  if (input.queue.defined()) check_rows(input.queue, "queue");
  TORCH_CHECK(input.temperature.defined() && input.temperature.numel() == 1, "[tiled_contrastive] temperature: expected a scalar, got ",
              input.temperature.defined() ? c10::str(input.temperature.sizes()) : "nothing");
  TORCH_CHECK(!input.both || (!input.queue.defined() && input.soft.alpha == 0), "[tiled_contrastive] both: the directions share their product only without a queue and soft targets");
  TORCH_CHECK(input.soft.alpha >= 0 && input.soft.alpha <= 1, "[tiled_contrastive] soft.alpha: expected a share from 0 to 1, got ", input.soft.alpha);
  if (input.soft.alpha == 0) return;
  const std::int64_t keys = input.keys.size(0) + (input.queue.defined() ? input.queue.size(0) : 0);
  check_rows(input.soft.queries, "soft.queries");
  TORCH_CHECK(input.soft.queries.size(0) == input.queries.size(0), "[tiled_contrastive] soft.queries: expected ", input.queries.size(0), " rows as queries, got ", input.soft.queries.sizes());
  if (!input.soft.keys.defined()) return;
  check_rows(input.soft.keys, "soft.keys");
  TORCH_CHECK(input.soft.keys.size(0) == keys, "[tiled_contrastive] soft.keys: expected ", keys, " rows as keys and queue, got ", input.soft.keys.sizes());
}

}  // namespace

ContrastiveLosses tiled_contrastive(const ContrastiveInput& input) {
  check(input);
#ifdef FGVL_CUDA_KERNELS
  if (cuda::has_kernels(input)) return cuda::tiled_contrastive(input);
#endif
  const at::ScalarType given = input.queries.scalar_type();
  const auto computed = [&](const Tensor& rows) { return rows.defined() && given != at::kDouble ? rows.to(at::kFloat) : rows; };
  const std::int64_t keys = input.keys.size(0) + (input.queue.defined() ? input.queue.size(0) : 0);
  auto plan = c10::make_intrusive<Plan>(input, PairTable(input.pairs, input.queries.size(0), keys, "tiled_contrastive"));
  const auto without_gradient = [&](const Tensor& rows) { return rows.defined() ? computed(rows.detach()) : rows; };
  plan->queue = without_gradient(input.queue);
  plan->teacher_queries = without_gradient(input.soft.queries);
  plan->teacher_keys = without_gradient(input.soft.keys);
  const variable_list losses = TiledContrastive::apply(computed(input.queries), computed(input.keys), input.temperature, plan);
  return {losses[0], input.both ? losses[1] : Tensor()};
}

}  // namespace fgvl::losses
