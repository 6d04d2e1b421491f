// Boxes written into texts as position tokens, as PEVL does.
#include <array>
#include <map>
#include <set>

#include <absl/strings/str_split.h>
#include <torch/torch.h>

#include "data/files.hpp"
#include "data/phrases.hpp"
#include "fgvl/data/data_config.hpp"
#include "fgvl/data/synthetic.hpp"
#include "support/catch.hpp"

namespace fgvl::data {
namespace {

using Words = std::vector<std::string>;

std::string prepared(std::string_view text, std::vector<PlacedPhrase> phrases, std::int64_t max_words = 30, CaptionStyle style = CaptionStyle::kXvlm) {
  return prepare_with_positions(text, std::move(phrases), max_words, style).value();
}

const Corners kWhole = {0, 0, 1, 1}, kQuarter = {0.25, 0.5, 0.5, 0.75};
const std::string kWholeGroup = " @@ [pos_0] [pos_0] [pos_511] [pos_511] ##", kQuarterGroup = " @@ [pos_128] [pos_256] [pos_256] [pos_384] ##";

TokenizerPtr tokenizer(const std::string& words) { return make_tokenizer(WordPieceOptions{.position_tokens = true}, build_vocabulary({words})).value(); }

TEST_CASE("position_bins: 512 a side, the last one closed, and nothing outside", "[position]") {
  CHECK(position_bins({0, 1.0 / 512, 0.9999, 1}) == std::array<std::int64_t, 4>{0, 1, 511, 511});
  CHECK(position_bins({-0.2, 1.0 / 512 - 1e-9, 0.5, 1.7}) == std::array<std::int64_t, 4>{0, 0, 256, 511});
  CHECK(" " + position_group(kQuarter) == kQuarterGroup);
}

TEST_CASE("position groups stand behind their phrases, in whatever style the words around them are prepared", "[position]") {
  const std::string text = "A (big) Dog, left of #1: the cat's tree!";
  const PlacedPhrase dog{0, 11, kQuarter}, tree{25, 39, kWhole};
  CHECK(prepared(text, {tree, dog}) == "a big dog" + kQuarterGroup + " left of 1 the cats tree" + kWholeGroup);
  CHECK(prepared(text, {dog, tree}, 30, CaptionStyle::kPevl) == "a big dog" + kQuarterGroup + " left of #1 the cats tree" + kWholeGroup);
  CHECK(prepared(text, {dog}, 30, CaptionStyle::kBlip) == "a big dog" + kQuarterGroup + " , left of 1 the cat's tree");
  CHECK(prepared(text, {}) == prepare_caption(text, 30).value());
  // Phrases within one another: each has its group where it ends.
  CHECK(prepared("dog of man", {{0, 10, kWhole}, {0, 3, kQuarter}}) == "dog" + kQuarterGroup + " of man" + kWholeGroup);
  CHECK_FALSE(prepare_with_positions("?!", {{0, 2, kWhole}}, 30).ok());
  CHECK_THROWS_WITH(prepared("dog", {{0, 4, kWhole}}), Catch::Contains("bytes of the text"));
}

TEST_CASE("max_words counts a text's own words, and a phrase that is cut has no position", "[position]") {
  const std::string text = "a dog and a big cat";
  const std::vector<PlacedPhrase> phrases = {{0, 5, kQuarter}, {10, 19, kWhole}};
  CHECK(prepared(text, phrases, 6) == "a dog" + kQuarterGroup + " and a big cat" + kWholeGroup);
  CHECK(prepared(text, phrases, 5) == "a dog" + kQuarterGroup + " and a big");
  CHECK(prepared(text, phrases, 2) == "a dog" + kQuarterGroup);
  CHECK(prepared(text, phrases, 1) == "a");
}

TEST_CASE("max_tokens never cuts a position group in the middle", "[position]") {
  const TokenizerPtr words = tokenizer("a dog and cat");
  for (const bool add_sep : {false, true}) {
    for (std::int64_t max_tokens = 2; max_tokens < 22; ++max_tokens) {
      const TextPipeline texts(words, TextOptions{.max_tokens = max_tokens, .add_sep = add_sep});
      const std::string text = texts.prepare("a dog and a cat and a", {{0, 5, kQuarter}, {10, 15, kWhole}}).value();
      const std::vector<std::int64_t> ids = texts.encode(text);
      CAPTURE(max_tokens, add_sep);
      CHECK(static_cast<std::int64_t>(ids.size()) <= max_tokens);
      std::int64_t open = 0, closed = 0, positions = 0;
      for (const std::int64_t id : ids) {
        open += id == words->special().position_open;
        closed += id == words->special().position_open + 513;
        positions += words->is_position(id);
      }
      CHECK(open == closed);
      CHECK(positions == 4 * open);
      // What fits stays: only a group may leave room.
      const std::int64_t room = max_tokens - add_sep, whole = 20;
      const auto kept = static_cast<std::int64_t>(ids.size()) - add_sep;
      const auto inside = [&](std::int64_t first) { return room > first && room < first + 6; };
      CHECK(kept == (inside(3) ? 3 : inside(12) ? 12 : std::min(room, whole)));
    }
  }
}

/// A picture of 100 x 80 with one region and one caption whose phrases have boxes.
Record scene() {
  Record record;
  record.key = "scene";
  record.image = to_tensor(test::plain_image(100, 80, 40));
  record.captions = {"Left dog beside a bright cat"};
  record.caption_foils = {"a bright cat beside Left dog"};
  record.caption_phrases = {{{0, 8, {0, 0, 25, 40}}, {16, 28, {50, 40, 100, 80}}}};
  record.regions = {{{25, 20, 50, 60}, {"the dog"}, "dog", {"the cat"}}};
  return record;
}

TEST_CASE("texts made from boxes: the region's behind its text, those of phrases behind them, in foils too, and flips turn words and boxes", "[position]") {
  const TextPipeline texts(tokenizer("left right dog beside a bright cat the"), TextOptions{.max_tokens = 60});
  SampleOptions options;
  options.position_tokens = options.foils = true;
  const auto text_of = [&](const std::vector<std::int64_t>& ids) {
    Words tokens;
    for (const std::int64_t id : ids) tokens.push_back(texts.tokenizer().vocabulary()[static_cast<std::size_t>(id)]);
    return tokens;
  };
  const auto words = [](const std::string& text) { return Words(absl::StrSplit("[CLS] " + text, ' ')); };
  for (const bool flipped : {false, true}) {
    options.augment.horizontal_flip = flipped ? 1.0 : 0.0;
    const Sample sample = make_sample(scene(), options, {}, texts, {.seed = 1});
    REQUIRE(sample.texts.size() == 2);
    const std::string dog = flipped ? "right dog @@ [pos_384] [pos_0] [pos_511] [pos_256] ##" : "left dog @@ [pos_0] [pos_0] [pos_128] [pos_256] ##";
    const std::string cat = flipped ? "a bright cat @@ [pos_0] [pos_256] [pos_256] [pos_511] ##" : "a bright cat @@ [pos_256] [pos_256] [pos_511] [pos_511] ##";
    const std::string box = flipped ? " @@ [pos_256] [pos_128] [pos_384] [pos_384] ##" : " @@ [pos_128] [pos_128] [pos_256] [pos_384] ##";
    CHECK(sample.texts[0].text == dog + " beside " + cat);
    CHECK(text_of(sample.texts[0].ids) == words(dog + " beside " + cat));
    CHECK(text_of(sample.texts[0].foil_ids) == words(cat + " beside " + dog));
    CHECK(sample.texts[1].text == "the dog" + box);
    CHECK(text_of(sample.texts[1].foil_ids) == words("the cat" + box));
    const auto& [cx, cy, w, h] = sample.texts[1].box;
    CHECK(position_bins({cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2}) == position_bins(flipped ? Corners{0.5, 0.25, 0.75, 0.75} : Corners{0.25, 0.25, 0.5, 0.75}));
  }
  options.augment.horizontal_flip = 0;
  Record other = scene();
  other.caption_foils = {"left bird beside a bright cat"};  // "Left dog" is not in it: positions alone would give the foil away
  CHECK(make_sample(other, options, {}, texts, {.seed = 1}).texts[0].foil_ids.empty());
  other.caption_phrases[0][0].box = {-30, 0, 10, 40};  // more of it outside than inside
  CHECK(make_sample(other, options, {}, texts, {.seed = 1}).texts[0].text == "left dog beside a bright cat @@ [pos_256] [pos_256] [pos_511] [pos_511] ##");
  options.position_tokens = false;
  CHECK(make_sample(scene(), options, {}, texts, {.seed = 1}).texts[0].text == "left dog beside a bright cat");
}

TEST_CASE("found_again: a text's phrases in another, each once and as whole words, or none of them", "[position]") {
  const std::string text = "a cat left of a dog";
  const std::vector<PlacedPhrase> phrases = {{2, 5, kQuarter}, {14, 19, kWhole}};  // "cat", "a dog"
  const auto found = found_again(phrases, text, "a dog left of one cat");
  REQUIRE(found.size() == 2);
  CHECK((found[0].begin == 18 && found[0].end == 21 && found[0].corners == kQuarter));
  CHECK((found[1].begin == 0 && found[1].end == 5 && found[1].corners == kWhole));
  CHECK(found_again(phrases, text, "a dog left of a bobcat").empty());
  CHECK(found_again(phrases, text, "a dog left of a caterpillar").empty());
  CHECK(found_again(phrases, text, "a cat left of a cat and a dog").empty());
  CHECK(found_again(phrases, text, "a cat left of a bird").empty());
  const auto whole = found_again({{0, text.size(), kWhole}}, text, "a bird");
  REQUIRE(whole.size() == 1);
  CHECK((whole[0].begin == 0 && whole[0].end == 6));
}

TEST_CASE("add_phrase counts characters, not bytes, and puts several boxes of the same words together", "[position]") {
  const std::string caption = "zwei B\u00e4ren \u2014 Gr\u00e4ser";
  std::vector<Phrase> phrases;
  REQUIRE(add_phrase(caption, 5, 10, {1, 2, 3, 4}, phrases).ok());
  REQUIRE(add_phrase(caption, 13, 19, {0, 0, 9, 9}, phrases).ok());
  REQUIRE(add_phrase(caption, 5, 10, {0, 3, 8, 3.5}, phrases).ok());
  REQUIRE(phrases.size() == 2);
  CHECK(caption.substr(phrases[0].begin, phrases[0].end - phrases[0].begin) == "B\u00e4ren");
  CHECK(caption.substr(phrases[1].begin, phrases[1].end - phrases[1].begin) == "Gr\u00e4ser");
  CHECK(phrases[0].box == PixelBox{0, 2, 8, 4});
  for (const auto& [begin, end] : {std::pair(13, 20), std::pair(5, 5), std::pair(-1, 3), std::pair(30, 31)}) CHECK_FALSE(add_phrase(caption, begin, end, {}, phrases).ok());
}

TEST_CASE("readers: PEVL's spans in xvlm_jsonl and MDETR's in coco become phrases of the caption", "[position]") {
  const auto root = test::fresh_folder("phrases");
  const auto jsonl = [&](const std::string& rest) {
    test::write(root / "regions.jsonl", "{\"image_rpath\": \"a.jpg\", \"caption\": \"a dog by a cat\", " + rest + "}\n");
    return open_dataset(XvlmJsonlOptions{}, {root.string(), Split::kAll}).value()->get(0);
  };
  const Record record = jsonl("\"tokens_positive\": [[0, 5], [9, 14]], \"bbox_list\": [[1, 2, 3, 4], [5, 6, 7.5, 8]]").value();
  REQUIRE(record.caption_phrases.size() == 1);
  REQUIRE(record.caption_phrases[0].size() == 2);
  CHECK(record.caption_phrases[0][1].begin == 9);
  CHECK(record.caption_phrases[0][1].end == 14);
  CHECK(record.caption_phrases[0][1].box == PixelBox{5, 6, 7.5, 8});
  CHECK(jsonl("\"elems\": []").value().caption_phrases.empty());
  for (const auto& [rest, message] : std::map<std::string, std::string>{{"\"tokens_positive\": [[0, 5]]", "as many boxes"},
                                                                       {"\"tokens_positive\": [[0, 5], [9, 14]], \"bbox_list\": [[1, 2, 3, 4]]", "as many boxes"},
                                                                       {"\"tokens_positive\": [[0]], \"bbox_list\": [[1, 2, 3, 4]]", "tokens_positive[0]: expected"},
                                                                       {"\"tokens_positive\": [[0, 5]], \"bbox_list\": [[1, 2, 3]]", "bbox_list[0]: expected"},
                                                                       {"\"tokens_positive\": [[9, 15]], \"bbox_list\": [[1, 2, 3, 4]]", "no characters of"}}) {
    CHECK_THAT(std::string(jsonl(rest).status().message()), Catch::Contains(message) && Catch::Contains("regions.jsonl:1"));
  }

  std::filesystem::create_directories(root / "images");
  const auto coco = [&](const std::string& spans) {
    test::write(root / "instances.json",
                R"({"images": [{"id": 3, "file_name": "a.jpg", "caption": "two dogs by a cat"}], "categories": [{"id": 1, "name": "object"}], "annotations": [
                    {"image_id": 3, "bbox": [10, 10, 5, 6], "category_id": 1, "tokens_positive": [[0, 8]]},
                    {"image_id": 3, "bbox": [20, 12, 5, 6], "category_id": 1, "tokens_positive": [[0, 8]]},
                    {"image_id": 3, "bbox": [1, 2, 3, 4], "category_id": 1, "tokens_positive": )" + spans + "}]}");
    return open_dataset(CocoOptions{}, {root.string(), Split::kAll});
  };
  const Record mdetr = coco("[[12, 17]]").value()->get(0).value();
  CHECK(mdetr.captions == Words{"two dogs by a cat"});
  REQUIRE(mdetr.caption_phrases.size() == 1);
  REQUIRE(mdetr.caption_phrases[0].size() == 2);
  CHECK(mdetr.caption_phrases[0][0].box == PixelBox{10, 10, 25, 18});  // around both dogs
  CHECK(mdetr.caption_phrases[0][1].box == PixelBox{1, 2, 4, 6});
  REQUIRE(mdetr.regions.size() == 3);
  CHECK(mdetr.regions[0].texts == Words{"two dogs"});
  CHECK(mdetr.regions[2].texts == Words{"a cat"});
  CHECK_THAT(std::string(coco("[[12, 18]]").status().message()), Catch::Contains("annotations[2]") && Catch::Contains("no characters of"));
}

TEST_CASE("synthetic captions know the boxes of the two objects they name", "[position]") {
  const auto dataset = open_dataset(SyntheticOptions{.scenes = 60}, {}).value();
  std::int64_t phrases = 0;
  for (std::int64_t i = 0; i < 60; ++i) {
    const Record record = dataset->get(i).value();
    if (record.caption_phrases.empty()) continue;  // a caption that counts
    REQUIRE(record.caption_phrases[0].size() == 2);
    for (const Phrase& phrase : record.caption_phrases[0]) {
      // "a red circle" is a region's label with an article, of the same box.
      const std::string named = record.captions[0].substr(phrase.begin, phrase.end - phrase.begin);
      const auto is_named = [&](const Region& region) { return region.box == phrase.box && named == "a " + region.label; };
      CHECK(std::any_of(record.regions.begin(), record.regions.end(), is_named));
      ++phrases;
    }
  }
  CHECK(phrases > 40);
}

TEST_CASE("a stream with position tokens needs a vocabulary with them", "[position]") {
  DataConfig config;
  config.streams.emplace_back("scenes", StreamConfig(config.datasets));
  config.streams[0].second.sample.position_tokens = true;
  const std::vector<Stream> streams = open_streams(config, Split::kTrain).value();
  CHECK_THAT(std::string(make_text_pipeline(config, streams).status().message()), Catch::Contains("data.streams.scenes.position_tokens") && Catch::Contains("options.position_tokens: true"));
}

TEST_CASE("masking: words with their probability, and 1 to 4 position tokens of every group, equally likely", "[position]") {
  const TokenizerPtr words = tokenizer("a dog and cat of the man tree");
  const TextPipeline texts(words, TextOptions{.max_tokens = 60});
  const std::vector<std::int64_t> ids = texts.encode(texts.prepare("a dog and a cat of the man", {{0, 5, kQuarter}, {10, 15, kWhole}}).value());
  REQUIRE(ids.size() == 21);
  constexpr int kDraws = 20000;
  std::map<std::int64_t, int> masked_at, in_group;  // place -> draws; number masked of the first group -> draws
  int masked = 0, replaced = 0, kept = 0;
  const MaskingOptions options{.scheme = MaskingScheme::kTokens, .probability = 0.15};
  for (std::uint64_t draw = 0; draw < kDraws; ++draw) {
    Generator generator({.seed = 5, .sample = draw});
    const MaskedText text = mask_text(ids, *words, options, generator);
    int group = 0;
    for (std::size_t i = 0; i < text.positions.size(); ++i) {
      const auto place = static_cast<std::size_t>(text.positions[i]);
      CHECK(text.labels[i] == ids[place]);
      ++masked_at[text.positions[i]];
      ++masked;
      replaced += text.ids[place] == words->mask_id();
      kept += text.ids[place] == ids[place];
      group += place >= 4 && place <= 7;
    }
    ++in_group[group];
  }
  // Sampling errors of 20000 draws: 0.25 % of 15 %, 0.34 % of 62.5 %; bounds are four of them.
  for (std::int64_t place = 0; place < 21; ++place) {
    const bool position = words->is_position(ids[static_cast<std::size_t>(place)]);
    CAPTURE(place);
    CHECK(masked_at[place] / double{kDraws} == Approx(place == 0 ? 0 : position ? 0.625 : 0.15).margin(0.014));  // (1 + 2 + 3 + 4) / 4 of 4
  }
  for (const int count : {1, 2, 3, 4}) CHECK(in_group[count] / double{kDraws} == Approx(0.25).margin(0.0125));
  CHECK(in_group[0] == 0);
  CHECK(replaced / double(masked) == Approx(0.8).margin(0.005));
  CHECK(kept / double(masked) == Approx(0.1).margin(0.005));  // and those that a random word replaced by itself
}

TEST_CASE("masking: X-VLM's scheme counts words alone, and masks position tokens beside", "[position]") {
  const TokenizerPtr words = tokenizer("a dog and cat of the man tree");
  const TextPipeline texts(words, TextOptions{.max_tokens = 60});
  const std::vector<std::int64_t> ids = texts.encode(texts.prepare("a dog and a cat of the man", {{0, 5, kQuarter}, {10, 15, kWhole}}).value());
  for (std::uint64_t draw = 0; draw < 500; ++draw) {
    Generator generator({.seed = 6, .sample = draw});
    const MaskedText text = mask_text(ids, *words, {}, generator);
    const auto positions = std::count_if(text.labels.begin(), text.labels.end(), [&](std::int64_t id) { return words->is_position(id); });
    CHECK(positions >= 2);
    CHECK(positions <= 8);
    CHECK(static_cast<std::int64_t>(text.labels.size()) - positions == mask_count(13, {}));  // of 21 tokens 8 are positions
  }
  Generator generator({.seed = 7});
  CHECK(mask_text(ids, *words, {.probability = 0}, generator).positions.empty());
}

}  // namespace
}  // namespace fgvl::data
