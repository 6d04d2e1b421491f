#include "side_by_side_console.hpp"

#include <algorithm>
#include <cstdio>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <unistd.h>

namespace fgvl::app {
namespace {

constexpr double kDrawSeconds = 0.2;
constexpr std::int64_t kCells = 8;

}  // namespace

class SideBySideConsole::One final : public train::Progress {
 public:
  One(SideBySideConsole& all, const std::string& name) : all_(all), name_(name), lines_(absl::StrFormat("%-*s", static_cast<int>(all.width_), name), Console::Style::kLines) {}

  void on_step(const Step& step) override {
    const std::lock_guard lock(all_.mutex_);
    step_ = step.step;
    steps_ = step.steps;
    if (all_.terminal_) {
      all_.draw();
    } else {
      lines_.on_step(step);
    }
  }
  void on_probe(std::int64_t step, const train::Metrics& metrics) override {
    const std::lock_guard lock(all_.mutex_);
    all_.clear();
    lines_.on_probe(step, metrics);
  }
  void on_message(const std::string& message) override {
    const std::lock_guard lock(all_.mutex_);
    all_.clear();
    lines_.on_message(message);
  }

  std::string bar() const { return absl::StrCat(name_, " ", bar_text(step_, steps_, kCells), " ", step_, "/", steps_); }
  /// Seconds that this run needs after `elapsed`; negative before its first step.
  double left(double elapsed) const { return step_ == 0 ? -1 : elapsed / static_cast<double>(step_) * static_cast<double>(steps_ - step_); }

 private:
  SideBySideConsole& all_;
  std::string name_;
  Console lines_;
  std::int64_t step_ = 0, steps_ = 0;
};

SideBySideConsole::SideBySideConsole(const std::vector<std::string>& names) : terminal_(isatty(STDERR_FILENO) != 0), start_(std::chrono::steady_clock::now()) {
  for (const std::string& name : names) width_ = std::max(width_, name.size());
  for (const std::string& name : names) runs_.push_back(std::make_unique<One>(*this, name));
}

SideBySideConsole::~SideBySideConsole() { clear(); }

train::Progress& SideBySideConsole::of(std::size_t index) { return *runs_[index]; }

void SideBySideConsole::draw() {
  const auto now = std::chrono::steady_clock::now();
  if (std::chrono::duration<double>(now - drawn_).count() < kDrawSeconds) return;
  drawn_ = now;
  std::string line;
  double left = -1;
  for (const auto& run : runs_) {
    absl::StrAppend(&line, run->bar(), "   ");
    left = std::max(left, run->left(std::chrono::duration<double>(now - start_).count()));
  }
  clear_bar_line();
  absl::FPrintF(stderr, "%s%s", line, left < 0 ? "" : duration_text(left) + " left");
  std::fflush(stderr);
  bar_shown_ = true;
}

void SideBySideConsole::clear() {
  if (bar_shown_) clear_bar_line();
  bar_shown_ = false;
}

}  // namespace fgvl::app
