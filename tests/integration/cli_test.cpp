// The program as a user meets it: what each mistake says, and the exit codes.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstring>
#include <fstream>
#include <iostream>
#include <sstream>
#include <thread>

#include <nlohmann/json.hpp>
#include <torch/torch.h>

#include "data/files.hpp"
#include "fgvl/core/checkpoint_file.hpp"
#include "integration/program.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

namespace fgvl {
namespace {

namespace fs = std::filesystem;
using test::Arguments;
using test::Outcome;
using test::Process;
using test::fgvl;
using test::project;
using test::read;

/// The smallest weights that are recognised as X-VLM's; one number is not finite.
NamedTensors official_names() {
  const Tensor words = torch::arange(10, at::kFloat).view({5, 2});
  return {{"vision_encoder.norm.weight", torch::ones({2})},
          {"text_encoder.bert.embeddings.word_embeddings.weight", words},
          {"text_encoder.bert.encoder.layer.0.output.dense.bias", torch::ones({2})},
          {"text_encoder.bert.encoder.layer.1.crossattention.self.key.weight", torch::ones({2, 2})},
          {"vision_proj.weight", torch::tensor({1.f, 2.f, std::nanf(""), 4.f}).view({2, 2})},
          {"temp", torch::tensor(0.07f)},
          {"text_encoder.cls.predictions.decoder.weight", words}};
}

TEST_CASE("train, eval and info work on somebody's own pictures, and a resolved configuration can be fed back", "[cli]") {
  const fs::path folder = project("whole");
  const Outcome trained = fgvl(folder, {"train", "config.yaml", "--out", "run"});
  INFO(trained.output);
  REQUIRE(trained.code == 0);
  for (const char* file : {"config.yaml", "metrics.jsonl", "report.html", "checkpoints/step_6/manifest.json"}) CHECK(fs::exists(folder / "run" / file));
  const Outcome explained = fgvl(folder, {"train", "config.yaml", "--out", "explained", "--explain"});
  CHECK(explained.code == 0);
  CHECK_THAT(explained.output, Catch::Contains("What config.yaml minimises") && Catch::Contains("total = ") && Catch::Contains("part of the model"));
  CHECK_FALSE(fs::exists(folder / "explained"));
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
  const auto of_all = nlohmann::json::parse(read(folder / "all.json"));
  CHECK(of_all["regions"]["true_box"]["n"] == 16);
  // Baselines are fitted on the training split, which is among these.
  CHECK(of_all["regions"]["baselines"]["box_area"].is_null());
  CHECK(of_all["boxes"]["cat"]["constant_box_iou"].is_null());
  CHECK_THAT(all.output, Catch::Contains("baselines are left out"));
  CHECK(json["regions"]["baselines"]["box_area"].is_number());
  REQUIRE(fgvl(folder, {"eval", "run", "data.split=train", "--json", "seen.json"}).code == 0);
  CHECK(nlohmann::json::parse(read(folder / "seen.json"))["regions"]["true_box"]["n"] == 12);
  CHECK_THAT(fgvl(folder, {"eval", "run/checkpoints/step_6/"}).output, Catch::Contains("checkpoint run/checkpoints/step_6"));
  CHECK_THAT(fgvl(folder, {"info", "run/checkpoints/step_6/"}).output, Catch::Contains("step 6,"));
  CHECK_THAT(fgvl(folder, {"info", "run"}).output, Catch::Contains("vision_encoder") && Catch::Contains("total"));
  const std::string info = fgvl(folder, {"info", "config.yaml"}).output;
  CHECK_THAT(info, Catch::Contains("GFLOP") && Catch::Contains("expected memory in training"));
  // 4 images and up to 5 regions each. Vision: 17 tokens an image through 4 x (16, 16), (16, 32), (32, 16), and a stem of 32 x 32 x 3 numbers in and 4 x 4 x 16 out.
  // Text: 20 texts of 40 tokens through 4 x (16, 16) and twice 16 and 32. Fusion: pairs three times as many (true ones and two negatives) through twice 4 x (16, 16)
  // but for the keys and values of images, and the same two.
  const double vision = 68 * (4 * 32 + 2 * 48) + 4 * (32 * 32 * 3 + 4 * 4 * 16), text = 800 * (4 * 32 + 2 * 48), fusion = 2400 * (6 * 32 + 2 * 48) + 68 * (2 * 32);
  char expected[64];
  std::snprintf(expected, sizeof expected, "%12.1f MiB  of 4 images and up to 20 texts", 4 * (vision + text + fusion) / (1 << 20));
  CHECK_THAT(info, Catch::Contains(expected));
  const Outcome dry = fgvl(folder, {"train", "run/config.yaml", "--dry-run"});
  CHECK(dry.code == 0);
  CHECK(dry.output.find(read(folder / "run" / "config.yaml")) != std::string::npos);
}

TEST_CASE("weights are described and converted, and hostile ones end with exit code 4", "[cli]") {
  const fs::path folder = test::fresh_folder("cli_weights");
  REQUIRE(write_torch_file((folder / "official.th").string(), official_names(), {.config_json = "{\"image_res\": 64}"}).ok());
  const auto expect = [&](const Arguments& arguments, int code, const std::vector<std::string>& parts) {
    const Outcome outcome = fgvl(folder, arguments);
    INFO(outcome.output);
    CHECK(outcome.code == code);
    for (const std::string& part : parts) CHECK_THAT(outcome.output, Catch::Contains(part));
  };
  expect({"info", "official.th"}, 0, {"PyTorch (zip), under \"model\"", "X-VLM", "text       bert, width 2, ", "to run     this version cannot use it: its vision encoder is of a kind", "NOT FINITE", "vision_proj.weight: 1 of 4"});
  expect({"convert", "official.th", "ours.safetensors", "--names", "fgvl"}, 0, {"6 tensors, safetensors"});
  expect({"info", "ours.safetensors"}, 0, {"family     fgvl", "model.fusion_encoder"});
  expect({"convert", "ours.safetensors", "back.th", "--names", "xvlm"}, 0, {"7 tensors, PyTorch (zip)"});
  const NamedTensors before = official_names();
  const CheckpointFile after = open_checkpoint((folder / "back.th").string()).value();
  REQUIRE(after.tensors.size() == before.size());
  const std::map<std::string, Tensor> found(after.tensors.begin(), after.tensors.end());
  for (const auto& [name, tensor] : before) {
    INFO(name);
    CHECK(std::memcmp(found.at(name).const_data_ptr(), tensor.const_data_ptr(), tensor.nbytes()) == 0);
  }
  CHECK(nlohmann::json::parse(after.config_json)["image_res"] == 64);
  NamedTensors albef = official_names();
  albef[0].first = "visual_encoder.norm.weight";
  for (const char* state : {"image_queue", "text_encoder_m.bert.embeddings.word_embeddings.weight", "text_encoder_m.cls.predictions.bias"}) albef.emplace_back(state, torch::ones({1}));
  REQUIRE(write_torch_file((folder / "albef.pth").string(), albef).ok());
  expect({"info", "albef.pth"}, 0, {"family     ALBEF"});
  expect({"convert", "albef.pth", "albef.safetensors", "--names", "fgvl"}, 0, {"6 tensors, safetensors", "state of the official objective, left out: text_encoder_m.* (2), image_queue"});
  expect({"convert", "official.th", "out.npz"}, 2, {"chosen by the ending"});
  expect({"convert", "official.th", "official.th"}, 2, {"would replace what is read"});
  test::write(folder / "cut.th", read(folder / "official.th").substr(0, 700));
  test::write(folder / "call.pt", "\x80\x02" "cposix\nsystem\nX\x01\x01\x01\x01");
  test::write(folder / "text.bin", "hello, hello");
  expect({"info", "cut.th"}, 4, {"cut.th: zip archive, byte"});
  expect({"info", "call.pt"}, 4, {"call.pt: pickle, byte 2: names posix.system"});
  expect({"convert", "text.bin", "a.th"}, 4, {"text.bin: neither a file of PyTorch nor safetensors"});
  expect({"info", "absent.th"}, 4, {"absent.th: cannot open"});
}

TEST_CASE("every mistake has its own sentence and exit code", "[cli]") {
  const fs::path folder = project("mistakes");
  const auto expect = [&](const Arguments& arguments, int code, const std::vector<std::string>& parts, const std::string& fault = "") {
    const Outcome outcome = fgvl(folder, arguments, {.fault = fault});
    INFO(outcome.output);
    CHECK(outcome.code == code);
    for (const std::string& part : parts) CHECK_THAT(outcome.output, Catch::Contains(part));
    CHECK(outcome.output.find("frame #") == std::string::npos);  // no stack trace at a user
  };
  const auto train = [](const std::string& override) { return Arguments{"train", "config.yaml", "--out", "run", override}; };
  expect(train("train.stpes=5"), 2, {"train.stpes: unknown key (did you mean \"steps\"?)"});
  expect(train("train.steps=many"), 2, {"train.steps: expected a whole number, got \"many\""});
  expect(train("train.precision=fp8"), 2, {"one of fp32, bf16"});
  expect(train("model.vision.options.heads=3"), 2, {"argument 'model.vision.options.heads=3'", "width: expected a multiple of heads 3"});
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
  expect({"train", "config.yaml", "--out", "run", "--resume", "latest", "model.text.options.width=32", "model.fusion.options.heads=4"}, 4, {"run/checkpoints/step_4", "another model"});
  expect({"train", "config.yaml", "--out", "run", "--resume", "latest", "train.steps=3"}, 2, {"train.steps is 3", "stands at step 4"});
  for (const char* file : {"metrics.jsonl", "events.out", "report.html"}) {
    fs::remove_all(folder / "full");
    expect({"train", "config.yaml", "--out", "full", "train.steps=2"}, 4, {std::string("full/") + file, "No space left on device", "free some space"}, std::string("enospc:") + file);
  }
  expect({"eval", "run", "--json", "scores.json"}, 4, {"scores.json", "No space left on device"}, "enospc:scores.json");
  expect({"ground", "run", "pictures/JPEGImages/p10.png", "cat", "--out", "g.png"}, 4, {"g.png", "No space left on device"}, "enospc:g.png");
  expect({"train", "config.yaml", "--out", "boxless", "model.box_head=false"}, 2, {"needs predicted boxes, and model.box_head is false"});
  expect({"train", "config.yaml", "--out", "longer", "data.tokenizer.max_tokens=41"}, 2, {"data.tokenizer.max_tokens is 41", "model.text.options.max_tokens = 40"});
  // Nothing is held out: said before training, and no reason not to train once the probes are gone.
  expect({"train", "config.yaml", "--out", "none_held_out", "data.dataset.options.held_out_every=0"}, 3, {"probes.", "no record in the split that is scored", "held_out_every"});
  CHECK_FALSE(fs::exists(folder / "none_held_out"));
  expect({"train", "config.yaml", "--out", "none_held_out", "data.dataset.options.held_out_every=0", "probes={boxes: null, regions: null}"}, 0, {"report: none_held_out/report.html"});
  // The checkpoint of words that the data no longer have.
  fs::copy(folder / "pictures", folder / "renamed", fs::copy_options::recursive);
  for (const auto& entry : fs::directory_iterator(folder / "renamed" / "Annotations")) {
    std::string text = read(entry.path());
    const std::size_t at = text.find("cat");
    if (at != std::string::npos) test::write(entry.path(), text.replace(at, 3, "zebra"));
  }
  expect({"train", "config.yaml", "--out", "run", "--resume", "latest", "data.root=renamed"}, 4, {"step_4/vocab.txt: the vocabulary has changed", "zebra", "data.tokenizer.vocabulary"});
  expect({"ground", "run", "nothing.jpg", "cat"}, 3, {"nothing.jpg: cannot open"});
  for (const auto& entry : fs::directory_iterator(folder / "run" / "checkpoints")) test::write(entry.path() / "model.safetensors", "damaged");
  expect({"train", "config.yaml", "--out", "run", "--resume", "latest"}, 4, {"passed over a damaged checkpoint", "all of its"});
  CHECK_FALSE(read(folder / "run" / "metrics.jsonl").empty());
  expect({"eval", "nowhere"}, 4, {"nowhere: no such folder"});
  expect({"--help"}, 0, {"train", "eval", "ground", "demo", "info", "Exit codes"});
  for (const char* command : {"train", "eval", "ground", "score", "rank", "demo", "scenes", "data", "info"}) expect({command, "--help"}, 0, {"--help"});
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

TEST_CASE("what is left out is counted once and listed; a full disk under the list ends the run with 4", "[cli]") {
  const fs::path folder = project("left_out");
  test::write(folder / "pictures" / "JPEGImages" / "p11.png", "no picture");
  const Arguments arguments = {"train", "config.yaml", "--out", "run", "train.steps=40"};  // 160 visits of 12 pictures
  const Outcome outcome = fgvl(folder, arguments);
  INFO(outcome.output);
  REQUIRE(outcome.code == 0);
  CHECK_THAT(outcome.output, Catch::Contains("1 records or regions left out"));
  CHECK_THAT(read(folder / "run" / "report.html"), Catch::Contains("1 × unreadable_image") && Catch::Contains("11 of 12 records were used"));
  const std::string listed = read(folder / "run" / "skipped.jsonl");
  CHECK(std::count(listed.begin(), listed.end(), '\n') == 1);
  fs::remove_all(folder / "run");
  const Outcome full = fgvl(folder, arguments, {.fault = "enospc:skipped.jsonl"});
  INFO(full.output);
  CHECK(full.code == 4);
  CHECK_THAT(full.output, Catch::Contains("skipped.jsonl") && Catch::Contains("No space left on device"));
  // An annotation that is no XML is listed with its place.
  test::write(folder / "pictures" / "Annotations" / "p13.xml", "");
  REQUIRE(fgvl(folder, {"train", "config.yaml", "--out", "other", "train.steps=40"}).code == 0);
  CHECK_THAT(read(folder / "other" / "skipped.jsonl"), Catch::Contains("\"place\":\"pictures/Annotations/p13.xml\",\"cause\":\"unreadable_record\""));
}

TEST_CASE("out of memory ends with exit code 7: a model that does not fit, and pictures that do not fit, in the loader's thread or without one", "[cli]") {
  const fs::path folder = project("memory");
  // What the program needs to start (libraries are mapped whole) and 1.5 GiB more.
  constexpr std::uint64_t kStep = std::uint64_t{1} << 29;
  std::uint64_t limit = kStep;
  while (limit < 40 * kStep && fgvl(folder, {"--version"}, {.memory_bytes = limit}).code != 0) limit += kStep;
  limit += 3 * kStep;
  const auto expect = [&](const Arguments& more) {
    fs::remove_all(folder / "run");
    Arguments arguments = {"train", "config.yaml", "--out", "run"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = fgvl(folder, arguments, {.memory_bytes = limit});
    INFO(outcome.output);
    CHECK(outcome.code == 7);
    CHECK_THAT(outcome.output, Catch::Contains("out of memory: lower data.batch_size"));
    CHECK(outcome.output.find("frame #") == std::string::npos);
  };
  expect({"model.vision.options.width=8192", "model.vision.options.mlp_ratio=64"});  // a matrix of 8192 x 524288 numbers: 16 GiB
  for (const char* workers : {"0", "1"}) {
    // A picture is 3 x 4096 x 4096 numbers, 192 MiB: a few of them are too many.
    expect({"data.image.size=4096", "model.vision.options.image_size=4096", "model.vision.options.patch_size=256", "model.vision.options.stem=linear", "data.batch_size=64", std::string("data.workers=") + workers});
  }
}

TEST_CASE("progress: a bar on a terminal, plain lines in a log", "[cli]") {
  const fs::path folder = project("progress");
  const Outcome plain = fgvl(folder, {"train", "config.yaml", "--out", "plain"});
  CHECK(plain.code == 0);
  CHECK_THAT(plain.output, Catch::Contains("step 6/6") && Catch::Contains("images/s") && Catch::Contains("itc "));
  for (const char* of_a_terminal : {"\r", "\x1b", "█"}) CHECK(plain.output.find(of_a_terminal) == std::string::npos);
  if (!fs::exists("/dev/pts/ptmx")) {
    std::cout << "SKIPPED: the bar on a terminal: this system has no pseudo-terminals (/dev/pts is not mounted)" << std::endl;
    return;
  }
  const Outcome bar = fgvl(folder, {"train", "config.yaml", "--out", "bar"}, {.terminal = true});
  CHECK(bar.code == 0);
  CHECK_THAT(bar.output, Catch::Contains("\r\x1b[2K") && Catch::Contains("████████████████████████ 6/6") && Catch::Contains("img/s"));
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
  const std::string saved = fs::directory_iterator(folder / "run" / "checkpoints")->path().filename().string();
  const std::int64_t more = std::stoll(saved.substr(saved.find('_') + 1)) + 3;
  const Outcome resumed = fgvl(folder, {"train", "config.yaml", "--out", "run", "--resume", "latest", "train.steps=" + std::to_string(more)});
  INFO(resumed.output);
  CHECK(resumed.code == 0);
  CHECK_THAT(resumed.output, Catch::Contains("resumed from run/checkpoints/" + saved) && Catch::Contains("done: " + std::to_string(more) + " steps"));
  // Where nothing is to be saved, a signal ends the program as it ends any other.
  const Process scoring(folder, {"eval", "run", "probes={boxes: null, regions: null, skills: {type: skills, options: {pairs: 1000000, scenes: {}}}}"});
  REQUIRE(appears(scoring.output, "checkpoint run/checkpoints"));
  kill(scoring.pid, SIGINT);
  CHECK(scoring.wait() == -SIGINT);
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
  // Each arm is what its file says, with its share of the threads: nobody has to trust the program for it.
  for (const auto& [arm, file] : {std::pair<const char*, const char*>{"captions", "ablations/captions_only.yaml"}, {"regions", "demo.yaml"}, {"foils", "demo_foils.yaml"}}) {
    INFO(arm);
    const std::string trained = read(folder / "d" / arm / "config.yaml"), key = "threads: ";
    const std::size_t place = trained.find("\n" + key) + 1 + key.size();
    const std::string threads = "threads=" + trained.substr(place, trained.find('\n', place) - place);
    const Outcome resolved = fgvl(folder, {"train", std::string(FGVL_SOURCE_DIR) + "/configs/" + file, "--dry-run", "seed=4", "train.steps=2", "probe_every=1", threads});
    CHECK(resolved.output.find(trained) != std::string::npos);
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

TEST_CASE("demo: an arm that fails stops the others, and Ctrl-C stops all", "[cli]") {
  const fs::path folder = project("demo_stopped");
  // The arm "regions" cannot write its log; the others would train for hours.
  const Outcome failed = fgvl(folder, {"demo", "--out", "failed", "--steps", "100000"}, {.fault = "enospc:regions/metrics.jsonl"});
  INFO(failed.output);
  CHECK(failed.code == 4);
  CHECK_THAT(failed.output, Catch::Contains("No space left on device") && Catch::Contains("regions/metrics.jsonl"));
  const Process process(folder, {"demo", "--out", "stopped", "--steps", "100000"});
  REQUIRE(appears(folder / "stopped" / "foils" / "metrics.jsonl", "\"step\":10,"));
  kill(process.pid, SIGINT);
  CHECK(process.wait() == 75);
  CHECK_THAT(read(process.output), Catch::Contains("interrupted at step"));
  for (const char* arm : {"captions", "regions", "foils"}) CHECK_FALSE(fs::is_empty(folder / "stopped" / arm / "checkpoints"));
}

TEST_CASE("data show: samples and counts of the data, as text and as JSON, and counts that add up", "[cli]") {
  const fs::path folder = project("data_show");
  test::write(folder / "pictures" / "JPEGImages" / "p11.png", "no picture");
  // A foil is delivered only if the vocabulary has its words.
  test::write(folder / "words.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nsmall\nlarge\ncat\ncats\ndog\ndogs\nleft\nright\nof\ncup\ncups\none\ntwo\nthree\nfour\n");
  const Arguments arguments = {"data", "show", "config.yaml", "--scan", "all", "--count", "2", "data.tokenizer.vocabulary=words.txt", "data.dataset.options.labels={cat: a small cat left of a cup, dog: two dogs}",
                               "data.streams={all: {captions_per_image: 0, foils: true, foil_rules: {kinds: {relation: 1, attribute: 1, number: 1, noun: 1}, own_labels: false}}}"};
  const Outcome text = fgvl(folder, arguments);
  INFO(text.output);
  REQUIRE(text.code == 0);
  CHECK_THAT(text.output, Catch::Contains("stream all: 12 records") && Catch::Contains("tokens: [CLS] ") && Catch::Contains("12 of 12 records looked at: 11 pictures readable, 11 regions, 11 texts") && Catch::Contains("left out: 1 unreadable_image"));
  Arguments with_json = arguments;
  with_json.push_back("--json");
  const Outcome outcome = fgvl(folder, with_json);
  INFO(outcome.output);
  REQUIRE(outcome.code == 0);
  const auto shown = nlohmann::json::parse(outcome.output);
  const auto& stream = shown["streams"][0];
  CHECK(stream["samples"].size() == 2);
  const auto& summary = stream["summary"];
  CHECK(summary["records"] == 12);
  CHECK(summary["readable_pictures"].get<int>() + summary["skipped"]["unreadable_image"].get<int>() == 12);
  // "a small cat left of a cup": one opposite, one other size; "two dogs": three, four and one dog.
  const int pictures = summary["texts"].get<int>(), of_size = summary["foils"]["attribute"]["texts"], of_number = summary["foils"]["number"]["texts"];
  CHECK(of_size == summary["foils"]["attribute"]["foils"].get<int>());
  CHECK(summary["foils"]["relation"]["foils"] == of_size);
  CHECK(summary["foils"]["number"]["foils"].get<int>() >= 3 * (pictures - of_size));
  CHECK(of_number == pictures);  // "a small cat" can be two as well
  CHECK(summary["foils"]["noun"]["texts"] == pictures);
  CHECK(summary["texts_without_foil"] == 0);
  CHECK(summary["foils_of_unknown_words"].get<int>() > 0);  // the words of twelve captions are few
  for (const auto& sample : stream["samples"]) {
    for (const auto& one : sample["texts"]) CHECK(one["box"].size() == 4);
  }
  // Rules make foils of texts without position tokens only, and own labels are not exchanged for what they imply.
  const auto counts = [&](const std::string& override, const std::string& stream_options) {
    const Outcome shown = fgvl(folder, {"data", "show", "config.yaml", "--scan", "all", "--count", "0", "--json", override,
                                        "data.streams={all: {captions_per_image: 0, " + stream_options + "foils: true, foil_rules: {kinds: {noun: 1}}}}"});
    INFO(shown.output);
    REQUIRE(shown.code == 0);
    return nlohmann::json::parse(shown.output)["streams"][0]["summary"];
  };
  CHECK(counts("data.tokenizer.options.position_tokens=true", "position_tokens: true, ")["texts_without_foil"] == 11);
  CHECK(counts("data.labels={}", "")["foils"]["noun"]["texts"] == 11);
  CHECK(counts("data.labels.parents={dog: cat}", "")["texts_without_foil"] == 11);  // no cat for a dog, no dog for a cat, and there are no others
  const auto plain = nlohmann::json::parse(fgvl(folder, {"data", "show", "config.yaml", "--count", "0", "--json"}).output);
  CHECK(plain["streams"][0]["samples"].empty());
  CHECK(plain["streams"][0]["summary"]["texts_without_foil"].is_null());
}

TEST_CASE("data show: a wrong path, an empty folder, pictures that cannot be read and a lexicon with a mistake end with their codes", "[cli]") {
  const fs::path folder = project("data_show_errors");
  const auto expect = [&](const Arguments& arguments, int code, const std::vector<std::string>& parts) {
    const Outcome outcome = fgvl(folder, arguments);
    INFO(outcome.output);
    CHECK(outcome.code == code);
    for (const std::string& part : parts) CHECK_THAT(outcome.output, Catch::Contains(part));
  };
  expect({"data"}, 2, {"subcommand"});
  expect({"data", "show"}, 2, {"CONFIG"});
  expect({"data", "show", "--help"}, 0, {"--root", "--scan", "--json", "foils"});
  expect({"data", "show", "nothing.yaml"}, 2, {"nothing.yaml"});
  expect({"data", "show", "config.yaml", "--scan", "some"}, 2, {"--scan", "all"});
  for (const char* count : {"-1", "some", "1.5"}) expect({"data", "show", "config.yaml", "--count", count}, 2, {"--count: expected a whole number of at least 0"});
  expect({"data", "show", "config.yaml", "--root", ""}, 3, {"(data.root)", "none was given; set this key"});
  expect({"data", "show", "config.yaml", "data.streams={all: {foils: true, foil_rules: {lexicon: words.yaml}}}"}, 2, {"data.streams.all.foil_rules: lexicon: no foil is made with its words"});
  expect({"data", "show", "config.yaml", "data.labels.parents={cat: dog, dog: cat}"}, 2, {"data.labels.parents", "leads back"});
  expect({"data", "show", "config.yaml", "--root", "nowhere"}, 3, {"nowhere"});
  fs::create_directories(folder / "empty" / "Annotations");
  fs::create_directories(folder / "empty" / "JPEGImages");
  expect({"data", "show", "config.yaml", "--root", "empty"}, 3, {"empty/Annotations", "no .xml file"});
  const std::string with_foils = "data.streams={all: {captions_per_image: 0, foils: true, foil_rules: {kinds: {noun: 1}, lexicon: words.yaml}}}";
  test::write(folder / "words.yaml", "nouns:\n  animals: {words: [cat]}\n");
  expect({"data", "show", "config.yaml", with_foils}, 2, {"data.streams.all.foil_rules.lexicon", "words.yaml:2", "nouns.animals: words: expected at least two items"});
  expect({"train", "config.yaml", "--dry-run", with_foils}, 2, {"foil_rules.lexicon", "words.yaml:2"});
  expect({"data", "show", "config.yaml", "data.streams={all: {foil_rules: {kinds: {noun: 1}}}}"}, 2, {"data.streams.all", "foils: true"});
  for (const auto& entry : fs::directory_iterator(folder / "pictures" / "JPEGImages")) test::write(entry.path(), "no picture");
  expect({"data", "show", "config.yaml"}, 3, {"unreadable_image", "none of the 12 pictures", ".xml"});
}

TEST_CASE("every configuration of the project is valid, and docs/configuration.md is what the program prints", "[cli]") {
  const fs::path root = FGVL_SOURCE_DIR, folder = test::fresh_folder("cli_configs");
  int checked = 0;
  for (const auto& entry : fs::recursive_directory_iterator(root / "configs")) {
    if (entry.path().extension() != ".yaml" || entry.path().stem() == "bccd") continue;  // needs pictures
    if (entry.path().parent_path().stem() == "models" || entry.path().parent_path().stem() == "reference") continue;  // bases, which need data and a vocabulary; golden tests build them
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

}  // namespace
}  // namespace fgvl
