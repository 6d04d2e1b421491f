// The program as a user meets it: what each mistake says, and the exit codes.
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/resource.h>
#include <sys/wait.h>
#include <torch/torch.h>
#include <unistd.h>

#include "data/files.hpp"
#include "fgvl/core/checkpoint_file.hpp"
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

/// What a program meets beside its arguments.
struct Surroundings {
  std::string fault{};            ///< FGVL_FAULT
  std::uint64_t memory_bytes = 0; ///< address space; 0: all
  bool terminal = false;          ///< standard error is a terminal, whose output goes to the file
};

/// A started program; its output goes to a file.
struct Process {
  pid_t pid = 0;
  fs::path output;
  int terminal = -1;

  Process(const fs::path& folder, const Arguments& arguments, const Surroundings& surroundings = {}) : output(folder / "output.txt") {
    if (surroundings.terminal) {
      terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
      REQUIRE((terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0));
    }
    pid = fork();
    if (pid != 0) return;
    if (chdir(folder.c_str()) != 0) _exit(99);
    if (!surroundings.fault.empty()) setenv("FGVL_FAULT", surroundings.fault.c_str(), 1);
    if (surroundings.memory_bytes > 0) {
      const rlimit limit{surroundings.memory_bytes, surroundings.memory_bytes};
      setrlimit(RLIMIT_AS, &limit);
    }
    const int file = open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    dup2(file, 1);
    dup2(terminal >= 0 ? open(ptsname(terminal), O_RDWR | O_NOCTTY) : file, 2);
    std::vector<char*> argv = {const_cast<char*>(FGVL_PROGRAM)};
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    execv(FGVL_PROGRAM, argv.data());
    _exit(98);
  }
  int wait() const {
    int status = 0;
    if (terminal >= 0) {
      // A terminal's other end reads until nobody holds it open any more.
      std::ofstream copy(output, std::ios::binary | std::ios::app);
      std::array<char, 4096> buffer{};
      for (ssize_t count = 0; (count = ::read(terminal, buffer.data(), buffer.size())) > 0;) copy.write(buffer.data(), count);
      close(terminal);
    }
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
};

struct Outcome {
  int code;
  std::string output;
};
Outcome fgvl(const fs::path& folder, const Arguments& arguments, const Surroundings& surroundings = {}) {
  const Process process(folder, arguments, surroundings);
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

/// The trained run of a project, once for all that only use it.
fs::path trained_project() {
  static const fs::path folder = [] {
    const fs::path made = project("trained");
    const Outcome trained = fgvl(made, {"train", "config.yaml", "--out", "run"});
    INFO(trained.output);
    REQUIRE(trained.code == 0);
    test::write(made / "texts.txt", "cat\n\n  dog \r\na zebra");
    return made;
  }();
  return folder;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

TEST_CASE("ground: box, scores and an annotated picture; many texts on many pictures; JSON whose boxes agree with one another", "[cli]") {
  const fs::path folder = trained_project();
  const Outcome one = fgvl(folder, {"ground", "run", "pictures/JPEGImages/p10.png", "cat", "a zebra", "--out", "g.png"});
  INFO(one.output);
  CHECK(one.code == 0);
  CHECK_THAT(one.output, Catch::Contains("cat\tbox ["));
  CHECK_THAT(one.output, Catch::Contains("\titm 0.") && Catch::Contains("\tregion_itc ") && Catch::Contains("\"a zebra\" has words that the model has never seen"));
  // 40 pixels become 320; the boxes, and a map for each of two texts, 6 pixels apart.
  const auto drawn = data::read_image((folder / "g.png").string());
  REQUIRE(drawn.ok());
  CHECK(drawn->width == 3 * 320 + 2 * 6);
  CHECK(drawn->height == 320);
  REQUIRE(fgvl(folder, {"ground", "run", "pictures/JPEGImages/p10.png", "cat", "--no-map", "--out", "plain.jpg"}).code == 0);
  CHECK(read(folder / "plain.jpg").substr(0, 3) == "\xFF\xD8\xFF");
  CHECK(data::read_image((folder / "plain.jpg").string())->width == 320);

  const Outcome many = fgvl(folder, {"ground", "run", "--images", "pictures/JPEGImages", "--images", "absent.png", "a dog", "--texts", "texts.txt", "--out", "drawn", "--json", "g.json", "--json-map", "--batch-size", "5"});
  INFO(many.output);
  CHECK(many.code == 0);
  CHECK_THAT(many.output, Catch::Contains("left out: absent.png: cannot open") && Catch::Contains("1 of 17 pictures could not be read") && Catch::Contains("pictures/JPEGImages/p25.png\ta dog\tbox ["));
  const auto json = nlohmann::json::parse(read(folder / "g.json"));
  CHECK(json["format"] == 1);
  CHECK(json["command"] == "ground");
  CHECK(json["checkpoint"] == "run/checkpoints/step_6");
  CHECK(json["step"] == 6);
  REQUIRE(json["images"].size() == 16);
  CHECK(json["images"][0]["path"] == "pictures/JPEGImages/p10.png");
  REQUIRE(json["unreadable"].size() == 1);
  CHECK(json["unreadable"][0]["path"] == "absent.png");
  for (const auto& image : json["images"]) {
    CHECK(image["width"] == 40);
    CHECK(fs::exists(folder / image["annotated"].get<std::string>()));
    REQUIRE(image["texts"].size() == 4);
    const std::vector<std::string> expected = {"cat", "dog", "a zebra", "a dog"};
    for (std::size_t i = 0; i < 4; ++i) {
      const auto& text = image["texts"][i];
      CHECK(text["text"] == expected[i]);
      CHECK(text["unknown_words"] == (i >= 2));  // "a" is not in the run's texts
      for (std::size_t k = 0; k < 4; ++k) {
        CHECK(text["box"][k].get<double>() == Approx(40 * text["box_normalised"][k].get<double>()));
        CHECK((text["box"][k].get<double>() >= 0 && text["box"][k].get<double>() <= 40));
      }
      CHECK(text["box"][2] > text["box"][0]);
      CHECK((text["itm"] > 0 && text["itm"] < 1));
      CHECK((text["region_itc"] > -1.001 && text["region_itc"] < 1.001));
      double sum = text["map"]["cls"];
      REQUIRE(text["map"]["patches"].size() == 4);
      for (const auto& row : text["map"]["patches"]) {
        REQUIRE(row.size() == 4);
        for (const double weight : row) sum += weight;
      }
      CHECK(sum == Approx(1.0).epsilon(1e-4));
    }
  }
  // On standard output JSON stands alone.
  const Outcome stdout_only = fgvl(folder, {"ground", "run", "pictures/JPEGImages/p11.png", "cat", "--json", "-", "--no-picture", "--no-region-itc"});
  const auto alone = nlohmann::json::parse(stdout_only.output);
  CHECK(alone["images"][0]["annotated"].is_null());
  CHECK(alone["images"][0]["texts"][0]["region_itc"].is_null());
  CHECK_FALSE(alone["images"][0]["texts"][0].contains("map"));
  CHECK(alone["images"][0]["texts"][0]["box"][0].get<double>() == Approx(json["images"][1]["texts"][0]["box"][0].get<double>()).margin(1e-3));
  CHECK_FALSE(fs::exists(folder / "p11_grounded.png"));
  // Pictures of one name do not replace one another.
  fs::create_directories(folder / "other");
  fs::copy_file(folder / "pictures" / "JPEGImages" / "p10.png", folder / "other" / "p10.png", fs::copy_options::overwrite_existing);
  REQUIRE(fgvl(folder, {"ground", "run", "--images", "other/p10.png", "--images", "pictures/JPEGImages/p10.png", "cat", "--out", "twice"}).code == 0);
  CHECK(fs::exists(folder / "twice" / "p10_grounded.png"));
  CHECK(fs::exists(folder / "twice" / "p10_grounded_2.png"));
}

TEST_CASE("score and rank: tables and JSON of one schema, scores that are shares and probabilities, both directions", "[cli]") {
  const fs::path folder = trained_project();
  const Outcome table = fgvl(folder, {"score", "run", "pictures/JPEGImages/p10.png", "cat", "dog", "--json", "s.json"});
  INFO(table.output);
  REQUIRE(table.code == 0);
  const auto lines = lines_of(table.output);
  REQUIRE(lines.size() == 3);
  CHECK(lines[0] == "picture\ttext\titc\titc_share\titm");
  CHECK(lines[2].rfind("pictures/JPEGImages/p10.png\tdog\t", 0) == 0);
  const auto scores = nlohmann::json::parse(read(folder / "s.json"));
  CHECK(scores["command"] == "score");
  const auto& texts = scores["images"][0]["texts"];
  const double first = texts[0]["itc"], second = texts[1]["itc"], temperature = scores["temperature"];
  CHECK(texts[0]["itc_share"].get<double>() == Approx(1 / (1 + std::exp((second - first) / temperature))).epsilon(1e-6));
  CHECK(texts[0]["itc_share"].get<double>() + texts[1]["itc_share"].get<double>() == Approx(1.0));
  CHECK((texts[1]["itm"] > 0 && texts[1]["itm"] < 1));

  REQUIRE(fgvl(folder, {"score", "run", "--images", "pictures/JPEGImages", "--texts", "texts.txt", "--json", "all.json", "--batch-size", "3"}).code == 0);
  const auto all = nlohmann::json::parse(read(folder / "all.json"));
  REQUIRE(all["images"].size() == 16);
  CHECK(all["images"][0]["texts"][0]["itm"].get<double>() == Approx(texts[0]["itm"].get<double>()).epsilon(1e-4));

  // All kept: what is ranked is what was scored, in order.
  REQUIRE(fgvl(folder, {"rank", "run", "pictures/JPEGImages/p12.png", "--texts", "texts.txt", "--top-k", "0", "--json", "t.json"}).code == 0);
  const auto of_texts = nlohmann::json::parse(read(folder / "t.json"));
  CHECK(of_texts["ranked"] == "texts");
  REQUIRE(of_texts["queries"].size() == 1);
  REQUIRE(of_texts["queries"][0]["results"].size() == 3);
  const Outcome images = fgvl(folder, {"rank", "run", "--images", "pictures/JPEGImages", "dog", "cat", "--top-k", "5", "--json", "i.json"});
  INFO(images.output);
  REQUIRE(images.code == 0);
  const auto ranked = nlohmann::json::parse(read(folder / "i.json"));
  CHECK(ranked["ranked"] == "images");
  REQUIRE(ranked["queries"].size() == 2);
  CHECK(ranked["queries"][0]["text"] == "dog");
  for (const auto& [json, best] : {std::pair{of_texts, std::size_t{3}}, std::pair{ranked, std::size_t{5}}}) {
    for (const auto& query : json["queries"]) {
      REQUIRE(query["results"].size() == best);
      for (std::size_t i = 0; i < best; ++i) {
        CHECK(query["results"][i]["rank"] == i + 1);
        if (i > 0) CHECK(query["results"][i]["itm"] <= query["results"][i - 1]["itm"]);
      }
    }
  }
  for (const auto& image : all["images"]) {
    if (image["path"] != "pictures/JPEGImages/p12.png") continue;
    for (const auto& place : of_texts["queries"][0]["results"]) {
      for (const auto& text : image["texts"]) {
        if (text["text"] == place["text"]) CHECK(text["itm"].get<double>() == Approx(place["itm"].get<double>()).epsilon(1e-4));
      }
    }
  }
  CHECK(lines_of(images.output)[0] == "text\trank\tpicture\titc\titm");
  CHECK(lines_of(images.output).size() == 11);
  const Outcome by_picture = fgvl(folder, {"rank", "run", "--images", "pictures/JPEGImages", "--ranked", "texts", "dog", "cat", "--json", "-"});
  CHECK(nlohmann::json::parse(by_picture.output)["queries"].size() == 16);
}

TEST_CASE("ground, score and rank: every mistake has its own sentence and exit code", "[cli]") {
  const fs::path folder = trained_project();
  const std::string picture = "pictures/JPEGImages/p10.png";
  test::write(folder / "broken.png", "no picture");
  test::write(folder / "blank.txt", "\n  \n");
  fs::create_directories(folder / "nothing_in_it");
  const auto expect = [&](const Arguments& arguments, int code, const std::vector<std::string>& parts, const std::string& fault = "") {
    const Outcome outcome = fgvl(folder, arguments, {.fault = fault});
    INFO(outcome.output);
    CHECK(outcome.code == code);
    for (const std::string& part : parts) CHECK_THAT(outcome.output, Catch::Contains(part));
    CHECK(outcome.output.find("frame #") == std::string::npos);
  };
  for (const char* command : {"ground", "score", "rank"}) {
    INFO(command);
    expect({command, "run"}, 2, {"no picture was given"});
    expect({command, "run", picture}, 2, {"no text was given"});
    expect({command, "run", picture, "?!"}, 2, {"text \"?!\"", "no text is left"});
    expect({command, "run", "absent.png", "cat"}, 3, {"absent.png: cannot open"});
    expect({command, "run", "broken.png", "cat"}, 3, {"broken.png: neither a JPEG nor a PNG"});
    expect({command, "run", "--images", "broken.png", "--images", "absent.png", "cat"}, 3, {"left out: broken.png", "left out: absent.png", "none of the 2 pictures could be read"});
    expect({command, "run", "nothing_in_it", "cat"}, 3, {"nothing_in_it: no .jpg, .jpeg or .png in this folder"});
    expect({command, "run", picture, "--texts", "absent.txt"}, 3, {"absent.txt: cannot open"});
    expect({command, "run", picture, "--texts", "blank.txt"}, 3, {"blank.txt: no text in this file"});
    expect({command, "nowhere", picture, "cat"}, 4, {"nowhere: no such folder"});
    expect({command, "run", picture, "cat", "--matching", "itc"}, 2, {"no matching term 'itc'", "itc, itm, box"});
    expect({command, "run", picture, "cat", "--device", "cuda:77"}, 2, {"cuda:77"});
    expect({command, "run", picture, "cat", "--batch-size", "0"}, 2, {"--batch-size"});
    expect({command, "run", picture, "cat", "--json", "a.json"}, 4, {"a.json", "No space left on device"}, "enospc:a.json");
    expect({command, "--help"}, 0, {"CHECKPOINT", "IMAGE", "--images", "--texts", "fgvl " + std::string(command) + " runs/mine"});
  }
  expect({"ground", "run", picture, "cat", "--out", "a.gif"}, 2, {"a.gif: what to write is chosen by the ending"});
  expect({"ground", "run", "--images", "pictures/JPEGImages", "cat", "--out", "a.png"}, 2, {"a.png: there are 16 pictures", "a folder"});
  expect({"ground", "run", picture, "cat", "--map-layer", "1"}, 2, {"layer: expected one of 1 (-1 to 0), got 1"});
  expect({"ground", "run", picture, "cat", "--out", "full.png"}, 4, {"full.png", "No space left on device"}, "enospc:full.png");
  expect({"rank", "run", picture, "cat", "--top-k", "-1"}, 2, {"--top-k"});

  // Runs that lack a loss.
  const auto train = [&](const std::string& name, const Arguments& removed) {
    Arguments arguments = {"train", "config.yaml", "--out", name, "train.steps=1", "probes={boxes: null, regions: null}"};
    arguments.insert(arguments.end(), removed.begin(), removed.end());
    REQUIRE(fgvl(folder, arguments).code == 0);
  };
  train("no_itm", {"losses.itm=null"});
  train("no_itc_box", {"losses.itc=null", "losses.box=null"});
  train("box_alone", {"losses.itc=null", "losses.itm=null"});
  expect({"score", "no_itm", picture, "cat"}, 0, {"picture\ttext\titc\titc_share\n"});
  expect({"rank", "no_itm", picture, "cat", "--json", "-"}, 0, {"\"itm\": null"});
  expect({"ground", "no_itm", picture, "cat", "--no-picture", "--json", "-"}, 0, {"\"itm\": null"});
  expect({"score", "no_itc_box", picture, "cat"}, 0, {"picture\ttext\titm\n"});
  expect({"rank", "no_itc_box", picture, "cat", "dog", "--top-k", "1"}, 4, {"no_itc_box: this run has no contrastive loss"});
  expect({"ground", "no_itc_box", picture, "cat"}, 4, {"no_itc_box: this run trained without a box loss"});
  expect({"score", "box_alone", picture, "cat"}, 4, {"box_alone: this run has neither a contrastive nor a matching loss"});
}

TEST_CASE("scenes: generated pictures and their captions, the same every time", "[cli]") {
  const fs::path folder = test::fresh_folder("cli_scenes");
  const Outcome outcome = fgvl(folder, {"scenes", "a", "--count", "3"});
  INFO(outcome.output);
  REQUIRE(outcome.code == 0);
  REQUIRE(fgvl(folder, {"scenes", "b", "--count", "3"}).code == 0);
  const auto captions = lines_of(read(folder / "a" / "captions.txt"));
  REQUIRE(captions.size() == 3);
  for (const char* name : {"scene_000.png", "scene_001.png", "scene_002.png"}) {
    CHECK(data::read_image((folder / "a" / name).string())->width == 64);
    CHECK(read(folder / "a" / name) == read(folder / "b" / name));
  }
  CHECK(read(folder / "a" / "scene_000.png") != read(folder / "a" / "scene_001.png"));
  CHECK_THAT(outcome.output, Catch::Contains("a/scene_002.png\t" + captions[2] + "\t"));
  CHECK(fgvl(folder, {"scenes", "c", "--count", "1000000"}).code == 2);
  CHECK(fgvl(folder, {"scenes", "c", "--count", "1"}, {.fault = "enospc:captions"}).code == 4);
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
  expect({"info", "official.th"}, 0, {"PyTorch (zip), under \"model\"", "X-VLM", "1 layers + 1 fusion layers, 2 wide, 5 words", "NOT FINITE", "vision_proj.weight: 1 of 4"});
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
  expect(train("model.vision.options.heads=3"), 2, {"argument 'model.vision.options.heads=3'", "width: must be a multiple of heads"});
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
  for (const char* command : {"train", "eval", "ground", "score", "rank", "demo", "scenes", "info"}) expect({command, "--help"}, 0, {"--help"});
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
  const Outcome bar = fgvl(folder, {"train", "config.yaml", "--out", "bar"}, {.terminal = true}), plain = fgvl(folder, {"train", "config.yaml", "--out", "plain"});
  CHECK(bar.code == 0);
  CHECK(plain.code == 0);
  CHECK_THAT(bar.output, Catch::Contains("\r\x1b[2K") && Catch::Contains("████████████████████████ 6/6") && Catch::Contains("img/s"));
  CHECK_THAT(plain.output, Catch::Contains("step 6/6") && Catch::Contains("images/s") && Catch::Contains("itc "));
  for (const char* of_a_terminal : {"\r", "\x1b", "█"}) CHECK(plain.output.find(of_a_terminal) == std::string::npos);
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

}  // namespace
}  // namespace fgvl
