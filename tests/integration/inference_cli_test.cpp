// ground, score, rank and scenes as a user meets them.
#include <cmath>
#include <sstream>

#include <nlohmann/json.hpp>
#include <torch/torch.h>

#include "data/files.hpp"
#include "integration/program.hpp"
#include "support/catch.hpp"

namespace fgvl {
namespace {

namespace fs = std::filesystem;
using test::Arguments;
using test::Outcome;
using test::fgvl;
using test::project;
using test::read;

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
    expect({command, "run", "--images", "broken.png", "--images", "absent.png", "cat", "--json", "none.json"}, 3,
           {"left out: broken.png", "left out: absent.png", "none of the 2 pictures could be read"});
    const auto none = nlohmann::json::parse(read(folder / "none.json"));
    CHECK(none["command"] == command);
    REQUIRE(none["unreadable"].size() == 2);
    CHECK(none["unreadable"][1]["path"] == "absent.png");
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
  expect({"ground", "no_itc_box", picture, "cat"}, 4, {"no_itc_box: this run trained without a loss that predicts boxes"});
  expect({"score", "box_alone", picture, "cat"}, 4, {"box_alone: this run has neither a contrastive nor a matching loss"});
}

TEST_CASE("a model without fusion: score and rank by contrast alone, ground refused, and losses that need fusion named before training", "[cli]") {
  const fs::path folder = project("dual");
  const std::string picture = "pictures/JPEGImages/p10.png";
  const Arguments model = {"model.fusion={type: none}", "model.text={type: clip_text, options: {width: 12, layers: 1, heads: 2, mlp_width: 24, max_tokens: 40}}", "model.projection_bias=false",
                           "probes={boxes: null, regions: null}", "train.steps=2"};
  const auto train = [&](const std::string& name, const Arguments& more) {
    Arguments arguments = {"train", "config.yaml", "--out", name};
    arguments.insert(arguments.end(), model.begin(), model.end());
    arguments.insert(arguments.end(), more.begin(), more.end());
    return fgvl(folder, arguments);
  };
  const Outcome refused = train("refused", {"losses.box=null"});
  INFO(refused.output);
  CHECK(refused.code == 2);
  CHECK_THAT(refused.output, Catch::Contains("[matching] reads fused tokens") && Catch::Contains("model.fusion.type is none"));
  CHECK_FALSE(fs::exists(folder / "refused"));
  const Outcome boxes = train("refused", {"losses.itm=null"});
  CHECK(boxes.code == 2);
  CHECK_THAT(boxes.output, Catch::Contains("[box_regression] reads fused tokens"));

  const Outcome trained = train("dual", {"losses.itm=null", "losses.box=null"});
  INFO(trained.output);
  REQUIRE(trained.code == 0);
  const Outcome scored = fgvl(folder, {"score", "dual", picture, "cat", "dog"});
  INFO(scored.output);
  CHECK(scored.code == 0);
  CHECK_THAT(scored.output, Catch::Contains("picture\ttext\titc\titc_share\n"));
  const Outcome ranked = fgvl(folder, {"rank", "dual", "--images", "pictures/JPEGImages", "cat", "--top-k", "3", "--json", "-"});
  CHECK(ranked.code == 0);
  CHECK_THAT(ranked.output, Catch::Contains("\"itm\": null"));
  const Outcome grounded = fgvl(folder, {"ground", "dual", picture, "cat"});
  CHECK(grounded.code == 4);
  CHECK_THAT(grounded.output, Catch::Contains("dual: this model has no fusion encoder"));
  // A run that starts from this one's weights: nothing is missing and nothing is left over.
  const Outcome again = train("again", {"losses.itm=null", "losses.box=null", "init_from=dual"});
  INFO(again.output);
  CHECK(again.code == 0);
  CHECK_THAT(read(folder / "again" / "init_from.txt"), Catch::Contains("fgvl (a run without fusion)") && Catch::Contains(" loaded\n"));
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

}  // namespace
}  // namespace fgvl
