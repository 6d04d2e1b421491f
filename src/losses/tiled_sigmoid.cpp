#include <limits>

#include <torch/torch.h>

#include "fgvl/losses/tiled_contrastive.hpp"
#include "losses/pair_table.hpp"
#include "losses/tiles.hpp"
#ifdef FGVL_CUDA_KERNELS
#include "losses/cuda/tiled_losses.hpp"
#endif

namespace fgvl::losses {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// What the tiles are cut from, and the gradients of the sum, which the forward pass leaves for the backward pass.
struct State final : torch::CustomClassHolder {
  State(PairTable pairs, at::Device device) : table(std::move(pairs)), tiling(table.queries(), table.keys(), 0, device) {}

  PairTable table;
  Tiling tiling;
  bool with_gradients = false, with_keys = false;  ///< with_keys: those of the keys among them
  Tensor of_queries{}, of_keys{}, of_scale{}, of_bias{};
};

/// The loss of a pair depends on no other pair, unlike a softmax: the forward pass makes of a tile of logits their gradient as soon as it has their losses, so that no tile is kept or computed twice.
class TiledSigmoid final : public torch::autograd::Function<TiledSigmoid> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& queries, const Tensor& keys, const Tensor& scale, const Tensor& bias, const c10::intrusive_ptr<State>& state) {
    context->saved_data["state"] = c10::IValue::make_capsule(state);
    const double factor = scale.item<double>();
    // Negatives need log sigmoid(-logit), so that tiles hold minus the logits and only the few positives are turned round.
    const TileProducts products(queries * -factor, keys, {});
    const Tensor loss = at::zeros({}, queries.options().dtype(at::kDouble)), one = at::ones({}, queries.options());
    const Tensor buffer = state->tiling.buffer(queries), log_buffer = at::empty_like(buffer), exponential_buffer = at::empty_like(buffer);
    if (state->with_gradients) {
      state->of_queries = at::zeros_like(queries, at::MemoryFormat::Contiguous);
      if (state->with_keys) state->of_keys = at::zeros_like(keys, at::MemoryFormat::Contiguous);
      state->of_bias = at::zeros({}, loss.options());
    }
    state->tiling.for_each_tile([&](const PairTable::Tile& tile) {
      Tensor signed_logits = Tiling::view(buffer, tile), logs = Tiling::view(log_buffer, tile), exponentials = Tiling::view(exponential_buffer, tile);
      const TileMarks marks(state->table, tile, queries.device());
      products.into(signed_logits, tile);
      signed_logits.sub_(bias);
      turn_positives(signed_logits, marks);
      marks.fill_ignored(signed_logits, std::numeric_limits<double>::infinity());  // log sigmoid is 0 there, and so is its derivative
      at::log_sigmoid_forward_out(logs, exponentials, signed_logits);
      loss.sub_(logs.sum(1).sum(at::kDouble));
      if (!state->with_gradients) return;
      // -log sigmoid(y z) has the derivative -y sigmoid(-y z) by z; log_sigmoid_backward makes sigmoid(-y z) of y z and, on a CPU, its exponential.
      Tensor& gradient = logs;
      at::log_sigmoid_backward_out(gradient, one.expand_as(signed_logits), signed_logits, exponentials);
      turn_positives(gradient, marks);
      state->of_bias.add_(gradient.sum(1).sum(at::kDouble));
      state->of_queries.narrow(0, tile.query_begin, tile.rows()).addmm_(gradient, products.right_of(tile));
      if (state->with_keys) state->of_keys.narrow(0, tile.key_begin, tile.columns()).addmm_(gradient.t(), products.left_of(tile), 1, -1);
    });
    if (state->with_gradients) {
      // sum over m of gradient * similarity is, row by row, what the query's gradient is before the scale, times the query.
      state->of_scale = (state->of_queries * queries).sum(at::kDouble);
      state->of_queries.mul_(factor);
      context->save_for_backward({scale, bias});
    }
    return loss.to(queries.scalar_type());
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "[tiled_sigmoid] is differentiable once: create_graph is not supported");
    const auto state = c10::static_intrusive_pointer_cast<State>(context->saved_data["state"].toCapsule());
    const variable_list saved = context->get_saved_variables();
    const auto as = [&](const Tensor& of_sum, const Tensor& value) { return (of_sum * gradients[0]).to(value.scalar_type()).view_as(value); };
    return {state->of_queries * gradients[0], state->with_keys ? state->of_keys * gradients[0] : Tensor(), as(state->of_scale, saved[0]), as(state->of_bias, saved[1]), Tensor()};
  }

 private:
  static void turn_positives(Tensor& tile, const TileMarks& marks) {
    if (!marks.positive.defined()) return;
    Tensor flat = tile.view(-1);
    flat.index_copy_(0, marks.positive, -flat.index_select(0, marks.positive));
  }
};

void check(const SigmoidInput& input) {
  const auto check_rows = [&](const Tensor& rows, const char* name) {
    TORCH_CHECK(rows.defined() && rows.dim() == 2 && rows.is_floating_point() && rows.size(1) == input.queries.size(1) && rows.scalar_type() == input.queries.scalar_type() && rows.device() == input.queries.device(),
                "[tiled_sigmoid] ", name, ": expected floating-point rows [_, E], of the width, type and device of queries, got ", rows.defined() ? c10::str(rows.sizes(), " ", rows.scalar_type(), " on ", rows.device()) : "nothing");
  };
  TORCH_CHECK(input.queries.defined() && input.queries.dim() == 2, "[tiled_sigmoid] queries: expected [N, E]");
  check_rows(input.queries, "queries");
  check_rows(input.keys, "keys");
  for (const auto& [scalar, name] : {std::pair<const Tensor&, const char*>{input.scale, "scale"}, {input.bias, "bias"}}) {
    TORCH_CHECK(scalar.defined() && scalar.numel() == 1, "[tiled_sigmoid] ", name, ": expected a scalar, got ", scalar.defined() ? c10::str(scalar.sizes()) : "nothing");
  }
}

}  // namespace

Tensor tiled_sigmoid(const SigmoidInput& input) {
  check(input);
#ifdef FGVL_CUDA_KERNELS
  if (cuda::has_kernels(input)) return cuda::tiled_sigmoid(input);
#endif
  const auto computed = [&](const Tensor& rows) { return rows.scalar_type() == at::kDouble ? rows : rows.to(at::kFloat); };
  const Tensor queries = computed(input.queries);
  const auto state = c10::make_intrusive<State>(PairTable(input.pairs, input.queries.size(0), input.keys.size(0), "tiled_sigmoid"), input.queries.device());
  state->with_gradients = needs_gradients({input.queries, input.keys, input.scale, input.bias});
  state->with_keys = state->with_gradients && input.keys.requires_grad();
  return TiledSigmoid::apply(queries, computed(input.keys), input.scale, input.bias.to(queries.scalar_type()), state);
}

}  // namespace fgvl::losses
