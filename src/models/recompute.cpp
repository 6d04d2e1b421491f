#include "models/recompute.hpp"

#include <algorithm>
#include <utility>

#include "core/torch_compat.hpp"

namespace fgvl::models {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// What backward needs beside the inputs to run a piece once more.
struct Replay final : torch::CustomClassHolder {
  Replay(Piece replayed, const Dropout& dropout, const compat::AutocastSetting& setting, variable_list wanted)
      : piece(std::move(replayed)), before(dropout.copy()), autocast(setting), parameters(std::move(wanted)) {}

  /// As if these were the first tensors; their gradients end there.
  static variable_list leaves_of(const variable_list& tensors) {
    variable_list leaves;
    for (const Tensor& tensor : tensors) leaves.push_back(tensor.detach().set_requires_grad(tensor.requires_grad()));
    return leaves;
  }
  Tensor run(const variable_list& leaves, Dropout& dropout) const {
    const compat::Autocast scope(autocast);
    return piece(leaves, dropout);
  }

  Piece piece;
  Dropout before;                     ///< stands where the piece's draws begin
  compat::AutocastSetting autocast;
  variable_list parameters;           ///< that need a gradient
};

constexpr const char* kReplay = "replay";

/// The parameters are arguments of the function, so that it has gradients to give where no input needs one: behind frozen layers.
class Recompute final : public torch::autograd::Function<Recompute> {
 public:
  /// `differentiated`: the inputs, then the parameters.
  static Tensor forward(AutogradContext* context, const c10::intrusive_ptr<Replay>& replay, Dropout* dropout, at::TensorList differentiated) {
    const variable_list inputs(differentiated.begin(), differentiated.end() - static_cast<std::ptrdiff_t>(replay->parameters.size()));
    context->save_for_backward(inputs);
    context->saved_data[kReplay] = c10::IValue::make_capsule(replay);
    // Recorded, and thrown away with the leaves: kernels of attention are chosen by whether a gradient is wanted, and both runs must take the same.
    const at::AutoGradMode record(true);
    return replay->run(Replay::leaves_of(inputs), *dropout).detach();
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "[gradient_checkpointing] gradients of gradients are not supported; switch gradient_checkpointing off");
    const auto replay = c10::static_intrusive_pointer_cast<Replay>(context->saved_data[kReplay].toCapsule());
    const at::AutoGradMode record(true);
    const variable_list inputs = Replay::leaves_of(context->get_saved_variables());
    Dropout dropout = replay->before.copy();  // a graph that is retained is replayed more than once
    const Tensor output = replay->run(inputs, dropout);
    variable_list wanted;
    for (const Tensor& input : inputs) {
      if (input.requires_grad()) wanted.push_back(input);
    }
    wanted.insert(wanted.end(), replay->parameters.begin(), replay->parameters.end());
    const variable_list found = torch::autograd::grad({output}, wanted, gradients, /*retain_graph=*/std::nullopt, /*create_graph=*/false, /*allow_unused=*/true);
    variable_list result(2);  // of `replay` and `dropout`
    std::size_t next = 0;
    for (const Tensor& input : inputs) result.push_back(input.requires_grad() ? found[next++] : Tensor());
    result.insert(result.end(), found.begin() + static_cast<std::ptrdiff_t>(next), found.end());
    return result;
  }
};

}  // namespace

Tensor recompute(bool checkpointed, const std::shared_ptr<torch::nn::Module>& module, const std::vector<Tensor>& inputs, Dropout& dropout, Piece piece) {
  if (!checkpointed || !at::GradMode::is_enabled()) return piece(inputs, dropout);
  variable_list parameters;
  for (const Tensor& parameter : module->parameters()) {
    if (parameter.requires_grad()) parameters.push_back(parameter);
  }
  if (parameters.empty() && std::none_of(inputs.begin(), inputs.end(), [](const Tensor& input) { return input.requires_grad(); })) return piece(inputs, dropout);
  variable_list differentiated = inputs;
  differentiated.insert(differentiated.end(), parameters.begin(), parameters.end());
  // Without autocast's cache: a weight that is cast while no gradient is recorded must not be used by others, which would lose theirs.
  compat::AutocastSetting autocast = compat::autocast_setting(inputs.front().device().type());
  autocast.cache = false;
  return Recompute::apply(c10::make_intrusive<Replay>(std::move(piece), dropout, autocast, std::move(parameters)), &dropout, at::TensorList(differentiated));
}

}  // namespace fgvl::models
