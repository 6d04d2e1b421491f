#pragma once
#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <torch/torch.h>

#include "fgvl/core/collective.hpp"

namespace fgvl::test {

/// Where the ranks of a run meet. A rank that makes another call than its neighbours, fails, or ends while they wait, makes all of them throw instead of wait for ever.
class RankMeeting {
 public:
  explicit RankMeeting(std::int64_t size) : size_(size), brought_(static_cast<std::size_t>(size)) {}
  std::int64_t size() const { return size_; }

  /// What every rank brought, in the order of ranks.
  std::vector<Tensor> exchange(std::int64_t rank, const std::string& call, const Tensor& value) {
    std::unique_lock lock(mutex_);
    if (present_ == 0) call_ = call;
    if (call != call_) problem_ = "rank " + std::to_string(rank) + " calls " + call + " where others call " + call_;
    if (gone_ > 0 && problem_.empty()) problem_ = "a rank has ended before the others' " + call;
    fail_if_broken();
    brought_[static_cast<std::size_t>(rank)] = value;
    const std::int64_t round = round_;
    if (++present_ == size_) {
      met_ = std::exchange(brought_, std::vector<Tensor>(static_cast<std::size_t>(size_)));
      present_ = 0;
      ++round_;
      changed_.notify_all();
    } else {
      changed_.wait(lock, [&] { return round_ != round || !problem_.empty(); });
      if (round_ == round) fail_if_broken();
    }
    return met_;  // nobody starts the next round's exchange of met_ before this rank joins it
  }

  void leave(const std::string& problem) {
    const std::lock_guard lock(mutex_);
    ++gone_;
    if (problem_.empty()) problem_ = !problem.empty() ? problem : present_ > 0 ? "a rank has ended before the others' " + call_ : "";
    changed_.notify_all();
  }

 private:
  void fail_if_broken() {
    if (problem_.empty()) return;
    changed_.notify_all();
    TORCH_CHECK(false, "[RankMeeting] ", problem_);
  }

  std::int64_t size_, present_ = 0, gone_ = 0, round_ = 0;
  std::string call_, problem_;
  std::vector<Tensor> brought_, met_;
  std::mutex mutex_;
  std::condition_variable changed_;
};

/// One rank of several in one process. What is gathered stays in one autograd graph, so that a single backward pass over the sum of all ranks' totals gives every rank's leaves the sum over ranks of their
/// gradients: what all_gather_rows promises.
class RankThread final : public Collective {
 public:
  RankThread(std::int64_t rank, std::shared_ptr<RankMeeting> meeting) : rank_(rank), meeting_(std::move(meeting)) {}
  std::int64_t rank() const override { return rank_; }
  std::int64_t size() const override { return meeting_->size(); }
  Tensor all_reduce_sum(const Tensor& value) override { return at::stack(meeting_->exchange(rank_, "all_reduce_sum", value.detach())).sum(0); }
  Tensor all_gather_rows(const Tensor& rows) override { return at::cat(meeting_->exchange(rank_, "all_gather_rows", rows)); }
  Tensor broadcast(const Tensor& value) override { return meeting_->exchange(rank_, "broadcast", value.detach())[0]; }
  void barrier() override { meeting_->exchange(rank_, "barrier", Tensor()); }

 private:
  std::int64_t rank_;
  std::shared_ptr<RankMeeting> meeting_;
};

/// What `work` gives on each of `count` ranks, which run beside one another. Rethrows what the first rank that failed by itself threw.
/// `work` must not share modules between ranks: give each a copy, as processes would have, and sum the gradients of the copies (divided by `count` they are what data parallelism averages).
template <class Result>
std::vector<Result> on_ranks(std::int64_t count, const std::function<Result(const CollectivePtr&)>& work) {
  const auto meeting = std::make_shared<RankMeeting>(count);
  std::vector<Result> results(static_cast<std::size_t>(count));
  std::exception_ptr first;
  std::mutex first_mutex;
  std::vector<std::thread> threads;
  for (std::int64_t rank = 0; rank < count; ++rank) {
    threads.emplace_back([&, rank] {
      std::string problem;
      try {
        results[static_cast<std::size_t>(rank)] = work(std::make_shared<RankThread>(rank, meeting));
      } catch (const std::exception& error) {
        problem = "rank " + std::to_string(rank) + " failed: " + error.what();
        const std::lock_guard lock(first_mutex);
        if (!first) first = std::current_exception();
      }
      meeting->leave(problem);
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
  return results;
}

}  // namespace fgvl::test
