#include <set>

#include <torch/torch.h>

#include "fgvl/core/device.hpp"
#include "fgvl/core/random.hpp"
#include "support/catch.hpp"

namespace fgvl {
namespace {

TEST_CASE("philox_4x32_10 equals the known answers of its authors", "[core]") {
  // Random123 (Salmon et al., SC 2011), kat_vectors, philox4x32 10.
  const std::uint32_t zero_counter[4] = {0, 0, 0, 0}, zero_key[2] = {0, 0};
  std::uint32_t out[4];
  philox_4x32_10(zero_counter, zero_key, out);
  CHECK(std::vector<std::uint32_t>(out, out + 4) == std::vector<std::uint32_t>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  const std::uint32_t ones_counter[4] = {~0u, ~0u, ~0u, ~0u}, ones_key[2] = {~0u, ~0u};
  philox_4x32_10(ones_counter, ones_key, out);
  CHECK(std::vector<std::uint32_t>(out, out + 4) == std::vector<std::uint32_t>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
}

TEST_CASE("Generator: the numbers of one key are these, with every compiler", "[core]") {
  // Written down once from this implementation: a change here changes every run that anybody repeats.
  Generator generator({.seed = 1, .epoch = 2, .sample = 3, .purpose = "crop"});
  CHECK(generator.next() == 2264244713u);
  CHECK(generator.next_64() == 17072707833781803444ull);
  CHECK(generator.uniform() == Approx(0.29318134624348846).epsilon(1e-15));
  CHECK(generator.uniform_int(0, 1000000) == 949689);
}

TEST_CASE("Generator: equal keys give equal numbers, any difference gives others", "[core]") {
  const GeneratorKey key{.seed = 1, .epoch = 2, .sample = 3, .purpose = "crop"};
  const auto first = [](GeneratorKey of) { return Generator(of).next(); };
  CHECK(first(key) == first(key));
  std::set<std::uint32_t> different = {first(key)};
  for (GeneratorKey other : {GeneratorKey{2, 2, 3, "crop"}, GeneratorKey{1, 3, 3, "crop"}, GeneratorKey{1, 2, 4, "crop"}, GeneratorKey{1, 2, 3, "mask"}}) different.insert(first(other));
  CHECK(different.size() == 5);
}

TEST_CASE("Generator: draws are in range and evenly spread", "[core]") {
  Generator generator({.seed = 9});
  std::vector<int> counts(5, 0);
  double sum = 0, squares = 0;
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) {
    ++counts[static_cast<std::size_t>(generator.uniform_int(0, 4))];
    const double value = generator.normal();
    sum += value;
    squares += value * value;
  }
  for (const int count : counts) CHECK(std::abs(count - kDraws / 5) < 5 * std::sqrt(kDraws * 0.16));  // five standard deviations
  CHECK(std::abs(sum / kDraws) < 5 / std::sqrt(double{kDraws}));
  CHECK(squares / kDraws == Approx(1.0).margin(0.06));
}

TEST_CASE("parse_device says what would work", "[core]") {
  CHECK(parse_device("cpu").is_cpu());
  CHECK_THROWS_WITH(parse_device("gpu"), Catch::Contains("auto, cpu, cuda or cuda:N"));
  if (!cuda_available()) CHECK_THROWS_WITH(parse_device("cuda:1"), Catch::Contains("no GPU answers"));
}

}  // namespace
}  // namespace fgvl
