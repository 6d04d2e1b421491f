#pragma once

namespace fgvl::test {

/// While it lives, the last thread of an emulated block runs first (cuda_emulation.hpp, which no source with LibTorch includes).
class ThreadsBackward {
 public:
  explicit ThreadsBackward(bool backward);
  ~ThreadsBackward();
  ThreadsBackward(const ThreadsBackward&) = delete;
  ThreadsBackward& operator=(const ThreadsBackward&) = delete;
};

}  // namespace fgvl::test
