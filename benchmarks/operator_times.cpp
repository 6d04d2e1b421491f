#include "operator_times.hpp"

#include <algorithm>
#include <iomanip>
#include <vector>

namespace fgvl::benchmark {

std::map<std::string, double> own_times(const torch::autograd::profiler::thread_event_lists& threads) {
  std::map<std::string, double> own;
  for (const auto& events : threads) {
    struct Open {
      const torch::autograd::profiler::LegacyEvent* event;
      double inside = 0;
    };
    std::vector<Open> stack;
    for (const auto& event : events) {
      if (event.kindStr() == "push") {
        stack.push_back({&event});
      } else if (event.kindStr() == "pop" && !stack.empty()) {
        const double total = stack.back().event->cpuElapsedUs(event) / 1000;
        own[stack.back().event->name()] += total - stack.back().inside;
        stack.pop_back();
        if (!stack.empty()) stack.back().inside += total;
      }
    }
  }
  return own;
}

void print_largest(std::ostream& out, const std::map<std::string, double>& own, std::size_t count) {
  std::vector<std::pair<double, std::string>> ranked;
  double total = 0;
  for (const auto& [name, time] : own) {
    ranked.emplace_back(time, name);
    total += time;
  }
  std::sort(ranked.rbegin(), ranked.rend());
  out << std::fixed << std::setprecision(1);
  for (std::size_t i = 0; i < std::min(count, ranked.size()); ++i) {
    out << "  " << std::left << std::setw(52) << ranked[i].second << std::right << std::setw(9) << ranked[i].first << " ms " << std::setw(6) << 100 * ranked[i].first / total << " %\n";
  }
}

}  // namespace fgvl::benchmark
