#include "data/mixture.hpp"

#include <algorithm>

#include <c10/util/Exception.h>

#include "data/order.hpp"
#include "fgvl/core/random.hpp"

namespace fgvl::data {

Mixture::Mixture(std::vector<Schedule> weights, const LoaderOptions& options) : weights_(std::move(weights)), options_(options), rows_(weights_.size(), 0), sums_(weights_.size(), 0.0) {
  for (const Schedule& weight : weights_) constant_ = constant_ && weight.constant().has_value();
}

std::vector<double> Mixture::shares(std::int64_t number) const {
  std::vector<double> shares;
  double total = 0;
  for (const Schedule& weight : weights_) total += shares.emplace_back(weight.at(number / options_.batches_per_step));
  TORCH_CHECK(total > 0, "[Loader] at step ", number / options_.batches_per_step, " no stream has a weight above 0");
  for (double& share : shares) share /= total;
  return shares;
}

std::vector<std::int64_t> Mixture::quotas(std::int64_t number) {
  if (options_.mix == Mix::kRows) return quotas_of_rows(number);
  const std::vector<double> shares = this->shares(number);
  std::vector<std::int64_t> quotas(weights_.size(), 0);
  double point = Generator({.seed = options_.seed, .epoch = static_cast<std::uint64_t>(number), .purpose = "mix"}).uniform();
  std::size_t chosen = 0;
  while (chosen + 1 < shares.size() && point >= shares[chosen]) point -= shares[chosen++];
  while (shares[chosen] == 0) --chosen;  // rounding at the very end, or streams that rest there
  quotas[chosen] = options_.batch_size;
  return quotas;
}

std::vector<std::int64_t> Mixture::quotas_of_rows(std::int64_t number) {
  std::vector<std::int64_t> quotas(weights_.size(), 0);
  if (constant_) {
    // Rows since the start, with and without this batch: their difference is never negative and sums to the batch's size.
    const std::vector<double> shares = this->shares(number);
    const std::vector<std::int64_t> before = apportioned(shares, number * options_.batch_size), after = apportioned(shares, (number + 1) * options_.batch_size);
    for (std::size_t i = 0; i < quotas.size(); ++i) quotas[i] = after[i] - before[i];
    return quotas;
  }
  // See Note [Rows by changing shares].
  if (number < next_) {
    next_ = 0;
    rows_.assign(weights_.size(), 0);
    sums_.assign(weights_.size(), 0.0);
  }
  for (; next_ <= number; ++next_) {
    const std::vector<double> shares = this->shares(next_);
    for (std::size_t i = 0; i < shares.size(); ++i) sums_[i] += shares[i] * static_cast<double>(options_.batch_size);
    quotas.assign(weights_.size(), 0);
    for (std::int64_t row = 0; row < options_.batch_size; ++row) {
      std::size_t next = shares.size();
      const auto rank = [&](std::size_t i) { return (static_cast<double>(rows_[i]) + 0.5) / sums_[i]; };
      for (std::size_t i = 0; i < shares.size(); ++i) {
        if (shares[i] > 0 && (next == shares.size() || rank(i) < rank(next))) next = i;
      }
      ++rows_[next];
      ++quotas[next];
    }
  }
  return quotas;
}

}  // namespace fgvl::data
