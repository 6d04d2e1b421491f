// The program as a user meets it: what each mistake says, and the exit codes.
#include <array>
#include <chrono>
#include <csignal>
#include <fstream>
#include <thread>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/wait.h>
#include <unistd.h>

#include "data/files.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

namespace fgvl {
namespace {

namespace fs = std::filesystem;
using Arguments = std::vector<std::string>;

std::string read(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

/// A started program; its output goes to a file.
struct Process {
  pid_t pid = 0;
  fs::path output;

  Process(const fs::path& folder, const Arguments& arguments, const std::string& fault = "") : output(folder / "output.txt") {
    pid = fork();
    if (pid != 0) return;
    if (chdir(folder.c_str()) != 0) _exit(99);
    if (!fault.empty()) setenv("FGVL_FAULT", fault.c_str(), 1);
    const int file = open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    dup2(file, 1);
    dup2(file, 2);
    std::vector<char*> argv = {const_cast<char*>(FGVL_PROGRAM)};
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    execv(FGVL_PROGRAM, argv.data());
    _exit(98);
  }
  int wait() const {
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
};

struct Outcome {
  int code;
  std::string output;
};
Outcome fgvl(const fs::path& folder, const Arguments& arguments, const std::string& fault = "") {
  const Process process(folder, arguments, fault);
  const int code = process.wait();
  return {code, read(process.output)};
}

constexpr char kConfig[] = R"(
device: cpu
threads: 1
model:
  embed_dim: 8
  vision: {type: vit, options: {image_size: 32, patch_size: 8, width: 16, layers: 1, heads: 2, mlp_ratio: 2}}
  text: {type: bert, options: {width: 16, layers: 1, heads: 2, mlp_width: 32, max_tokens: 40, dropout: 0}}
  fusion: {type: bert, options: {layers: 1, heads: 2, mlp_width: 32, dropout: 0}}
losses:
  itc: {type: contrastive}
  itm: {type: matching}
  box: {type: box_regression}
data:
  root: pictures
  dataset: {type: voc, options: {held_out_every: 4}}
  image: {size: 32}
  batch_size: 4
  max_skipped_fraction: 0.2
  streams: {all: {captions_per_image: 0}}
train: {steps: 6, log_every: 1, checkpoint_every: 3}
probes: {boxes: {type: boxes}, regions: {type: regions, options: {window_pixels: 16}}}
)";

/// A folder with config.yaml and a VOC dataset of 16 small pictures.
fs::path project(const std::string& name) {
  const fs::path folder = test::fresh_folder("cli_" + name);
  test::write(folder / "config.yaml", kConfig);
  for (int i = 0; i < 16; ++i) {
    const std::string stem = "p" + std::to_string(10 + i);
    test::write(folder / "pictures" / "JPEGImages" / (stem + ".png"), data::to_png(test::plain_image(40, 40, static_cast<std::uint8_t>(10 * i))));
    test::write(folder / "pictures" / "Annotations" / (stem + ".xml"),
                "<annotation><filename>" + stem + ".png</filename><object><name>" + (i % 2 == 0 ? "cat" : "dog") +
                    "</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>" + std::to_string(15 + i) + "</xmax><ymax>20</ymax></bndbox></object></annotation>");
  }
  return folder;
}

TEST_CASE("train, eval, ground and info work on somebody's own pictures, and a resolved configuration can be fed back", "[cli]") {
  const fs::path folder = project("whole");
  const Outcome trained = fgvl(folder, {"train", "config.yaml", "--out", "run"});
  INFO(trained.output);
  REQUIRE(trained.code == 0);
  for (const char* file : {"config.yaml", "metrics.jsonl", "report.html", "checkpoints/step_6/manifest.json"}) CHECK(fs::exists(folder / "run" / file));
  const Outcome scored = fgvl(folder, {"eval", "run", "--json", "scores.json"});
  INFO(scored.output);
  REQUIRE(scored.code == 0);
  const auto json = nlohmann::json::parse(read(folder / "scores.json"));
  CHECK(json["regions"]["true_box"]["n"] == 4);
  CHECK(json["regions"]["fixed_window"]["per_class"]["cat"]["n"].get<int>() + json["regions"]["fixed_window"]["per_class"].value("/dog/n"_json_pointer, 0) == 4);
  CHECK(json["regions"]["baselines"].contains("box_area"));
  CHECK(json["boxes"]["cat"].contains("constant_box_iou"));
  CHECK(json["boxes"]["cat"].contains("hit_at_0.5"));
  const Outcome all = fgvl(folder, {"eval", "run", "data.root=pictures", "data.split=all", "--json", "all.json"});
  INFO(all.output);
  CHECK(all.code == 0);
  CHECK(nlohmann::json::parse(read(folder / "all.json"))["regions"]["true_box"]["n"] == 16);
  const Outcome grounded = fgvl(folder, {"ground", "run", "pictures/JPEGImages/p10.png", "cat", "a zebra", "--out", "g.png"});
  INFO(grounded.output);
  CHECK(grounded.code == 0);
  CHECK_THAT(grounded.output, Catch::Contains("cat\tbox [") && Catch::Contains("\"a zebra\" has words that the model has never seen"));
  CHECK(data::read_image((folder / "g.png").string()).ok());
  CHECK_THAT(fgvl(folder, {"info", "run"}).output, Catch::Contains("vision_encoder") && Catch::Contains("total"));
  CHECK_THAT(fgvl(folder, {"info", "config.yaml"}).output, Catch::Contains("GFLOP"));
  const Outcome dry = fgvl(folder, {"train", "run/config.yaml", "--dry-run"});
  CHECK(dry.code == 0);
  CHECK(dry.output.find(read(folder / "run" / "config.yaml")) != std::string::npos);
}

TEST_CASE("every mistake has its own sentence and exit code", "[cli]") {
  const fs::path folder = project("mistakes");
  const auto expect = [&](const Arguments& arguments, int code, const std::vector<std::string>& parts, const std::string& fault = "") {
    const Outcome outcome = fgvl(folder, arguments, fault);
    INFO(outcome.output);
    CHECK(outcome.code == code);
    for (const std::string& part : parts) CHECK_THAT(outcome.output, Catch::Contains(part));
    CHECK(outcome.output.find("frame #") == std::string::npos);  // no stack trace at a user
  };
  const auto train = [](const std::string& override) { return Arguments{"train", "config.yaml", "--out", "run", override}; };
  expect(train("train.stpes=5"), 2, {"train.stpes: unknown key (did you mean \"steps\"?)"});
  expect(train("train.steps=many"), 2, {"train.steps: expected a whole number, got \"many\""});
  expect(train("train.precision=fp8"), 2, {"one of fp32, bf16"});
  expect({"train", "nothing.yaml"}, 2, {"nothing.yaml: cannot open"});
  expect({"train"}, 2, {"CONFIG is required"});
  expect({"tarin", "config.yaml"}, 2, {"tarin"});
  expect(train("data.root=nowhere"), 3, {"nowhere: the data folder (data.root) does not exist"});
  expect(train("data.dataset.options.images=nowhere"), 3, {"nowhere: the folder of pictures"});
  test::write(folder / "empty" / "instances.json", "");
  fs::create_directories(folder / "empty" / "images");
  test::write(folder / "empty" / "regions.jsonl", "");
  expect(train("data={root: empty, dataset: {type: coco}}"), 3, {"instances.json: the annotation file is empty"});
  expect(train("data={root: empty, dataset: {type: xvlm_jsonl}}"), 3, {"regions.jsonl: the annotation file is empty"});
  CHECK_FALSE(fs::exists(folder / "run"));
  expect(train("train.steps=4"), 4, {"No space left on device", "step_3"}, "enospc:step_3");
  fs::remove_all(folder / "run");
  expect(train("train.steps=4"), 0, {"done: 4 steps", "report: run/report.html"});
  expect(train("train.steps=4"), 2, {"run: this folder already holds something", "--resume latest"});
  expect({"eval", "run", "model.vision.options.width=32"}, 4, {"another model"});
  expect({"eval", "nowhere"}, 4, {"nowhere: no such folder"});
  expect({"ground", "run", "nothing.jpg", "cat"}, 3, {"nothing.jpg: cannot open"});
  expect({"--help"}, 0, {"train", "eval", "ground", "demo", "info", "Exit codes"});
  for (const char* command : {"train", "eval", "ground", "demo", "info"}) expect({command, "--help"}, 0, {"--help"});
  expect({"--version"}, 0, {"fgvl 0."});
}

TEST_CASE("a truncated JPEG is counted and listed, and the run ends well; too many stop it with 3", "[cli]") {
  const fs::path shared = test::shared_dir();
  FGVL_SKIP_UNLESS(!shared.empty(), "a real JPEG");
  const fs::path folder = project("truncated");
  const std::string jpeg = read(shared / "data" / "photos" / "images" / "CONCEPTUAL_01.jpg");
  test::write(folder / "pictures" / "JPEGImages" / "p11.png", jpeg.substr(0, jpeg.size() / 2));
  const Outcome outcome = fgvl(folder, {"train", "config.yaml", "--out", "run"});
  INFO(outcome.output);
  CHECK(outcome.code == 0);
  const std::string skipped = read(folder / "run" / "skipped.jsonl");
  CHECK_THAT(skipped, Catch::Contains("unreadable_image") && Catch::Contains("p11.xml") && Catch::Contains("damaged JPEG"));
  CHECK_THAT(read(folder / "run" / "report.html"), Catch::Contains("unreadable_image"));
  const Outcome strict = fgvl(folder, {"train", "config.yaml", "--out", "strict", "data.max_skipped_fraction=0"});
  INFO(strict.output);
  CHECK(strict.code == 3);
  CHECK_THAT(strict.output, Catch::Contains("data.max_skipped_fraction"));
  CHECK(fs::exists(folder / "strict" / "skipped.jsonl"));
}

/// Waits until `path` holds `text`, at most 30 seconds.
bool appears(const fs::path& path, const std::string& text) {
  for (int i = 0; i < 600; ++i) {
    if (read(path).find(text) != std::string::npos) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return false;
}

TEST_CASE("Ctrl-C saves and exits 75, a second one leaves at once with 130, and the run can be resumed", "[cli]") {
  const fs::path folder = project("signals");
  const Arguments arguments = {"train", "config.yaml", "--out", "run", "train.steps=100000", "train.checkpoint_every=100000"};
  const Process once(folder, arguments);
  REQUIRE(appears(folder / "run" / "metrics.jsonl", "\"step\":2,"));
  kill(once.pid, SIGINT);
  CHECK(once.wait() == 75);
  CHECK_THAT(read(once.output), Catch::Contains("interrupted at step") && Catch::Contains("--resume latest"));
  CHECK_FALSE(fs::is_empty(folder / "run" / "checkpoints"));
  // Twice at once: a step of 4096 pictures a batch takes long enough that the second signal meets the first one's step.
  Arguments slow = arguments;
  slow[3] = "slow";
  slow.insert(slow.end(), {"data.batch_size=4096", "train.accumulate=1000"});
  const Process twice(folder, slow);
  REQUIRE(appears(twice.output, "writing to slow"));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  kill(twice.pid, SIGTERM);
  REQUIRE(appears(twice.output, "once more to leave at once"));
  kill(twice.pid, SIGINT);
  CHECK(twice.wait() == 130);
  const Outcome resumed = fgvl(folder, {"train", "config.yaml", "--out", "run", "--resume", "latest", "train.steps=3"});
  CHECK_THAT(resumed.output, Catch::Contains("resumed from run/checkpoints/step_"));
}

TEST_CASE("demo: a short one writes summary.json and the report", "[cli]") {
  const fs::path folder = test::fresh_folder("cli_demo");
  const Outcome outcome = fgvl(folder, {"demo", "--out", "d", "--steps", "2", "--seed", "4"});
  INFO(outcome.output);
  REQUIRE(outcome.code == 0);
  CHECK_THAT(outcome.output, Catch::Contains("report: d/report.html") && Catch::Contains("existence"));
  const auto summary = nlohmann::json::parse(read(folder / "d" / "summary.json"));
  CHECK(summary["seed"] == 4);
  CHECK(summary["steps"] == 2);
  CHECK(summary["seconds"].is_number());
  for (const char* arm : {"captions", "regions", "foils"}) {
    for (const char* skill : {"existence", "attribute", "shape", "counting", "relation", "swap"}) {
      const auto& one = summary["arms"][arm]["skills"][skill];
      INFO(arm << " " << skill << " " << one.dump());
      CHECK(one["n"] == 1000);
      CHECK(one["accuracy"].get<double>() >= 0.0);
      CHECK(one["accuracy"].get<double>() <= 1.0);
    }
    CHECK(summary["arms"][arm]["samples_per_second"].get<double>() > 0);
  }
  CHECK(summary["arms"]["captions"]["box_mean_iou"].is_null());
  CHECK(summary["arms"]["regions"]["box_mean_iou"].is_number());
  const std::string report = read(folder / "d" / "report.html");
  std::size_t pictures = 0;
  for (std::size_t at = report.find("data:image/png"); at != std::string::npos; at = report.find("data:image/png", at + 1)) ++pictures;
  CHECK(pictures == 12);
  CHECK_THAT(report, Catch::Contains("saw foils of the kinds that relation and swap test"));
  CHECK(fgvl(folder, {"demo", "--out", "d"}).code == 2);
}

TEST_CASE("every configuration of the project is valid, and docs/configuration.md is what the program prints", "[cli]") {
  const fs::path root = FGVL_SOURCE_DIR, folder = test::fresh_folder("cli_configs");
  int checked = 0;
  for (const auto& entry : fs::recursive_directory_iterator(root / "configs")) {
    if (entry.path().extension() != ".yaml" || entry.path().stem() == "bccd") continue;  // bccd needs pictures
    const Outcome outcome = fgvl(folder, {"train", entry.path().string(), "--dry-run"});
    INFO(entry.path() << "\n" << outcome.output);
    CHECK(outcome.code == 0);
    ++checked;
  }
  CHECK(checked >= 5);
  const Outcome reference = fgvl(folder, {"config-reference"});
  CHECK(reference.code == 0);
  CHECK((reference.output == read(root / "docs" / "configuration.md")));
}

TEST_CASE("the ablation captions_only is the demo's arm of captions", "[cli]") {
  const fs::path root = FGVL_SOURCE_DIR, folder = test::fresh_folder("cli_ablation");
  const Outcome file = fgvl(folder, {"train", (root / "configs/ablations/captions_only.yaml").string(), "--dry-run"});
  const Outcome arm = fgvl(folder, {"train", (root / "configs/demo.yaml").string(), "--dry-run", "losses.box=null", "data.streams.scenes.max_regions=0"});
  CHECK(file.output == arm.output);
  CHECK(file.output.find("box_regression") == std::string::npos);
}

}  // namespace
}  // namespace fgvl
