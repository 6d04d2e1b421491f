#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace fgvl::train {

/// A measured number, a count, or nothing where there is no such number.
using MetricValue = std::variant<std::monostate, double, std::int64_t>;
/// By name; '/' nests: "skills/shape/accuracy". A part that comes from a user, such as a label, goes through metric_part.
using Metrics = std::vector<std::pair<std::string, MetricValue>>;

/// `text` as one part of a name: '/' and '%' become %2F and %25.
std::string metric_part(const std::string& text);
/// The text that metric_part made `part` of.
std::string metric_text(const std::string& part);

/// One JSON object, nested by '/', keys in order of first appearance and as metric_text reads them; absent values and non-finite numbers are null.
std::string to_json(const Metrics& metrics);
/// The number under `name`; `fallback` when there is none.
double metric(const Metrics& metrics, const std::string& name, double fallback);

}  // namespace fgvl::train
