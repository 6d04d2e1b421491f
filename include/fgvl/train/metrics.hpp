#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace fgvl::train {

/// A measured number, a count, or nothing where there is no such number.
using MetricValue = std::variant<std::monostate, double, std::int64_t>;
/// By name; '/' nests: "skills/shape/accuracy".
using Metrics = std::vector<std::pair<std::string, MetricValue>>;

/// One JSON object, nested by '/', keys in order of first appearance; absent values and non-finite numbers are null.
std::string to_json(const Metrics& metrics);
/// The number under `name`; `fallback` when there is none.
double metric(const Metrics& metrics, const std::string& name, double fallback);

}  // namespace fgvl::train
