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

/// Kills its own process after `batch_limit` steps were counted: at the start of the next one, between two checkpoints.
class Killer final : public Progress {
 public:
  explicit Killer(std::int64_t step) : step_(step) {}
  void on_step(const Step& step) override {
    if (step.step == step_) std::raise(SIGKILL);
  }

 private:
  std::int64_t step_;
};

/// In a process of its own, because SIGKILL must hit the whole of it.
int run_in_child(const std::string& out, bool resume, std::int64_t kill_at) {
  const pid_t child = fork();
  if (child == 0) {
    Killer killer(kill_at);
    auto trainer = Trainer::make(test::tiny_run(), {.out = out, .resume = resume, .progress = &killer});
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

TEST_CASE("SIGKILL in mid-epoch, twice, then resumed: all state and metrics.jsonl equal the uninterrupted run's", "[resume]") {
  const std::string whole = test::fresh_run("whole"), killed = test::fresh_run("killed");
  REQUIRE(run_in_child(whole, false, -1) == 0);
  REQUIRE(run_in_child(killed, false, 7) == -SIGKILL);   // after checkpoint 4, in the middle of the first epoch
  REQUIRE(run_in_child(killed, true, 21) == -SIGKILL);   // after checkpoint 20, in the third
  REQUIRE(run_in_child(killed, true, -1) == 0);
  const fs::path last = fs::path("checkpoints") / "step_30";
  int files = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(whole) / last)) {
    INFO(entry.path().filename());
    CHECK(read_file(entry.path().string()).value() == read_file((fs::path(killed) / last / entry.path().filename()).string()).value());
    ++files;
  }
  CHECK(files == 6);  // model, optimizer, state, config, vocabulary, manifest
  CHECK(timeless(whole + "/metrics.jsonl") == timeless(killed + "/metrics.jsonl"));
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
  auto trainer = Trainer::make(test::tiny_run(), {.out = stopped, .stop = &stop, .progress = &stopper});
  REQUIRE(trainer.ok());
  const auto result = (*trainer)->run();
  REQUIRE(result.ok());
  CHECK(result->interrupted);
  CHECK(fs::exists(stopped + "/checkpoints/step_10"));
  REQUIRE(run_in_child(stopped, true, -1) == 0);
  const std::string whole = (fs::temp_directory_path() / "fgvl_run_whole").string();
  CHECK(read_file(stopped + "/checkpoints/step_30/model.safetensors").value() == read_file(whole + "/checkpoints/step_30/model.safetensors").value());
}

}  // namespace
}  // namespace fgvl::train
