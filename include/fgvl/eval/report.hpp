#pragma once
#include <string>
#include <utility>
#include <vector>

#include "fgvl/core/status.hpp"
#include "fgvl/data/image.hpp"
#include "fgvl/train/metrics.hpp"

namespace fgvl::eval {

/// One line of a chart.
struct Series {
  std::string name;
  std::vector<std::pair<double, double>> points{};  ///< (step, value)
};

/// What a run's metrics.jsonl holds.
struct History {
  std::vector<Series> losses{};   ///< by loss name
  std::vector<Series> probes{};   ///< by metric name, "/" nested
  std::vector<Series> shares{};   ///< of the gradient, by term (train.shares_every)
  std::vector<std::pair<double, std::string>> stages{};  ///< (optimizer steps done before it begins, name)
};
absl::StatusOr<History> read_history(const std::string& metrics_path);

struct ReportArm {
  std::string name, description;
  History history{};
  train::Metrics metrics{};
  double seconds = 0, samples_per_second = 0;
  std::vector<std::pair<std::string, std::int64_t>> skipped{};  ///< by cause; distinct records and regions
  std::int64_t records_seen = 0, records_skipped = 0, regions_seen = 0;  ///< distinct
};

struct ReportPicture {
  data::Image image{};
  std::vector<std::pair<std::string, std::string>> lines{};  ///< (kind, text): "true", "predicted", "text"
};

struct ReportContent {
  std::string title, introduction;
  std::vector<ReportArm> arms{};
  std::vector<std::string> notes{};
  std::vector<ReportPicture> pictures{};
  std::string pictures_caption{};
  std::vector<std::pair<std::string, std::string>> settings{};  ///< (name, YAML)
  std::string environment{};
};

/// One self-contained HTML file: no script, no network.
std::string render_report(const ReportContent& content);

}  // namespace fgvl::eval
