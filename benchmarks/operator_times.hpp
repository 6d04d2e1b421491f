#pragma once
#include <iostream>
#include <map>
#include <string>

#include <torch/csrc/autograd/profiler.h>

namespace fgvl::benchmark {

/// Own milliseconds of every operator: the time between its push and pop, less that of the operators inside it.
std::map<std::string, double> own_times(const torch::autograd::profiler::thread_event_lists& threads);

/// The `count` operators with the largest own time, with their share of all of them.
void print_largest(std::ostream& out, const std::map<std::string, double>& own, std::size_t count);

}  // namespace fgvl::benchmark
