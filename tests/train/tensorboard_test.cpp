// The real TensorBoard reads what the trainer writes. Its Python comes from scripts/test (FGVL_TENSORBOARD_PYTHON).
#include <array>
#include <cstdio>
#include <fstream>
#include <memory>

#include "fgvl/core/files.hpp"
#include "support/catch.hpp"
#include "train/event_file.hpp"
#include "train/tiny_run.hpp"

namespace fgvl::train {
namespace {

constexpr char kReader[] = R"(
import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1]); events.Reload()
for tag in sorted(events.Tags()["scalars"]):
    print(tag, *("%d:%.6g" % (e.step, e.value) for e in events.Scalars(tag)))
)";

TEST_CASE("TensorBoard reads every scalar that was written, with its step", "[tensorboard]") {
  const char* python = std::getenv("FGVL_TENSORBOARD_PYTHON");
  const bool in_ci = std::getenv("CI") != nullptr;
  if (python == nullptr && !in_ci) {
    std::cout << "SKIPPED: set FGVL_TENSORBOARD_PYTHON to a Python with tensorboard (scripts/test does)" << std::endl;
    return;
  }
  REQUIRE(python != nullptr);
  const std::string out = test::fresh_run("tensorboard");
  auto trainer = Trainer::make(test::tiny_run({"train.steps=3"}), {.out = out});
  REQUIRE(trainer.ok());
  REQUIRE((*trainer)->run().ok());
  std::ofstream(out + "/reader.py") << kReader;
  const std::string command = std::string(python) + " " + out + "/reader.py " + out + " 2>" + out + "/reader.log";
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  std::string read;
  std::array<char, 4096> buffer{};
  while (fgets(buffer.data(), buffer.size(), pipe.get()) != nullptr) read += buffer.data();
  INFO(read << read_file(out + "/reader.log").value());
  const std::string metrics = read_file(out + "/metrics.jsonl").value();
  for (const char* loss : {"itm", "total"}) {
    // The three logged values, as metrics.jsonl has them.
    std::string expected = std::string("loss/") + loss;
    std::size_t from = 0;
    for (int step = 1; step <= 3; ++step) {
      const std::string key = std::string("\"") + loss + "\":";
      from = metrics.find(key, from) + key.size();
      char value[32];
      std::snprintf(value, sizeof value, " %d:%.6g", step, static_cast<double>(static_cast<float>(std::stod(metrics.substr(from)))));
      expected += value;
    }
    CHECK_THAT(read, Catch::Contains(expected));
  }
  CHECK_THAT(read, Catch::Contains("train/lr") && Catch::Contains("train/grad_norm"));
}

}  // namespace
}  // namespace fgvl::train
