#pragma once
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "console.hpp"

namespace fgvl::app {

/// Progress of several runs at once, each in a thread of its own: on a terminal one bar line for all of them, in a log each run's plain lines.
class SideBySideConsole {
 public:
  explicit SideBySideConsole(const std::vector<std::string>& names);
  ~SideBySideConsole();
  /// Hears run `index`; may be called from that run's thread.
  train::Progress& of(std::size_t index);

 private:
  class One;
  void draw();
  void clear();

  std::mutex mutex_;
  bool terminal_, bar_shown_ = false;
  std::size_t width_ = 0;  ///< of the longest name
  std::vector<std::unique_ptr<One>> runs_;
  std::chrono::steady_clock::time_point start_, drawn_{};
};

}  // namespace fgvl::app
