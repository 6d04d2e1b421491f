#include "fgvl/core/random.hpp"

#include <cmath>
#include <numbers>

#include "core/torch_compat.hpp"

namespace fgvl {
namespace {

/// SplitMix64's finaliser (Steele et al., OOPSLA 2014): spreads every bit of the key over the whole word.
std::uint64_t mixed(std::uint64_t value) {
  value += 0x9E3779B97F4A7C15ull;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ull;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBull;
  return value ^ (value >> 31);
}

/// FNV-1a, 64 bits.
std::uint64_t hashed(std::string_view text) {
  std::uint64_t hash = 0xCBF29CE484222325ull;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
  return hash;
}

}  // namespace

Generator::Generator(const GeneratorKey& key) {
  const std::uint64_t stream = mixed(mixed(mixed(key.seed) ^ key.epoch) ^ hashed(key.purpose));
  const std::uint64_t start = mixed(key.sample ^ mixed(stream));
  key_[0] = static_cast<std::uint32_t>(stream);
  key_[1] = static_cast<std::uint32_t>(stream >> 32);
  // The low half of the counter counts blocks, the high half separates samples of one stream.
  counter_[0] = counter_[1] = 0;
  counter_[2] = static_cast<std::uint32_t>(start);
  counter_[3] = static_cast<std::uint32_t>(start >> 32);
}

void Generator::refill() {
  philox_4x32_10(counter_, key_, block_);
  if (++counter_[0] == 0) ++counter_[1];
  used_ = 0;
}

std::uint32_t Generator::next() {
  if (used_ == 4) refill();
  return block_[used_++];
}

std::uint64_t Generator::next_64() {
  const std::uint64_t high = next();  // a statement of its own: which of two calls in one expression runs first is the compiler's choice
  return (high << 32) | next();
}

double Generator::uniform() {
  const std::uint64_t high = next() >> 5, low = next() >> 6;  // in this order: declarators of one declaration are evaluated one after the other
  return static_cast<double>(high * 67108864ull + low) * (1.0 / 9007199254740992.0);
}

double Generator::uniform(double low, double high) { return low + (high - low) * uniform(); }

std::int64_t Generator::uniform_int(std::int64_t low, std::int64_t high) {
  TORCH_CHECK(low <= high, "[Generator::uniform_int] expected low <= high, got ", low, " and ", high);
  const std::uint64_t range = static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low) + 1;
  if (range == 0) return static_cast<std::int64_t>(next_64());  // the whole 64-bit range
  // Values below `skewed` would make the small remainders more likely.
  const std::uint64_t skewed = (0 - range) % range;
  std::uint64_t value = next_64();
  while (value < skewed) value = next_64();
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(low) + value % range);
}

bool Generator::bernoulli(double probability) { return uniform() < probability; }

double Generator::normal() {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
  return radius * std::cos(2.0 * std::numbers::pi * uniform());
}

at::Generator Generator::torch_generator(at::Device device) {
  return compat::make_generator(device, next_64());
}

void philox_4x32_10(const std::uint32_t counter[4], const std::uint32_t key[2], std::uint32_t out[4]) {
  std::uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]};
  std::uint32_t k0 = key[0], k1 = key[1];
  for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
    const std::uint64_t a = 0xD2511F53ull * c[0], b = 0xCD9E8D57ull * c[2];
    const std::uint32_t next[4] = {static_cast<std::uint32_t>(b >> 32) ^ c[1] ^ k0, static_cast<std::uint32_t>(b), static_cast<std::uint32_t>(a >> 32) ^ c[3] ^ k1,
                                   static_cast<std::uint32_t>(a)};
    for (int i = 0; i < 4; ++i) c[i] = next[i];
  }
  for (int i = 0; i < 4; ++i) out[i] = c[i];
}

}  // namespace fgvl
