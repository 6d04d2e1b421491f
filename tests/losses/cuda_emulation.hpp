#pragma once
/// Stands in for src/losses/cuda/device.cuh where there is no GPU: the kernels of src/losses/cuda, the same source, run on the CPU. A block's threads are fibers that take turns at
/// __syncthreads; blocks follow one another. Slow, for small sizes. What it notices beyond wrong results, by throwing:
///   a __syncthreads that not every thread of a block comes to (or not the same one); writes behind the shared memory that was asked for.
/// Shared memory starts as NaN in every block. A missing __syncthreads shows as wrong results, since one thread runs as far as it can before the next starts, and `thread_order` says which is first.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <setjmp.h>
#include <ucontext.h>

#include <c10/util/BFloat16.h>

#include "losses/cuda/kernels.hpp"

#define __global__
#define __device__
#define __launch_bounds__(threads)
#define FGVL_TEXT_OF(value) #value
#define FGVL_LINE(line) __FILE__ ":" FGVL_TEXT_OF(line)
#define __syncthreads() ::fgvl::test::emulated().barrier(FGVL_LINE(__LINE__))

struct __nv_bfloat16 {
  c10::BFloat16 value{};
};
inline __nv_bfloat16 __float2bfloat16_rn(float value) { return {c10::BFloat16(value)}; }

struct alignas(16) float4 {
  float x, y, z, w;
};
struct Index3 {
  unsigned x = 0, y = 0;
};
inline Index3 threadIdx, blockIdx, gridDim;

namespace fgvl::test {

enum class ThreadOrder { kForward, kBackward };
inline ThreadOrder thread_order = ThreadOrder::kForward;

class Emulation {
 public:
  /// Runs `kernel` once a thread.
  void run(Index3 grid, std::size_t shared_bytes, const std::function<void()>& kernel) {
    if (shared_bytes > kMostSharedBytes) throw std::runtime_error("a block may not have " + std::to_string(shared_bytes) + " bytes of shared memory");
    if (grid.x == 0 || grid.y == 0 || grid.y > 65535) throw std::runtime_error("no such grid");
    gridDim = grid;
    kernel_ = kernel;
    for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
      for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) run_block(shared_bytes);
  }

  [[gnu::noinline]] void barrier(const char* line) {
    threads_[current_].line = line;
    if (_setjmp(threads_[current_].place) == 0) _longjmp(scheduler_, 1);
  }

  unsigned char* shared_memory() { return shared_ + (128 - reinterpret_cast<std::uintptr_t>(shared_) % 128) % 128; }

 private:
  static constexpr std::size_t kMostSharedBytes = 48 * 1024;  // without asking for more
  static constexpr std::size_t kStackBytes = 128 * 1024, kGuardBytes = 4096;
  static constexpr int kThreads = losses::cuda::kThreads;
  static constexpr const char* kFinished = "the end";

  struct Thread {
    ucontext_t start{};
    jmp_buf place{};  // where it waits: jumps are many times faster than swapcontext, which calls the kernel
    bool started = false;
    std::vector<char> stack = std::vector<char>(kStackBytes);
    const char* line = kFinished;  // where it waits
  };

  static void enter();

  /// Until the thread comes to a barrier or to its end.
  [[gnu::noinline]] void resume(Thread& thread) {
    if (_setjmp(scheduler_) != 0) return;
    if (thread.started) _longjmp(thread.place, 1);
    thread.started = true;
    getcontext(&thread.start);
    thread.start.uc_stack.ss_sp = thread.stack.data();
    thread.start.uc_stack.ss_size = thread.stack.size();
    makecontext(&thread.start, &Emulation::enter, 0);
    setcontext(&thread.start);
  }

  void run_block(std::size_t shared_bytes) {
    std::memset(shared_, 0xFF, sizeof shared_);
    for (Thread& thread : threads_) thread.started = false;
    do {
      for (int i = 0; i < kThreads; ++i) {
        current_ = thread_order == ThreadOrder::kForward ? i : kThreads - 1 - i;
        threads_[current_].line = kFinished;
        threadIdx = {static_cast<unsigned>(current_), 0};
        resume(threads_[current_]);
        if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
      }
      for (const Thread& thread : threads_) {
        if (std::strcmp(thread.line, threads_[0].line) != 0) throw std::runtime_error(std::string("threads of one block are at ") + thread.line + " and " + threads_[0].line);
      }
      for (const unsigned char* at = shared_memory() + shared_bytes; at < shared_ + sizeof shared_; ++at) {
        if (*at != 0xFF) throw std::runtime_error("a write behind shared memory");
      }
    } while (std::strcmp(threads_[0].line, kFinished) != 0);
  }

  std::function<void()> kernel_;
  std::vector<Thread> threads_ = std::vector<Thread>(kThreads);
  jmp_buf scheduler_{};
  int current_ = 0;
  std::exception_ptr error_;  // of a thread: none may leave its fiber
  unsigned char shared_[kMostSharedBytes + kGuardBytes + 128];
};

inline Emulation& emulated() {
  static Emulation emulation;
  return emulation;
}

inline void Emulation::enter() {
  try {
    emulated().kernel_();
  } catch (const std::exception&) {
    emulated().error_ = std::current_exception();
  }
  _longjmp(emulated().scheduler_, 1);
}

}  // namespace fgvl::test

namespace fgvl::losses::cuda {

using Grid = Index3;

inline unsigned char* shared_memory() { return test::emulated().shared_memory(); }

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), const Grid& grid, std::size_t shared_bytes, CUstream_st*, const Arguments&... arguments) {
  test::emulated().run(grid, shared_bytes, [&] { kernel(arguments...); });
}

}  // namespace fgvl::losses::cuda
