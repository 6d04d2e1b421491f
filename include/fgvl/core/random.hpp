#pragma once
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include <ATen/core/Generator.h>
#include <c10/core/Device.h>

namespace fgvl {

/// What a random stream is for. Equal keys give equal numbers on every machine, thread and rank; any difference gives independent ones.
struct GeneratorKey {
  std::uint64_t seed = 0;
  std::uint64_t epoch = 0;   ///< or the step, for draws of a training step
  std::uint64_t sample = 0;  ///< position in the epoch
  std::string_view purpose{};
};

/// Counter-based random numbers (Philox 4x32-10, Salmon et al., SC 2011), keyed by GeneratorKey. There is no global state:
/// two generators of one key produce the same sequence, wherever and whenever they are made.
class Generator {
 public:
  explicit Generator(const GeneratorKey& key);

  std::uint32_t next();                                            ///< uniform in [0, 2^32)
  std::uint64_t next_64();                                         ///< uniform in [0, 2^64): two draws, the first one the high half
  double uniform();                                                ///< [0, 1), 53 bits
  double uniform(double low, double high);                         ///< [low, high)
  std::int64_t uniform_int(std::int64_t low, std::int64_t high);   ///< in [low, high], both included, without modulo bias
  bool bernoulli(double probability);
  double normal();                                                 ///< mean 0, standard deviation 1 (Box-Muller)

  template <class T>
  void shuffle(std::vector<T>& values) {
    for (std::size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[static_cast<std::size_t>(uniform_int(0, static_cast<std::int64_t>(i) - 1))]);
  }
  template <class T>
  const T& choose(const std::vector<T>& values) { return values[static_cast<std::size_t>(uniform_int(0, static_cast<std::int64_t>(values.size()) - 1))]; }

  /// A generator for tensor operations on `device`, seeded from the next draw.
  at::Generator torch_generator(at::Device device);

 private:
  void refill();
  std::uint32_t key_[2];
  std::uint32_t counter_[4];
  std::uint32_t block_[4];
  int used_ = 4;
};

/// One block of Philox 4x32-10: what Generator is made of, for its known-answer test.
void philox_4x32_10(const std::uint32_t counter[4], const std::uint32_t key[2], std::uint32_t out[4]);

}  // namespace fgvl
