#pragma once
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <string>

#include "fgvl/train/trainer.hpp"

namespace fgvl::app {

/// A progress bar on a terminal, plain lines in a log.
class Console final : public train::Progress {
 public:
  enum class Style { kAuto, kLines };  ///< the bar where there is a terminal | plain lines anywhere
  explicit Console(std::string name, Style style = Style::kAuto);
  void on_step(const Step& step) override;
  void on_probe(std::int64_t step, const train::Metrics& metrics) override;
  void on_message(const std::string& message) override;

 private:
  void clear_bar();
  std::string name_;
  bool terminal_;
  bool bar_shown_ = false;
  std::string losses_{};
  std::chrono::steady_clock::time_point last_bar_{}, last_line_{}, start_;
  std::int64_t first_step_ = -1;
};

/// While it lives, the first SIGINT or SIGTERM asks for a stop, and a second one ends the process at once with 130. Before and after, signals do what they
/// always do: nothing but a training run has something to save. One at a time.
class StopOnSignal {
 public:
  StopOnSignal();
  ~StopOnSignal();
  StopOnSignal(const StopOnSignal&) = delete;
  StopOnSignal& operator=(const StopOnSignal&) = delete;

 private:
  std::array<struct sigaction, 2> before_{};
};
/// Set by a signal that a StopOnSignal caught, or by request_stop().
const std::atomic<bool>& stop_requested();
/// Asks every run of this process to stop as a signal would: where one of several has failed.
void request_stop();

/// "1 min 05 s"
std::string duration_text(double seconds);
/// `cells` characters, of which as large a part is full as `step` is of `steps`.
std::string bar_text(std::int64_t step, std::int64_t steps, std::int64_t cells);
/// Takes the bar off the terminal's last line, where the cursor still is.
void clear_bar_line();

}  // namespace fgvl::app
