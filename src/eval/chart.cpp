#include "eval/chart.hpp"

#include <algorithm>
#include <cmath>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

namespace fgvl::eval {
namespace {

constexpr double kWidth = 360, kHeight = 212, kLeft = 42, kRight = 18, kTop = 10, kBottom = 38;
constexpr std::size_t kMaxPoints = 150;  // a line; more are averaged in groups

/// A round step that cuts `span` into about four.
double tick_step(double span) {
  const double raw = span / 4, power = std::pow(10.0, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 2.5, 5.0}) {
    if (raw <= factor * power) return factor * power;
  }
  return 10 * power;
}

std::vector<std::pair<double, double>> thinned(const std::vector<std::pair<double, double>>& points) {
  if (points.size() <= kMaxPoints) return points;
  const std::size_t group = (points.size() + kMaxPoints - 1) / kMaxPoints;
  std::vector<std::pair<double, double>> means;
  for (std::size_t begin = 0; begin < points.size(); begin += group) {
    const std::size_t end = std::min(points.size(), begin + group);
    double sum = 0;
    for (std::size_t i = begin; i < end; ++i) sum += points[i].second;
    means.emplace_back(points[end - 1].first, sum / static_cast<double>(end - begin));
  }
  return means;
}

}  // namespace

std::string line_chart(const std::vector<ChartLine>& lines, const ChartOptions& options) {
  double low = options.low, high = options.high, last = 1;
  for (const ChartLine& line : lines) {
    for (const auto& [x, y] : line.points) {
      last = std::max(last, x);
      if (!std::isfinite(y)) continue;
      if (std::isnan(options.low)) low = std::isnan(low) ? y : std::min(low, y);
      if (std::isnan(options.high)) high = std::isnan(high) ? y : std::max(high, y);
      if (!std::isnan(options.low)) low = std::min(low, y);  // a fixed limit never hides data
    }
  }
  if (!(high > low)) high = low + 1;
  const auto px = [&](double x) { return kLeft + x / last * (kWidth - kLeft - kRight); };
  const auto py = [&](double y) { return kHeight - kBottom - (y - low) / (high - low) * (kHeight - kTop - kBottom); };
  std::string svg = absl::StrFormat("<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\">", kWidth, kHeight);
  const double step = tick_step(high - low);
  for (double y = std::ceil(low / step - 1e-9) * step; y <= high + step * 1e-6; y += step) {
    const std::string label = options.as_percent ? absl::StrFormat("%.0f%%", 100 * y) : absl::StrFormat("%.4g", std::abs(y) < 1e-12 ? 0 : y);
    absl::StrAppendFormat(&svg, "<line class=\"gridline\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/><text class=\"axis\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%s</text>", kLeft,
                          kWidth - kRight, py(y), py(y), kLeft - 6, py(y) + 4, label);
  }
  const double x_step = tick_step(last);
  for (double x = 0; x <= last + 1e-9; x += x_step) {
    absl::StrAppendFormat(&svg, "<text class=\"axis\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%.0f</text>", px(x), kHeight - kBottom + 16, x);
  }
  absl::StrAppendFormat(&svg, "<text class=\"axis\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">step</text>", kWidth - kRight, kHeight - 6);
  if (std::isfinite(options.reference)) {
    absl::StrAppendFormat(&svg, "<line class=\"chance\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", kLeft, kWidth - kRight, py(options.reference), py(options.reference));
  }
  for (const auto& [x, name] : options.marks) {
    if (x <= 0 || x >= last) continue;
    absl::StrAppendFormat(&svg, "<line class=\"chance\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"><title>%s, from step %.0f on</title></line><text class=\"axis\" x=\"%.1f\" y=\"%.1f\">%s</text>", px(x), px(x), kTop,
                          kHeight - kBottom, name, x, px(x) + 3, kTop + 9, name);
  }
  for (const ChartLine& line : lines) {
    std::string path, dots;
    const auto points = thinned(line.points);
    for (const auto& [x, y] : points) {
      if (!std::isfinite(y)) continue;
      const double shown = std::min(y, high);
      absl::StrAppendFormat(&path, "%s%.1f %.1f", path.empty() ? "M" : " L", px(x), py(shown));
      absl::StrAppendFormat(&dots, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%s\" fill=\"%s\"><title>%s, step %.0f: %.4g</title></circle>", px(x), py(shown), points.size() <= 40 ? "2.6" : "1.2",
                            line.colour, line.name, x, y);
    }
    absl::StrAppendFormat(&svg, "<path d=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\" stroke-linejoin=\"round\"/>%s", path, line.colour, dots);
  }
  return svg + "</svg>";
}

}  // namespace fgvl::eval
