// Files of ALBEF, BLIP and PEVL in models without momentum encoders and queues.
#include <algorithm>

#include "fgvl/core/glob.hpp"
#include "golden/official_model.hpp"
#include "support/catch.hpp"

namespace fgvl {
namespace {

using models::LoadOutcome;
using test::OfficialModel;
using test::Tensors;

/// A fixture's weights are recognised, and load with nothing missing, unexpected or allowed; only the objective's state is not needed. Returns what became of them.
models::LoadReport check_loads_whole(const OfficialModel& official) {
  const Tensors weights = official.weights();
  std::vector<std::string> names;
  for (const auto& [name, value] : weights) names.push_back(name);
  CHECK(models::recognise(names) == &official.names());
  CHECK(models::text_layers_of(names) == official.text_layers());
  const auto state = std::count_if(names.begin(), names.end(), [&](const std::string& name) { return matches_any(official.names().objective_state, name); });
  models::LoadReport report = test::prepare(official, official.scenario("step1"), at::kFloat).loaded;
  CHECK(report.count(LoadOutcome::kNotNeeded) == state);
  CHECK(report.count(LoadOutcome::kLoaded) + report.count(LoadOutcome::kTied) + report.count(LoadOutcome::kDerived) + state == static_cast<std::int64_t>(weights.size()));
  CHECK(report.rows.size() == weights.size());
  return report;
}

TEST_CASE("BLIP's file loads with nothing missing, unexpected or allowed, and every tied group of it is one tensor of ours", "[golden]") {
  FGVL_NEEDS_GOLDEN();
  int fixtures = 0;
  for (const OfficialModel& official : test::official_models("blip")) {
    INFO(official.name());
    const models::LoadReport report = check_loads_whole(official);
    std::int64_t second = 0;
    for (const auto& group : official.json["tied"]) {
      const std::string first = group[0];
      CHECK_FALSE(models::first_name(official.names(), first));
      for (std::size_t i = 1; i < group.size(); ++i) CHECK(models::first_name(official.names(), group[i]) == first);
      second += static_cast<std::int64_t>(group.size()) - 1;
    }
    CHECK(report.count(LoadOutcome::kTied) == second);
    CHECK(report.count(LoadOutcome::kDerived) == 2);  // position_ids of encoder and decoder
    ++fixtures;
  }
  CHECK(fixtures > 0);
}

TEST_CASE("ALBEF's and PEVL's files load with nothing missing, unexpected or allowed; only the objective's state is not needed", "[golden]") {
  FGVL_NEEDS_GOLDEN();
  for (const char* family : {"albef", "pevl"}) {
    for (const OfficialModel& official : test::official_models(family)) {
      INFO(official.name());
      const models::LoadReport report = check_loads_whole(official);
      CHECK(report.count(LoadOutcome::kTied) == 2);
      CHECK(report.count(LoadOutcome::kDerived) == 1);  // position_ids
    }
  }
}

}  // namespace
}  // namespace fgvl
