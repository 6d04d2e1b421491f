#include "models/dropout.hpp"

#include <algorithm>
#include <cmath>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>

#include "core/wide_clones.hpp"

namespace fgvl::models {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// Note [Dropout on CPUs]
// ATen draws Bernoulli numbers one after the other from a Mersenne Twister, 11 ns each: a tenth of a small model's step. Here an element's draw is a hash of its place and of a key, which is one draw from the stage's
// generator; eight of them at a time where the processor can. Nothing is kept for the way back, which draws the same once more, and how many threads share a tensor changes nothing.

constexpr std::int64_t kGrain = 32768;  // elements for which another thread is worth while

/// Two keys of 32 bits, and what is done with the elements they drop.
struct Draw {
  std::uint32_t first, second;
  std::uint32_t least_kept;
  double factor;  ///< of those that are kept
};

/// 32 random bits for `place`: the integer hash "lowbias32" (C. Wellons, "Prospecting for Hash Functions", 2018), keyed before each multiplication.
[[gnu::always_inline]] inline std::uint32_t bits_at(const Draw& draw, std::uint32_t place) {
  std::uint32_t bits = place ^ draw.first;
  bits = (bits ^ (bits >> 16)) * 0x7FEB352Du;
  bits ^= draw.second;
  bits = (bits ^ (bits >> 15)) * 0x846CA68Bu;
  return bits ^ (bits >> 16);
}

/// What is dropped becomes 0 by a multiplication, so that a NaN stays one.
template <typename Scalar>
[[gnu::always_inline]] inline void drop_one_by_one(const Scalar* __restrict in, Scalar* __restrict out, std::int64_t count, const Draw draw, std::uint32_t place) {
  using Number = at::opmath_type<Scalar>;
  const auto factor = static_cast<Number>(draw.factor);
  for (std::int64_t i = 0; i < count; ++i) {
    const Number kept = bits_at(draw, place + static_cast<std::uint32_t>(i)) >= draw.least_kept ? factor : Number(0);
    out[i] = static_cast<Scalar>(static_cast<Number>(in[i]) * kept);
  }
}

template <typename Scalar>
void drop(const Scalar* in, Scalar* out, std::int64_t count, const Draw& draw, std::uint32_t place) {
  drop_one_by_one(in, out, count, draw, place);
}
FGVL_WIDE_CLONES void drop(const float* in, float* out, std::int64_t count, const Draw& draw, std::uint32_t place) { drop_one_by_one(in, out, count, draw, place); }

Tensor dropped(const Tensor& input, std::uint64_t key, double probability) {
  const Tensor source = input.contiguous();
  Tensor result = at::empty_like(source);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, source.scalar_type(), "dropout", [&] {
    const scalar_t* in = source.const_data_ptr<scalar_t>();
    scalar_t* out = result.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, source.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
      // Elements 2^32 apart share a place, not the key.
      for (std::int64_t next = 0; begin < end; begin = next) {
        next = std::min(end, ((begin >> 32) + 1) << 32);
        const Draw draw{static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32) + static_cast<std::uint32_t>(begin >> 32), static_cast<std::uint32_t>(std::llround(std::ldexp(probability, 32))),
                        1 / (1 - probability)};
        drop(in + begin, out + begin, next - begin, draw, static_cast<std::uint32_t>(begin));
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
