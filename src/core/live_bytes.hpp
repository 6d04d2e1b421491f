#pragma once
#include <c10/core/Allocator.h>

namespace fgvl {

/// Bytes that this thread has allocated on the CPU and not freed, while this is the thread's memory reporter:
/// `const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, bytes);`
class LiveBytes final : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, std::int64_t bytes, std::size_t, std::size_t, c10::Device) override { live_ += bytes; }
  bool memoryProfilingEnabled() const override { return true; }
  std::int64_t live() const { return live_; }

 private:
  std::int64_t live_ = 0;
};

}  // namespace fgvl
