#include <limits>
#include <vector>

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

struct Plan final : torch::CustomClassHolder {
  Plan(PairTable pairs, at::Device device) : table(std::move(pairs)), tiling(table.queries(), table.keys(), 0, device) {}

  PairTable table;
  Tiling tiling;
  std::vector<Tensor> kept{};  ///< signed logits of the first tiles, set by forward
};

class TiledSigmoid final : public torch::autograd::Function<TiledSigmoid> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& queries, const Tensor& keys, const Tensor& scale, const Tensor& bias, const c10::intrusive_ptr<Plan>& plan) {
    context->saved_data["plan"] = c10::IValue::make_capsule(plan);
    context->save_for_backward({queries, keys, scale, bias});
    // Negatives need log sigmoid(-logit), so that tiles hold minus the logits and only the few positives are turned round.
    const TileProducts products(queries * -scale.item<double>(), keys, {});
    const Tensor losses = at::zeros({plan->table.queries()}, queries.options().dtype(at::kDouble));
    const Tensor buffer = plan->tiling.buffer(queries), log_buffer = at::empty_like(buffer), scratch_buffer = at::empty_like(buffer);
    bool keeps = true;  // until there is no room
    plan->tiling.for_each_tile([&](const PairTable::Tile& tile) {
      keeps = keeps && plan->tiling.has_room_for(tile, plan->kept);
      Tensor signed_logits = keeps ? at::empty({tile.rows(), tile.columns()}, queries.options()) : Tiling::view(buffer, tile);
      Tensor logs = Tiling::view(log_buffer, tile), scratch = Tiling::view(scratch_buffer, tile);
      const TileMarks marks(plan->table, tile, queries.device());
      products.into(signed_logits, tile);
      signed_logits.sub_(bias);
      if (marks.positive.defined()) {
        Tensor flat = signed_logits.view(-1);
        flat.index_copy_(0, marks.positive, -flat.index_select(0, marks.positive));
      }
      marks.fill_ignored(signed_logits, std::numeric_limits<double>::infinity());  // log sigmoid is 0 there
      at::log_sigmoid_forward_out(logs, scratch, signed_logits);
      losses.narrow(0, tile.query_begin, tile.rows()).sub_(logs.sum(1));
      if (keeps) plan->kept.push_back(signed_logits);
    });
    return losses.to(queries.scalar_type());
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "[tiled_sigmoid] is differentiable once: create_graph is not supported");
    const auto plan = c10::static_intrusive_pointer_cast<Plan>(context->saved_data["plan"].toCapsule());
    const variable_list saved = context->get_saved_variables();
    const Tensor &queries = saved[0], &keys = saved[1], &bias = saved[3];
    const double scale = saved[2].item<double>();
    const TileProducts products(queries * scale, keys, {});
    const Tensor query_gradient = at::zeros_like(queries, at::MemoryFormat::Contiguous), key_gradient = at::zeros_like(keys, at::MemoryFormat::Contiguous);
    const Tensor bias_gradient = at::zeros({}, queries.options().dtype(at::kDouble)), buffer = plan->tiling.buffer(queries);
    std::size_t visited = 0;
    plan->tiling.for_each_tile([&](const PairTable::Tile& tile) {
      Tensor gradient = Tiling::view(buffer, tile);
      const TileMarks marks(plan->table, tile, queries.device());
      if (visited < plan->kept.size()) {
        // -log sigmoid(y z) has the derivative -y sigmoid(-y z), and y z is kept; infinite where ignored, which gives 0.
        at::neg_out(gradient, plan->kept[visited]).sigmoid_();
        if (marks.positive.defined()) {
          Tensor flat = gradient.view(-1);
          flat.index_copy_(0, marks.positive, -flat.index_select(0, marks.positive));
        }
      } else {
        products.into(gradient, tile);
        gradient.add_(bias).sigmoid_();
        // -log sigmoid(z) has the derivative sigmoid(z) - 1, -log sigmoid(-z) has sigmoid(z).
        if (marks.positive.defined()) gradient.view(-1).index_add_(0, marks.positive, at::ones_like(marks.positive, gradient.options()), -1);
        marks.fill_ignored(gradient, 0.0);
      }
      ++visited;
      gradient.mul_(gradients[0].narrow(0, tile.query_begin, tile.rows()).unsqueeze(1));
      bias_gradient.add_(gradient.sum(at::kDouble));
      query_gradient.narrow(0, tile.query_begin, tile.rows()).addmm_(gradient, products.right_of(tile));
      key_gradient.narrow(0, tile.key_begin, tile.columns()).addmm_(gradient.t(), products.left_of(tile));
    });
    // sum_m gradient * similarity is, row by row, what the query's gradient is before the scale, times the query.
    const Tensor scale_gradient = (query_gradient * queries).sum(at::kDouble);
    return {query_gradient * scale, key_gradient, scale_gradient.to(saved[2].scalar_type()).view_as(saved[2]), bias_gradient.to(bias.scalar_type()).view_as(bias), Tensor()};
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
  const auto plan = c10::make_intrusive<Plan>(PairTable(input.pairs, input.queries.size(0), input.keys.size(0), "tiled_sigmoid"), input.queries.device());
  return TiledSigmoid::apply(queries, computed(input.keys), input.scale, input.bias.to(queries.scalar_type()), plan);
}

}  // namespace fgvl::losses
