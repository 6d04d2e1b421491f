#include "fgvl/train/metrics.hpp"

#include <cmath>

#include <absl/strings/str_replace.h>
#include <absl/strings/str_split.h>
#include <nlohmann/json.hpp>

namespace fgvl::train {

std::string metric_part(const std::string& text) { return absl::StrReplaceAll(text, {{"%", "%25"}, {"/", "%2F"}}); }
std::string metric_text(const std::string& part) { return absl::StrReplaceAll(part, {{"%25", "%"}, {"%2F", "/"}}); }

std::string to_json(const Metrics& metrics) {
  nlohmann::ordered_json root = nlohmann::ordered_json::object();
  for (const auto& [name, value] : metrics) {
    nlohmann::ordered_json* node = &root;
    for (const absl::string_view part : absl::StrSplit(name, '/')) node = &(*node)[metric_text(std::string(part))];
    if (const auto* number = std::get_if<double>(&value); number != nullptr && std::isfinite(*number)) {
      *node = *number;
    } else if (const auto* count = std::get_if<std::int64_t>(&value)) {
      *node = *count;
    } else {
      *node = nullptr;
    }
  }
  return root.dump(-1, ' ', /*ensure_ascii=*/false, nlohmann::ordered_json::error_handler_t::replace);  // labels come from users' files
}

double metric(const Metrics& metrics, const std::string& name, double fallback) {
  for (const auto& [known, value] : metrics) {
    if (known != name) continue;
    if (const auto* number = std::get_if<double>(&value)) return *number;
    if (const auto* count = std::get_if<std::int64_t>(&value)) return static_cast<double>(*count);
  }
  return fallback;
}

}  // namespace fgvl::train
