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

}  // namespace
}  // namespace fgvl::train
