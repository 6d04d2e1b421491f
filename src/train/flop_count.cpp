#include "train/flop_count.hpp"

#include <string_view>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/record_function.h>

namespace fgvl::train {
namespace {

thread_local double counted = 0;

double product(at::IntArrayRef sizes, std::size_t begin = 0) {
  double numbers = 1;
  for (std::size_t i = begin; i < sizes.size(); ++i) numbers *= static_cast<double>(sizes[i]);
  return numbers;
}

double last(const at::Tensor& tensor) { return static_cast<double>(tensor.size(-1)); }

/// [..., n, m] x [..., m, p].
double of_matrices(const at::Tensor& a, const at::Tensor& b) { return 2 * product(a.sizes()) * last(b); }

/// Of one output value of a convolution: weight is [out, in / groups, kernel...].
double of_convolution(double outputs, const at::Tensor& weight) { return 2 * outputs * product(weight.sizes(), 1); }

double of_attention(const at::Tensor& query, const at::Tensor& key) { return 4 * product(query.sizes()) * static_cast<double>(key.size(-2)); }

double flops_of(std::string_view name, c10::ArrayRef<const c10::IValue> inputs) {
  const auto tensor = [&](std::size_t i) { return inputs[i].toTensor(); };
  if (name == "aten::mm" || name == "aten::bmm") return of_matrices(tensor(0), tensor(1));
  if (name == "aten::addmm" || name == "aten::addmm_" || name == "aten::baddbmm") return of_matrices(tensor(1), tensor(2));
  if (name == "aten::convolution") {
    const at::Tensor input = tensor(0), weight = tensor(1);
    const auto stride = inputs[3].toIntVector(), padding = inputs[4].toIntVector(), dilation = inputs[5].toIntVector();
    double outputs = static_cast<double>(input.size(0) * weight.size(0));
    for (std::size_t i = 0; i + 2 < static_cast<std::size_t>(input.dim()); ++i) {
      const auto of = [&](const std::vector<std::int64_t>& values) { return values[values.size() == 1 ? 0 : i]; };
      const auto axis = static_cast<std::int64_t>(i) + 2;
      outputs *= static_cast<double>((input.size(axis) + 2 * of(padding) - of(dilation) * (weight.size(axis) - 1) - 1) / of(stride) + 1);
    }
    return of_convolution(outputs, weight);
  }
  if (name == "aten::convolution_backward") {
    const auto wanted = inputs.back().toBoolList();  // of input, weight and bias, of which the last is a sum
    return (static_cast<double>(wanted.get(0)) + static_cast<double>(wanted.get(1))) * of_convolution(product(tensor(0).sizes()), tensor(2));
  }
  if (name == "aten::_scaled_dot_product_flash_attention_for_cpu") return of_attention(tensor(0), tensor(1));
  if (name == "aten::_scaled_dot_product_flash_attention_for_cpu_backward") return 2.5 * of_attention(tensor(1), tensor(2));  // five products instead of two: the weights are made again
  return 0;
}

std::unique_ptr<at::ObserverContext> count(const at::RecordFunction& function) {
  counted += flops_of(function.name(), function.inputs());
  return nullptr;
}

}  // namespace

FlopCount::FlopCount() {
  counted = 0;
  handle_ = at::addThreadLocalCallback(at::RecordFunctionCallback(count).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
}

FlopCount::~FlopCount() { at::removeCallback(handle_); }

double FlopCount::flops() const { return counted; }

}  // namespace fgvl::train
