#include "console.hpp"

#include <csignal>
#include <cstdio>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <unistd.h>

namespace fgvl::app {
namespace {

std::atomic<bool> stop{false};
constexpr int kInterruptedTwice = 130;
constexpr std::array<int, 2> kSignals = {SIGINT, SIGTERM};
constexpr double kBarSeconds = 0.2, kLineSeconds = 10;

extern "C" void handle_signal(int) {
  if (stop.exchange(true)) _exit(kInterruptedTwice);
  static constexpr char kNote[] = "\nstopping after this step and saving; once more to leave at once\n";
  [[maybe_unused]] const auto written = write(STDERR_FILENO, kNote, sizeof kNote - 1);
}

}  // namespace

const std::atomic<bool>& stop_requested() { return stop; }
void request_stop() { stop = true; }

StopOnSignal::StopOnSignal() {
  struct sigaction action {};
  action.sa_handler = handle_signal;
  for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &action, &before_[i]);
}

StopOnSignal::~StopOnSignal() {
  for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &before_[i], nullptr);
}

std::string duration_text(double seconds) {
  const auto whole = static_cast<std::int64_t>(seconds + 0.5);
  if (whole < 60) return absl::StrFormat("%.1f s", seconds);
  return absl::StrFormat("%d min %02d s", whole / 60, whole % 60);
}

std::string bar_text(std::int64_t step, std::int64_t steps, std::int64_t cells) {
  std::string bar;
  for (std::int64_t i = 0; i < cells; ++i) bar += steps > 0 && i < cells * step / steps ? "█" : "·";
  return bar;
}

void clear_bar_line() { std::fputs("\r\x1b[2K", stderr); }

Console::Console(std::string name, Style style) : name_(std::move(name)), terminal_(style == Style::kAuto && isatty(STDERR_FILENO) != 0), start_(std::chrono::steady_clock::now()) {}

void Console::clear_bar() {
  if (bar_shown_) clear_bar_line();
  bar_shown_ = false;
}

void Console::on_step(const Step& step) {
  const auto now = std::chrono::steady_clock::now();
  if (first_step_ < 0) first_step_ = step.step - 1;
  if (step.report != nullptr) {
    losses_.clear();
    for (const auto& value : step.report->values) absl::StrAppendFormat(&losses_, "  %s %.3f", value.name, value.mean.item<double>());
  }
  const double elapsed = std::chrono::duration<double>(now - start_).count();
  const double left = elapsed / static_cast<double>(step.step - first_step_) * static_cast<double>(step.steps - step.step);
  const bool last = step.step == step.steps;
  const auto due = [&](auto& since, double seconds) {
    if (!last && std::chrono::duration<double>(now - since).count() < seconds) return false;
    since = now;
    return true;
  };
  if (terminal_) {
    if (!due(last_bar_, kBarSeconds)) return;
    constexpr std::int64_t kCells = 24;
    clear_bar_line();
    absl::FPrintF(stderr, "%s %s %d/%d  %.0f img/s  %s left%s", name_, bar_text(step.step, step.steps, kCells), step.step, step.steps, step.images_per_second, duration_text(left), losses_);
    bar_shown_ = true;
    if (last) {
      std::fputc('\n', stderr);
      bar_shown_ = false;
    }
    std::fflush(stderr);
  } else if (due(last_line_, kLineSeconds)) {
    absl::FPrintF(stderr, "%s  step %d/%d  %.0f images/s  %s left%s\n", name_, step.step, step.steps, step.images_per_second, duration_text(left), losses_);
  }
}

void Console::on_probe(std::int64_t step, const train::Metrics& metrics) {
  clear_bar();
  std::string line;
  for (const auto& [name, value] : metrics) {
    const auto* number = std::get_if<double>(&value);
    if (number == nullptr) continue;
    const bool accuracy = name.size() > 9 && name.compare(name.size() - 9, 9, "/accuracy") == 0 && name.rfind("skills/", 0) == 0;
    const bool summary = name.find("balanced_accuracy") != std::string::npos || name.find("mean_iou") != std::string::npos;
    if (accuracy) absl::StrAppendFormat(&line, "  %s %.1f%%", name.substr(7, name.size() - 16), 100 * *number);
    if (summary) absl::StrAppendFormat(&line, "  %s %.3f", name, *number);
  }
  if (!line.empty()) absl::FPrintF(stderr, "%s  probe at step %d:%s\n", name_, step, line);
}

void Console::on_message(const std::string& message) {
  clear_bar();
  absl::FPrintF(stderr, "%s  %s\n", name_, message);
}

}  // namespace fgvl::app
