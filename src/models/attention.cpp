#include "models/attention.hpp"

#include <cmath>
#include <optional>

namespace fgvl::models {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

/// [N, heads, A, B] x [N, heads, B, C], times `scale`.
Tensor scaled_product(const Tensor& a, const Tensor& b, double scale) {
  const Tensor product = at::baddbmm(at::empty({1, 1, 1}, a.options()), a.flatten(0, 1), b.flatten(0, 1), /*beta=*/0, scale);
  return product.view({a.size(0), a.size(1), a.size(2), b.size(3)});
}

/// scale q k^T + mask. Left to autograd, the gradient of keys is made transposed and copied, and that of the product is scaled in a pass of its own over all scores.
class ScaledScores final : public Function<ScaledScores> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& query, const Tensor& key, const std::optional<Tensor>& mask, double scale) {
    context->save_for_backward({query, key});
    context->saved_data["scale"] = scale;
    const Tensor scores = at::matmul(query, key.transpose(2, 3));
    if (!mask) return scores * scale;
    context->saved_data["mask"] = mask->sizes();
    return at::add(mask->to(scores.scalar_type()), scores, scale);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const Tensor &query = saved[0], &key = saved[1], of_scores = gradients[0].to(query.scalar_type());
    const double scale = context->saved_data["scale"].toDouble();
    const bool is_learned = context->saved_data.count("mask") > 0 && context->needs_input_grad(2);
    return {scaled_product(of_scores, key, scale), scaled_product(of_scores.transpose(2, 3), query, scale),
            is_learned ? at::sum_to(gradients[0], context->saved_data["mask"].toIntVector()) : Tensor(), Tensor()};
  }
};

}  // namespace

Tensor weights_of_heads(const Tensor& query, const Tensor& key, const Tensor& mask) {
  return ScaledScores::apply(query, key, mask.defined() ? std::optional(mask) : std::nullopt, 1.0 / std::sqrt(static_cast<double>(query.size(3)))).softmax(3);
}

}  // namespace fgvl::models
