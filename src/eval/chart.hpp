#pragma once
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace fgvl::eval {

struct ChartLine {
  std::string name;
  std::string colour;                                ///< CSS
  std::vector<std::pair<double, double>> points{};   ///< (x, y), x ascending
};

struct ChartOptions {
  double low = std::numeric_limits<double>::quiet_NaN(), high = std::numeric_limits<double>::quiet_NaN();  ///< of the y axis; NaN: of the data
  double reference = std::numeric_limits<double>::quiet_NaN();                                             ///< a dashed line; NaN: none
  bool as_percent = false;
  std::vector<std::pair<double, std::string>> marks{};  ///< vertical lines (x, what begins there)
};

/// An SVG line chart with axes; every point has a title that a pointer shows.
std::string line_chart(const std::vector<ChartLine>& lines, const ChartOptions& options);

}  // namespace fgvl::eval
