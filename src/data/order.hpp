#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace fgvl::data {

/// The record at every position of a stream: a pure function of (seed, stream, position).
class Order {
 public:
  Order(std::uint64_t seed, std::string name, std::int64_t size, bool shuffle) : seed_(seed), name_("order:" + std::move(name)), size_(size), shuffle_(shuffle) {}
  std::int64_t record(std::int64_t position);

 private:
  std::uint64_t seed_;
  std::string name_;
  std::int64_t size_;
  bool shuffle_;
  std::int64_t epoch_ = -1;  ///< of the permutation at hand
  std::vector<std::int64_t> permutation_;
};

/// `total` seats for `shares`, which sum to 1, by Webster's method (the next seat goes to the smallest (seats + 1/2) / share). As any divisor method
/// it takes no seat back when the total grows, so that fractions carry over from batch to batch.
std::vector<std::int64_t> apportioned(const std::vector<double>& shares, std::int64_t total);

}  // namespace fgvl::data
