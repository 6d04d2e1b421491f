#include "models/dropout.hpp"

#include <cmath>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>

namespace fgvl::models {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// Note [Dropout on CPUs]
// ATen draws Bernoulli numbers one after the other from a Mersenne Twister, 11 ns each: a tenth of a small model's step. Here an element's draw is half a word of SplitMix64 (Steele et al., OOPSLA 2014), 1 ns each, and
// a function of the element's place and of a key, which is one draw from the stage's generator. Nothing is kept for the way back, which draws the same once more, and how many threads share a tensor changes nothing.

constexpr std::int64_t kGrain = 16384;  // words for which another thread is worth while

/// Word `place` of the sequence that starts at `key`.
std::uint64_t word_at(std::uint64_t key, std::uint64_t place) {
  std::uint64_t word = key + (place + 1) * 0x9E3779B97F4A7C15ull;
  word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9ull;
  word = (word ^ (word >> 27)) * 0x94D049BB133111EBull;
  return word ^ (word >> 31);
}

Tensor dropped(const Tensor& input, std::uint64_t key, double probability) {
  const Tensor source = input.contiguous();
  Tensor result = at::empty_like(source);
  const std::int64_t count = source.numel();
  const auto least_kept = static_cast<std::uint32_t>(std::llround(std::ldexp(probability, 32)));
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, source.scalar_type(), "dropout", [&] {
    using Number = at::opmath_type<scalar_t>;
    const scalar_t* in = source.const_data_ptr<scalar_t>();
    scalar_t* out = result.mutable_data_ptr<scalar_t>();
    const Number factors[2] = {0, static_cast<Number>(1 / (1 - probability))};  // looked up, because a branch would be guessed wrong at every dropped element
    at::parallel_for(0, (count + 1) / 2, kGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::uint64_t word = word_at(key, static_cast<std::uint64_t>(i));
        const std::int64_t even = 2 * i, odd = even + 1;
        out[even] = static_cast<scalar_t>(static_cast<Number>(in[even]) * factors[static_cast<std::uint32_t>(word) >= least_kept]);
        if (odd < count) out[odd] = static_cast<scalar_t>(static_cast<Number>(in[odd]) * factors[static_cast<std::uint32_t>(word >> 32) >= least_kept]);
      }
    });
  });
  return result;
}

/// dropped(), which is linear in `input`: its gradient is the same function of the gradient.
class Dropped final : public Function<Dropped> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& input, std::int64_t key, double probability) {
    context->saved_data["key"] = key;
    context->saved_data["probability"] = probability;
    return dropped(input, static_cast<std::uint64_t>(key), probability);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    return {Dropped::apply(gradients[0], context->saved_data["key"].toInt(), context->saved_data["probability"].toDouble()), Tensor(), Tensor()};
  }
};

}  // namespace

Tensor Dropout::operator()(const Tensor& input, double probability) {
  if (!drops(probability)) return input;
  if (input.is_cpu()) return Dropped::apply(input, static_cast<std::int64_t>(at::check_generator<at::CPUGeneratorImpl>(generator_)->random64()), probability);
  const Tensor kept = at::empty_like(input).bernoulli_(1 - probability, generator_);
  return input * kept.mul_(1 / (1 - probability));
}

}  // namespace fgvl::models
