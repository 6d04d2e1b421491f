#include <cstdlib>
#include <fstream>

#include "fgvl/core/files.hpp"
#include "fgvl/train/checkpoint.hpp"
#include "fgvl/train/trainer.hpp"
#include "support/catch.hpp"
#include "train/checkpoint_files.hpp"
#include "train/event_file.hpp"
#include "train/tiny_run.hpp"

namespace fgvl::train {
namespace {

namespace fs = std::filesystem;

/// Trains a few steps into a fresh folder.
std::string trained(const std::string& name, const std::vector<std::string>& overrides = {"train.steps=8"}) {
  const std::string out = test::fresh_run(name);
  auto trainer = Trainer::make(test::tiny_run(overrides), {.out = out});
  INFO(trainer.status().ToString());
  REQUIRE(trainer.ok());
  REQUIRE((*trainer)->run().ok());
  return out;
}

TEST_CASE("the newest valid checkpoint wins, and a damaged one is named", "[checkpoint]") {
  const std::string out = trained("damaged");
  CHECK(find_checkpoint(out).value() == out + "/checkpoints/step_8");
  std::fstream(out + "/checkpoints/step_8/model.safetensors", std::ios::in | std::ios::out | std::ios::binary).seekp(500).put('x');
  std::vector<std::string> notes;
  CHECK(find_checkpoint(out, &notes).value() == out + "/checkpoints/step_4");
  REQUIRE(notes.size() == 1);
  CHECK_THAT(notes[0], Catch::Contains("step_8/model.safetensors") && Catch::Contains("manifest.json"));
  fs::remove_all(out + "/checkpoints/step_4");
  CHECK(exit_code(find_checkpoint(out).status()) == ExitCode::kCheckpoint);
}

TEST_CASE("a loaded run scores as the trained one, and another model's checkpoint is refused", "[checkpoint]") {
  const std::string out = trained("loaded");
  const auto loaded = load_run(out, RunRegistries());
  INFO(loaded.status().ToString());
  REQUIRE(loaded.ok());
  CHECK(loaded->step == 8);
  CHECK(loaded->texts->tokenizer().size() > 20);
  const auto other = load_run(out, RunRegistries(), {"model.text.options.layers=2"});
  CHECK(exit_code(other.status()) == ExitCode::kCheckpoint);
  CHECK_THAT(std::string(other.status().message()), Catch::Contains("another model"));
}

TEST_CASE("a run into a folder that exists is refused without resume; on a full disk it ends with exit code 4 and keeps the last checkpoint", "[checkpoint]") {
  const std::string out = trained("again");
  const auto again = Trainer::make(test::tiny_run(), {.out = out});
  CHECK(exit_code(again.status()) == ExitCode::kUsage);
  CHECK_THAT(std::string(again.status().message()), Catch::Contains("--resume latest"));
  auto more = Trainer::make(test::tiny_run({"train.steps=12"}), {.out = out, .resume = true});
  REQUIRE(more.ok());
  setenv("FGVL_FAULT", "enospc:step_12", 1);
  const auto result = (*more)->run();
  unsetenv("FGVL_FAULT");
  CHECK(exit_code(result.status()) == ExitCode::kCheckpoint);
  CHECK_THAT(std::string(result.status().message()), Catch::Contains("No space left on device"));
  CHECK(find_checkpoint(out).value() == out + "/checkpoints/step_8");
  for (const auto& entry : fs::directory_iterator(out + "/checkpoints")) CHECK(entry.path().extension() != ".tmp");
}

TEST_CASE("wrong configurations stop before a folder is made", "[checkpoint]") {
  for (const auto& [override, part] : std::vector<std::pair<std::string, std::string>>{{"losses.itm.options.temperature=nothing", "nothing"},
                                                                                       {"data.image.size=64", "must be equal"},
                                                                                       {"model.vision.options.heads=3", "heads"},
                                                                                       {"device=cuda:7", "cuda:7"}}) {
    const std::string out = test::fresh_run("wrong");
    auto trainer = Trainer::make(test::tiny_run({override}), {.out = out});
    std::string message = std::string(trainer.status().message());
    INFO(override << ": " << message);
    CHECK_FALSE(trainer.ok());
    CHECK_THAT(message, Catch::Contains(part));
    CHECK_FALSE(fs::exists(out));
  }
}

TEST_CASE("a loss that stays not finite stops the run with exit code 5", "[checkpoint]") {
  auto trainer = Trainer::make(test::tiny_run({"train.optimizer.lr=1.0e+30", "train.clip_norm=0", "train.max_non_finite=3"}), {.out = test::fresh_run("nan")});
  REQUIRE(trainer.ok());
  const auto result = (*trainer)->run();
  CHECK(exit_code(result.status()) == ExitCode::kNumerical);
  CHECK_THAT(std::string(result.status().message()), Catch::Contains("3 steps in a row"));
}

TEST_CASE("crc32c equals the check value of RFC 3720", "[checkpoint]") {
  CHECK(crc32c("123456789") == 0xE3069283u);
  CHECK(crc32c(std::string(32, '\0')) == 0x8A9136AAu);
}

TEST_CASE("bf16 trains, near fp32", "[checkpoint]") {
  const auto total = [](const std::string& precision) {
    auto trainer = Trainer::make(test::tiny_run({"train.steps=3", "train.precision=" + precision}), {.out = test::fresh_run("precision_" + precision)});
    REQUIRE(trainer.ok());
    REQUIRE((*trainer)->run().ok());
    const std::string text = read_file((std::filesystem::temp_directory_path() / ("fgvl_run_precision_" + precision) / "metrics.jsonl").string()).value();
    const std::size_t at = text.rfind("\"total\":") + 8;
    return std::stod(text.substr(at));
  };
  CHECK(total("bf16") == Approx(total("fp32")).epsilon(0.02));
}

}  // namespace
}  // namespace fgvl::train
