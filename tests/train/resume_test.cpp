// A killed and resumed run equals the uninterrupted one byte for byte.
#include <csignal>
#include <regex>
#include <sstream>

#include <sys/wait.h>
#include <unistd.h>

#include "fgvl/core/files.hpp"
#include "support/catch.hpp"
#include "train/tiny_run.hpp"

namespace fgvl::train {
namespace {

namespace fs = std::filesystem;

/// Kills its own process when a step is done: at the start of the next one, between two checkpoints.
class Killer final : public Progress {
 public:
  explicit Killer(std::int64_t step) : step_(step) {}
  void on_step(const Step& step) override {
    if (step.step == step_) std::raise(SIGKILL);
  }

 private:
  std::int64_t step_;
};

/// Where a run is to be killed; nowhere by default.
struct Death {
  std::int64_t after_step = -1;
  std::int64_t in_forward = -1;  ///< the how manieth batch of this process
  std::string in_write{};        ///< in the middle of writing a file whose path holds this
};

/// In a process of its own, because SIGKILL must hit the whole of it.
int run_in_child(const std::string& out, bool resume, const Death& death = {}, const std::vector<std::string>& overrides = {}) {
  const pid_t child = fork();
  if (child == 0) {
    Killer killer(death.after_step);
    test::kill_at_forward = death.in_forward;
    if (!death.in_write.empty()) setenv("FGVL_FAULT", ("kill:" + death.in_write).c_str(), 1);
    auto trainer = Trainer::make(test::tiny_run(overrides), {.out = out, .resume = resume, .progress = &killer});
    _exit(trainer.ok() && (*trainer)->run().ok() ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/// metrics.jsonl without what depends on the clock.
std::string timeless(const std::string& path) {
  return std::regex_replace(read_file(path).value(), std::regex("\"(seconds|data_seconds|images_per_second)\":[0-9.e+-]+"), "\"$1\":0");
}

/// An uninterrupted run, trained once.
const std::string& whole_run() {
  static const std::string out = [] {
    const std::string path = test::fresh_run("whole");
    REQUIRE(run_in_child(path, false) == 0);
    return path;
  }();
  return out;
}

void check_equal(const std::string& whole, const std::string& out) {
  const fs::path last = fs::path("checkpoints") / "step_30";
  int files = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(whole) / last)) {
    INFO(entry.path().filename());
    CHECK(read_file(entry.path().string()).value() == read_file((fs::path(out) / last / entry.path().filename()).string()).value());
    ++files;
  }
  CHECK(files == 6);  // model, optimizer, state, config, vocabulary, manifest
  CHECK(timeless(whole + "/metrics.jsonl") == timeless(out + "/metrics.jsonl"));
}

void check_equals_whole(const std::string& out) { check_equal(whole_run(), out); }

TEST_CASE("SIGKILL between steps, twice, then resumed: all state and metrics.jsonl equal the uninterrupted run's", "[resume]") {
  const std::string killed = test::fresh_run("killed");
  REQUIRE(run_in_child(killed, false, {.after_step = 7}) == -SIGKILL);  // after checkpoint 4, in the middle of the first epoch
  REQUIRE(run_in_child(killed, true, {.after_step = 21}) == -SIGKILL);  // after checkpoint 20, in the third
  REQUIRE(run_in_child(killed, true) == 0);
  check_equals_whole(killed);
  CHECK(timeless(killed + "/metrics.jsonl").find("\"probe\":{\"norm\"") != std::string::npos);
}

TEST_CASE("SIGKILL in the middle of an accumulated step, then resumed: as if nothing had happened", "[resume]") {
  const std::string killed = test::fresh_run("mid_accumulation");
  // Two batches a step: the 14th batch is the second of step 7, with the gradient of the first in memory only.
  REQUIRE(run_in_child(killed, false, {.in_forward = 14}) == -SIGKILL);
  CHECK(fs::exists(killed + "/checkpoints/step_4"));
  // The 16th of the resumed process is the second of step 12.
  REQUIRE(run_in_child(killed, true, {.in_forward = 16}) == -SIGKILL);
  REQUIRE(run_in_child(killed, true) == 0);
  check_equals_whole(killed);
}

TEST_CASE("SIGKILL while a checkpoint is written, then resumed from the one before, and nothing half-written stays", "[resume]") {
  for (const char* file : {"step_12.tmp/optimizer.safetensors", "step_12.tmp/manifest.json"}) {
    const std::string killed = test::fresh_run("mid_checkpoint");
    REQUIRE(run_in_child(killed, false, {.in_write = file}) == -SIGKILL);
    CHECK(fs::exists(killed + "/checkpoints/step_12.tmp"));
    CHECK_FALSE(fs::exists(killed + "/checkpoints/step_12"));
    REQUIRE(run_in_child(killed, true) == 0);
    check_equals_whole(killed);
    for (const auto& entry : fs::directory_iterator(killed + "/checkpoints")) CHECK(entry.path().extension() != ".tmp");
  }
}

TEST_CASE("a curriculum with changing weights, streams, temperature and frozen parts, killed in the middle of a stage and where one begins, then resumed", "[resume]") {
  // Checkpoints stand at 4, 8, ...: stage two begins at a checkpoint, stage three between two.
  const std::vector<std::string> curriculum = {
      "stages=[{name: captions, steps: 8, losses: {box: null}, streams: {regions: null}, freeze: ['model.vision_encoder.*']}, "
      "{name: mixed, steps: 10, losses: {box: {type: linear, from: 0, to: 1, steps: 6}}, streams: {captions: {type: linear, from: 1, to: 0.2, steps: 8}}, lr_factor: 0.5}, {name: regions}]",
      "losses.itc.options.temperature={init: {type: cosine, from: 0.2, to: 0.05, steps: 25}, learn: false}", "train.shares_every=3", "data.mix=rows"};
  const std::string whole = test::fresh_run("curriculum"), killed = test::fresh_run("curriculum_killed");
  REQUIRE(run_in_child(whole, false, {}, curriculum) == 0);
  REQUIRE(run_in_child(killed, false, {.after_step = 8}, curriculum) == -SIGKILL);   // before checkpoint 8 is written
  REQUIRE(run_in_child(killed, true, {.after_step = 9}, curriculum) == -SIGKILL);    // after it, and after the line of the stage that begins there
  REQUIRE(run_in_child(killed, true, {.after_step = 14}, curriculum) == -SIGKILL);   // in the middle of the ramps
  REQUIRE(run_in_child(killed, true, {.after_step = 21}, curriculum) == -SIGKILL);   // in the middle of the last stage
  REQUIRE(run_in_child(killed, true, {}, curriculum) == 0);
  check_equal(whole, killed);
  CHECK(timeless(whole + "/metrics.jsonl").find("{\"step\":8,\"stage\":\"mixed\"}") != std::string::npos);
}

TEST_CASE("SIGKILL with momentum encoders, a queue and distillation, then resumed: all state equals the uninterrupted run's", "[resume]") {
  // A queue of 11 rows: no multiple of a batch, and full after two steps.
  const std::vector<std::string> momentum = {"model.momentum={decay: 0.9}", "losses.itc.options={queue: {size: 11}, alpha: {type: linear, from: 0, to: 0.4, steps: 20}}", "losses.mlm.options={distillation: {alpha: 0.3}}"};
  const std::string whole = test::fresh_run("momentum_whole"), killed = test::fresh_run("momentum_killed");
  REQUIRE(run_in_child(whole, false, {}, momentum) == 0);
  REQUIRE(run_in_child(killed, false, {.after_step = 7}, momentum) == -SIGKILL);
  REQUIRE(run_in_child(killed, true, {.in_forward = 16}, momentum) == -SIGKILL);
  REQUIRE(run_in_child(killed, true, {}, momentum) == 0);
  check_equal(whole, killed);
  // The state is there, and it is not that of a run without it.
  const std::string weights = read_file(whole + "/checkpoints/step_30/model.safetensors").value();
  for (const char* name : {"model.momentum.text_proj.weight", "losses.itc.queue.visual", "losses.itc.queue.pointer", "losses.mlm.momentum.dense.weight"}) CHECK(weights.find(name) != std::string::npos);
  const std::string moments = read_file(whole + "/checkpoints/step_30/optimizer.safetensors").value();
  CHECK(moments.find("momentum") == std::string::npos);
}

TEST_CASE("momentum settings that cannot work stop before anything is written", "[resume]") {
  const auto problem = [](const std::vector<std::string>& overrides) {
    const std::string out = test::fresh_run("momentum_refused");
    const auto trainer = Trainer::make(test::tiny_run(overrides), {.out = out});
    CHECK_FALSE(fs::exists(out));
    return trainer.ok() ? std::string() : std::string(trainer.status().message());
  };
  CHECK_THAT(problem({"losses.itc.options.queue={size: 64}"}), Catch::Contains("model.momentum"));
  CHECK_THAT(problem({"losses.itc.options.alpha=0.4"}), Catch::Contains("model.momentum"));
  CHECK_THAT(problem({"losses.mlm.options.distillation={}"}), Catch::Contains("model.momentum"));
  CHECK_THAT(problem({"model.momentum={}", "losses.itc.options.queue={size: 3}"}), Catch::Contains("losses.itc.options.queue.size is 3, less than data.batch_size = 4"));
}

TEST_CASE("a stop request saves; the resumed run equals the uninterrupted one", "[resume]") {
  const std::string stopped = test::fresh_run("stopped");
  std::atomic<bool> stop{false};
  class Stopper final : public Progress {
   public:
    explicit Stopper(std::atomic<bool>& stop) : stop_(stop) {}
    void on_step(const Step& step) override { stop_ = step.step == 10; }

   private:
    std::atomic<bool>& stop_;
  } stopper(stop);
  {
    auto trainer = Trainer::make(test::tiny_run(), {.out = stopped, .stop = &stop, .progress = &stopper});
    REQUIRE(trainer.ok());
    const auto result = (*trainer)->run();
    REQUIRE(result.ok());
    CHECK(result->interrupted);
  }
  CHECK(fs::exists(stopped + "/checkpoints/step_10"));
  REQUIRE(run_in_child(stopped, true) == 0);
  check_equals_whole(stopped);
}

}  // namespace
}  // namespace fgvl::train
