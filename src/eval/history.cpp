#include <functional>
#include <sstream>

#include <absl/strings/str_cat.h>
#include <nlohmann/json.hpp>

#include "fgvl/core/files.hpp"
#include "fgvl/eval/report.hpp"

namespace fgvl::eval {
namespace {

Series& series_of(std::vector<Series>& all, const std::string& name) {
  for (Series& series : all) {
    if (series.name == name) return series;
  }
  return all.emplace_back(Series{name, {}});
}

}  // namespace

absl::StatusOr<History> read_history(const std::string& metrics_path) {
  FGVL_ASSIGN_OR_RETURN(const std::string text, read_file(metrics_path));
  History history;
  std::istringstream lines(text);
  std::string line;
  for (std::int64_t number = 1; std::getline(lines, line); ++number) {
    const auto json = nlohmann::ordered_json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || !json.contains("step") || !json["step"].is_number()) return absl::DataLossError(absl::StrCat(metrics_path, ":", number, ": not a line that a trainer wrote"));
    const double step = json["step"];
    if (json.contains("losses") && json["losses"].is_object()) {
      for (const auto& [name, value] : json["losses"].items()) {
        if (value.is_number()) series_of(history.losses, name).points.emplace_back(step, value.get<double>());
      }
    }
    const std::function<void(const std::string&, const nlohmann::ordered_json&)> walk = [&](const std::string& prefix, const nlohmann::ordered_json& node) {
      for (const auto& [name, value] : node.items()) {
        if (value.is_object()) {
          walk(prefix + train::metric_part(name) + "/", value);
        } else if (value.is_number_float()) {
          series_of(history.probes, prefix + train::metric_part(name)).points.emplace_back(step, value.get<double>());
        }
      }
    };
    if (json.contains("gradient_shares") && json["gradient_shares"].is_object()) {
      for (const auto& [name, value] : json["gradient_shares"].items()) {
        if (value.is_number()) series_of(history.shares, name).points.emplace_back(step, value.get<double>());
      }
    }
    if (json.contains("stage") && json["stage"].is_string()) history.stages.emplace_back(step, json["stage"].get<std::string>());
    if (json.contains("probe") && json["probe"].is_object()) walk("", json["probe"]);
  }
  return history;
}

}  // namespace fgvl::eval
