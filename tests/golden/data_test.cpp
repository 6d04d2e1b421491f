// golden/text, golden/masking and golden/images: the reference tokenizer, TextMaskingGenerator and Pillow.
#include <cmath>
#include <fstream>
#include <map>
#include <set>

#include "data/view.hpp"
#include "fgvl/data/caption.hpp"
#include "fgvl/data/image.hpp"
#include "fgvl/data/masking.hpp"
#include "fgvl/data/sample.hpp"
#include "fgvl/data/tokenizers.hpp"
#include "golden/fixtures.hpp"
#include "support/catch.hpp"

namespace fgvl::data {
namespace {

using Json = nlohmann::json;

TokenizerPtr bert(const WordPieceOptions& options = {}) {
  auto tokenizer = open_tokenizer(options, {.vocabulary = (test::shared_dir() / "text" / "bert-base-uncased-vocab.txt").string()});
  INFO(tokenizer.status().ToString());
  REQUIRE(tokenizer.ok());
  return *tokenizer;
}

/// Every line of the files whose lines have `keys`.
template <class F>
std::int64_t each_line(const std::vector<std::string>& keys, F&& use) {
  std::int64_t count = 0;
  for (const auto& path : test::golden_lines(keys)) {
    std::ifstream stream(path);
    for (std::string line; std::getline(stream, line); ++count) use(Json::parse(line));
  }
  return count;
}

TEST_CASE("tokenizer: every string becomes the reference's tokens and ids", "[golden]") {
  FGVL_NEEDS_GOLDEN();
  const TokenizerPtr owner = bert();
  const Tokenizer& tokenizer = *owner;
  const std::int64_t count = each_line({"kind", "text", "tokens", "ids"}, [&](const Json& line) {
    INFO(line.dump());
    CHECK(tokenizer.tokens(line["text"].get<std::string>()) == line["tokens"].get<std::vector<std::string>>());
    CHECK(tokenizer.ids(line["text"].get<std::string>()) == line["ids"].get<std::vector<std::int64_t>>());
  });
  std::cout << "tokenizer: " << count << " strings compared" << std::endl;
  CHECK(count > 0);
}

TEST_CASE("prepare_caption: every string becomes the reference's, and fails where that fails", "[golden]") {
  FGVL_NEEDS_GOLDEN();
  const TokenizerPtr owner = bert();
  const Tokenizer& tokenizer = *owner;
  const std::int64_t count = each_line({"kind", "in"}, [&](const Json& line) {
    INFO(line.dump());
    const auto prepared = prepare_caption(line["in"].get<std::string>(), 30);
    REQUIRE(prepared.ok() == line.contains("out"));
    if (!prepared.ok()) return;
    CHECK(*prepared == line["out"].get<std::string>());
    if (line.contains("tokens")) CHECK(tokenizer.tokens(*prepared) == line["tokens"].get<std::vector<std::string>>());
  });
  std::cout << "prepare_caption: " << count << " strings compared" << std::endl;
  CHECK(count > 0);
}

/// What PEVL makes of an annotation: boxes cut to the picture, resized with it and turned over, in single precision as there.
std::vector<PlacedPhrase> placed(const Json& line) {
  const auto width = line["width"].get<double>(), height = line["height"].get<double>();
  std::vector<PlacedPhrase> phrases;
  for (std::size_t i = 0; i < line["bbox_list"].size(); ++i) {
    const auto box = line["bbox_list"][i].get<std::array<double, 4>>();
    Corners corners{};
    for (std::size_t c = 0; c < 4; ++c) corners[c] = std::clamp(box[c] / (c % 2 == 0 ? width : height), 0.0, 1.0);
    if (line["flip"].get<bool>()) corners = {1 - corners[2], corners[1], 1 - corners[0], corners[3]};
    phrases.push_back({line["tokens_positive"][i][0], line["tokens_positive"][i][1], corners});
  }
  return phrases;
}

TEST_CASE("position tokens: PEVL's annotations become its texts and ids", "[golden]") {
  FGVL_NEEDS_GOLDEN();
  const TokenizerPtr tokenizer = bert({.position_tokens = true});
  CHECK(tokenizer->special().position_open == 205);
  CHECK(tokenizer->vocabulary()[206 + 511] == "[pos_511]");
  CHECK(tokenizer->vocabulary()[718] == "##");
  const TextPipeline texts(tokenizer, TextOptions{.prepare = CaptionStyle::kPevl, .max_words = 200, .max_tokens = 200});
  std::int64_t compared = 0;
  each_line({"tokens_positive", "text"}, [&](const Json& line) {
    INFO(line.dump());
    if (!line.contains("ids")) {  // make_pseudo_pos_seq: a name with its box, or without one that starts at the end of the picture
      const auto box = line["bbox"].get<std::array<double, 4>>();
      const double width = line["img_w"], height = line["img_h"];
      const std::string name = line["name"];
      const auto usable = usable_box(box, static_cast<std::int64_t>(width), static_cast<std::int64_t>(height));
      const std::string ours = usable.ok() ? texts.prepare(name, {{0, name.size(), {box[0] / width, box[1] / height, box[2] / width, box[3] / height}}}).value() : name;
      CHECK(ours == prepare_caption(line["text"].get<std::string>(), 200, CaptionStyle::kPevl).value());
      ++compared;
      return;
    }
    const std::string text = as_seen(texts.prepare(line["caption"].get<std::string>(), placed(line)).value(), {.flipped_horizontally = line["flip"].get<bool>()});
    CHECK(text == line["text"].get<std::string>());
    CHECK(texts.encode(text) == line["ids"].get<std::vector<std::int64_t>>());
    ++compared;
  });
  std::cout << "position tokens: " << compared << " annotations compared" << std::endl;
  CHECK(compared > 0);
}

/// Compares one file of statistics; the number of frequencies.
std::int64_t compare_masking(const Tokenizer& tokenizer, const Json& golden) {
  for (const auto& [probability, lengths] : golden["n_pred_by_length"].items()) {
    for (const auto& [length, expected] : lengths.items()) {
      CHECK(mask_count(std::stoll(length), {.probability = std::stod(probability), .max_masks = golden["params"]["mask_max"]}) == expected.get<std::int64_t>());
    }
  }
  constexpr int kDraws = 4000;
  std::int64_t compared = 0;
  for (const auto& [name, variant] : golden["variants"].items()) {
    const Json& p = variant["params"];
    const MaskingOptions options{.probability = p["mask_prob"], .max_masks = p["mask_max"], .span_probability = p["skipgram_prb"], .max_span = p["skipgram_size"], .whole_word = p["mask_whole_word"]};
    for (const Json& sentence : variant["sentences"]) {
      INFO(name << ": " << sentence["sentence"]);
      std::vector<std::int64_t> ids = tokenizer.ids(sentence["sentence"].get<std::string>());
      ids.insert(ids.begin(), tokenizer.cls_id());
      REQUIRE(static_cast<std::int64_t>(ids.size()) == sentence["n_tokens"].get<std::int64_t>());
      std::vector<double> masked(ids.size(), 0), with_next(ids.size(), 0);
      std::map<std::int64_t, std::int64_t> counts;
      double as_mask = 0, total = 0;
      for (int draw = 0; draw < kDraws; ++draw) {
        Generator generator({.seed = 5, .sample = static_cast<std::uint64_t>(draw), .purpose = name});
        const MaskedText text = mask_text(ids, tokenizer, options, generator);
        ++counts[static_cast<std::int64_t>(text.positions.size())];
        const std::set<std::int64_t> chosen(text.positions.begin(), text.positions.end());
        for (const std::int64_t position : chosen) {
          masked[static_cast<std::size_t>(position)] += 1;
          with_next[static_cast<std::size_t>(position)] += chosen.count(position + 1) > 0 ? 1 : 0;
          as_mask += text.ids[static_cast<std::size_t>(position)] == tokenizer.mask_id() ? 1 : 0;
          total += 1;
        }
      }
      for (const auto& [count, times] : sentence["masked_count_histogram"].items()) {
        const double expected = times.get<double>() / golden["draws"].get<double>(), ours = static_cast<double>(counts[std::stoll(count)]) / kDraws;
        CHECK(std::abs(ours - expected) < 0.03);
      }
      // Two Monte-Carlo estimates: five standard errors of their difference.
      const auto near = [&](double ours, double expected) { return std::abs(ours - expected) <= 5 * std::sqrt(std::max(expected * (1 - expected), 1e-4) * (1.0 / kDraws + 1.0 / 20000)); };
      for (std::size_t i = 0; i < ids.size(); ++i) {
        INFO("position " << i << ": " << masked[i] / kDraws << " against " << sentence["frequency"][i]);
        CHECK(near(masked[i] / kDraws, sentence["frequency"][i]));
        if (i + 1 < ids.size()) CHECK(near(with_next[i] / kDraws, sentence["both_i_and_next"][i]));
        ++compared;
      }
      CHECK(std::abs(as_mask / total - sentence["ratio_mask"].get<double>()) < 0.02);
    }
  }
  return compared;
}

TEST_CASE("masking: counts are exact and frequencies are the reference's within sampling error", "[golden]") {
  FGVL_NEEDS_GOLDEN();
  const TokenizerPtr owner = bert();
  const Tokenizer& tokenizer = *owner;
  std::int64_t compared = 0;
  for (const test::Fixture& fixture : test::golden_json("n_pred_by_length")) compared += compare_masking(tokenizer, fixture.json);
  std::cout << "masking: " << compared << " frequencies compared" << std::endl;
  CHECK(compared > 0);
}
TEST_CASE("resize: bicubic equals Pillow's within one grey level", "[golden]") {
  FGVL_NEEDS_GOLDEN();
  int compared = 0;
  std::vector<std::pair<std::filesystem::path, Json>> entries;  // folder, picture
  for (const test::Fixture& fixture : test::golden_json("images")) {
    for (const Json& entry : fixture.json["images"]) entries.emplace_back(fixture.path.parent_path(), entry);
  }
  for (const auto& [folder, entry] : entries) {
    const std::string file = std::filesystem::path(entry["file"].get<std::string>()).filename().string();
    std::filesystem::path source;
    for (const auto& candidate : {folder / file, test::shared_dir() / "data" / "photos" / "images" / file, test::shared_dir() / "data" / "bccd" / "JPEGImages" / file}) {
      if (std::filesystem::exists(candidate)) source = candidate;
    }
    if (source.empty()) {
      std::cout << "SKIPPED: " << file << ": the source picture is not here" << std::endl;
      continue;
    }
    const auto image = read_image(source.string());
    REQUIRE(image.ok());
    for (const auto& [size, resized] : entry["resized"].items()) {
      INFO(file << " to " << size);
      const auto expected = read_image((folder / resized["png"].get<std::string>()).string());
      REQUIRE(expected.ok());
      const Image ours = resize(*image, expected->width, expected->height, Interpolation::kBicubic);
      int largest = 0;
      for (std::size_t i = 0; i < ours.pixels.size(); ++i) largest = std::max(largest, std::abs(int{ours.pixels[i]} - int{expected->pixels[i]}));
      CHECK(largest <= 1);
      ++compared;
    }
  }
  std::cout << "images: " << compared << " resized pictures compared" << std::endl;
  CHECK(compared > 0);
}

}  // namespace
}  // namespace fgvl::data
