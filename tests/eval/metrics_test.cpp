#include <limits>

#include "fgvl/train/metrics.hpp"
#include "support/catch.hpp"

namespace fgvl::train {
namespace {

TEST_CASE("to_json nests by '/', keeps counts whole, and writes null for what is not there", "[metrics]") {
  const Metrics metrics = {{"regions/true_box/balanced_accuracy", 0.5}, {"regions/true_box/n", std::int64_t{7}}, {"boxes/a b/mean_iou", MetricValue()}, {"x", std::numeric_limits<double>::quiet_NaN()}};
  CHECK(to_json(metrics) == R"({"regions":{"true_box":{"balanced_accuracy":0.5,"n":7}},"boxes":{"a b":{"mean_iou":null}},"x":null})");
  CHECK(metric(metrics, "regions/true_box/n", -1) == 7);
  CHECK(metric(metrics, "nothing", -1) == -1);
}

TEST_CASE("metric_part keeps a text with slashes and percent signs one part of a name", "[metrics]") {
  for (const std::string text : {"a/b", "100%", "%2F", "%252F/%", "plain"}) {
    CHECK(metric_part(text).find('/') == std::string::npos);
    CHECK(metric_text(metric_part(text)) == text);
  }
  CHECK(to_json({{"boxes/" + metric_part("a/b") + "/n", std::int64_t{1}}}) == R"({"boxes":{"a/b":{"n":1}}})");
}

}  // namespace
}  // namespace fgvl::train
