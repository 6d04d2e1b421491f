#include "data/order.hpp"

#include <algorithm>
#include <numeric>

#include "fgvl/core/random.hpp"

namespace fgvl::data {

std::int64_t Order::record(std::int64_t position) {
  if (!shuffle_) return position % size_;
  const std::int64_t epoch = position / size_;
  if (epoch != epoch_) {
    permutation_.resize(static_cast<std::size_t>(size_));
    std::iota(permutation_.begin(), permutation_.end(), std::int64_t{0});
    Generator({.seed = seed_, .epoch = static_cast<std::uint64_t>(epoch), .purpose = name_}).shuffle(permutation_);
    epoch_ = epoch;
  }
  return permutation_[static_cast<std::size_t>(position % size_)];
}

std::vector<std::int64_t> apportioned(const std::vector<double>& shares, std::int64_t total) {
  std::vector<std::int64_t> seats;
  std::int64_t left = total;
  for (const double share : shares) {
    // Nobody ends up further below its exact part than there are streams.
    seats.push_back(std::max<std::int64_t>(0, static_cast<std::int64_t>(share * static_cast<double>(total)) - static_cast<std::int64_t>(shares.size())));
    left -= seats.back();
  }
  for (; left > 0; --left) {
    std::size_t next = 0;
    const auto rank = [&](std::size_t i) { return (static_cast<double>(seats[i]) + 0.5) / shares[i]; };
    for (std::size_t i = 1; i < shares.size(); ++i) {
      if (rank(i) < rank(next)) next = i;
    }
    ++seats[next];
  }
  return seats;
}

}  // namespace fgvl::data
