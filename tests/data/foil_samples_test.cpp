// Foils of records: which a visit delivers, which a survey counts, and on real annotations.
#include <algorithm>
#include <cctype>
#include <iostream>
#include <map>
#include <numeric>
#include <set>
#include <thread>

#include <torch/torch.h>

#include "data/files.hpp"
#include "data/foil_rules.hpp"
#include "fgvl/data/datasets.hpp"
#include "fgvl/data/loader.hpp"
#include "fgvl/data/sample.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

namespace fgvl::data {
namespace {

TextPipelinePtr pipeline(const std::vector<std::string>& texts) {
  TextOptions options;
  options.masking.probability = 0;
  return std::make_shared<TextPipeline>(make_tokenizer(WordPieceOptions{}, build_vocabulary(texts)).value(), options);
}

Record kitchen() {
  Record record;
  record.key = "kitchen";
  record.image = to_tensor(test::plain_image(64, 64, 40));
  record.captions = {"a red cup left of a plate"};
  record.caption_foils = {"a red cup above a plate"};
  record.regions = {{{0, 0, 30, 30}, {"a red cup"}, "cup", {}}, {{34, 0, 64, 30}, {"a blue plate"}, "plate", {}}};
  return record;
}

TEST_CASE("foil_rules: made foils beside the data's own, none of them by default, and nothing else of a sample changes", "[foils]") {
  const auto texts = pipeline({"a red blue green cup plate left right of above two cups plates bowl"});
  SampleOptions given;
  given.foils = true;
  SampleOptions none = given, made = given;
  none.foils = false;
  made.foil_rules.kinds = {.given = 0, .relation = 1, .attribute = 1, .number = 1, .noun = 1, .role = 1};
  const FoilRulesPtr with = rules(made.foil_rules, {"cup", "plate"});
  std::map<FoilKind, int> kinds;
  for (std::uint64_t i = 0; i < 60; ++i) {
    const GeneratorKey key{.seed = 1, .sample = i, .purpose = "s"};
    const Sample a = make_sample(kitchen(), given, {}, *texts, key), b = make_sample(kitchen(), none, {}, *texts, key), c = make_sample(kitchen(), made, {}, *texts, key, with.get());
    REQUIRE((a.texts.size() == 3 && b.texts.size() == 3 && c.texts.size() == 3));
    CHECK(a.texts[0].foil == "a red cup above a plate");
    CHECK(a.texts[0].foil_kind == FoilKind::kGiven);
    for (std::size_t t = 0; t < 3; ++t) {
      CHECK(b.texts[t].foil.empty());
      CHECK((a.texts[t].text == b.texts[t].text && a.texts[t].text == c.texts[t].text));
      if (c.texts[t].foil.empty()) continue;
      ++kinds[c.texts[t].foil_kind];
      CHECK(c.texts[t].foil_kind != FoilKind::kGiven);
      // Words that the model cannot tell from others are no foil.
      CHECK(std::count(c.texts[t].foil_ids.begin(), c.texts[t].foil_ids.end(), texts->tokenizer().unknown_id()) == 0);
    }
  }
  for (const FoilKind kind : {FoilKind::kRelation, FoilKind::kAttribute, FoilKind::kNumber, FoilKind::kNoun, FoilKind::kRole}) CHECK(kinds[kind] > 0);
  CHECK_THROWS_WITH(make_sample(kitchen(), made, {}, *texts, {}), Catch::Contains("[make_sample] rules"));
}

TEST_CASE("survey: foils of words that the vocabulary lacks are counted, and together with those that are delivered they are all that the rules make", "[foils]") {
  const auto texts = pipeline({"a red blue cup plate left right of"});
  SampleOptions options;
  options.foils = true;
  options.foil_rules.kinds = {.given = 0, .relation = 1, .attribute = 1, .number = 1, .noun = 1, .role = 1};
  const FoilRulesPtr with = rules(options.foil_rules, {"cup", "plate"});
  const RecordSurvey found = survey(kitchen(), options, *texts, with.get());
  REQUIRE(found.texts.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) {
    const TextFoils& text = found.texts[i];
    INFO(text.text);
    const auto count = [](const std::map<FoilKind, std::vector<Foil>>& foils) { return std::accumulate(foils.begin(), foils.end(), std::int64_t{0}, [](std::int64_t sum, const auto& kind) { return sum + static_cast<std::int64_t>(kind.second.size()); }); };
    CHECK(text.foils_of_unknown_words > 0);
    if (i == 0) CHECK(count(text.foils) > 0);
    CHECK(count(text.foils) + text.foils_of_unknown_words == count(with->foils(text.text, true_texts(kitchen(), *texts, static_cast<std::int64_t>(i) - 1))));
  }
}

TEST_CASE("foil_rules: a flip turns made foils with their texts", "[foils]") {
  const auto texts = pipeline({"a red cup plate left right of"});
  SampleOptions options;
  options.foils = true;
  options.max_regions = 0;
  options.foil_rules.kinds = {.given = 0, .relation = 1};
  options.augment.horizontal_flip = 1;
  const Sample sample = make_sample(kitchen(), options, {}, *texts, {}, rules(options.foil_rules).get());
  REQUIRE(sample.texts.size() == 1);
  CHECK(sample.texts[0].text == "a red cup right of a plate");
  CHECK(sample.texts[0].foil == "a red cup left of a plate");
}

TEST_CASE("survey: every foil that visits deliver, and no other, with and without position tokens", "[foils]") {
  const auto words = build_vocabulary({"a red blue green cup plate left right of above two cups plates bowl"});
  TextOptions text_options;
  text_options.masking.probability = 0;
  Record record = kitchen();
  record.captions = {"a red cup left of a plate", "a red cup", "a blue plate right of a cup"};
  record.caption_foils = {"a red cup above a plate", "A red cup!", "a green plate right of a cup"};
  record.caption_phrases = {{{2, 9, {0, 0, 30, 30}}}, {}, {{2, 12, {34, 0, 64, 30}}}};
  record.regions[0].texts = {"a red cup", "a cup"};
  record.regions[0].foils = {"a red cup", "a green cup", "a blue cup", "a green cup", ""};
  record.regions.push_back({{70, 0, 90, 30}, {"a bowl"}, "bowl", {"a plate"}});  // outside
  using Delivered = std::set<std::pair<std::string, std::string>>;
  for (const bool positions : {false, true}) {
    for (const double given : {0.0, 1.0}) {
      CAPTURE(positions, given);
      const auto texts = std::make_shared<TextPipeline>(make_tokenizer(WordPieceOptions{.position_tokens = true}, words).value(), text_options);
      SampleOptions options;
      options.captions_per_image = 3;
      options.foils = true;
      options.position_tokens = positions;
      options.foil_rules.kinds = {.given = given, .relation = 1, .attribute = 1, .number = 1, .noun = 1, .role = 1};
      const FoilRulesPtr with = rules(options.foil_rules, {"cup", "plate"});
      Delivered seen, surveyed;
      for (std::uint64_t i = 0; i < 3000; ++i) {
        for (const SampleText& text : make_sample(record, options, {.size = 8}, *texts, {.seed = 1, .sample = i, .purpose = "s"}, with.get()).texts) {
          if (!text.foil.empty()) seen.emplace(text.text, config::name_of(text.foil_kind) + " " + text.foil);
        }
      }
      const RecordSurvey all = survey(record, options, *texts, with.get());
      for (const TextFoils& text : all.texts) {
        for (const auto& [kind, foils] : text.foils) {
          CHECK_FALSE(foils.empty());
          for (const Foil& foil : foils) surveyed.emplace(text.text, config::name_of(kind) + " " + foil.text);
        }
      }
      CHECK(surveyed == seen);
      CHECK(all.texts.size() == 6);
      CHECK(all.regions == 2);
      REQUIRE(all.problems.size() == 1);
      CHECK(all.problems[0].cause == "box_outside");
    }
  }
}

TEST_CASE("what a record says of a region: its own texts, those of regions that overlap it, and the captions", "[foils]") {
  const auto texts = pipeline({"a"});
  Record record = kitchen();
  record.regions.push_back({{20, 0, 40, 30}, {"a hand"}, "", {}});
  const TrueTexts cup = true_texts(record, *texts, 0), hand = true_texts(record, *texts, 2);
  CHECK((cup.says("cup") && cup.says("hand") && cup.says("left of") && !cup.says("blue")));
  CHECK((hand.says("blue") && hand.says("red")));
  for (const TrueTexts* truth : {&cup, &hand}) CHECK((truth->has_text("a blue plate") && truth->has_text("plate")));
}

/// Whole words in lower case: written apart from the library's.
std::string plain(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '\'' || c == '-') {
      result += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    } else if (!result.empty() && result.back() != ' ') {
      result += ' ';
    }
  }
  while (!result.empty() && result.back() == ' ') result.pop_back();
  return result;
}

TEST_CASE("on real annotations no foil equals a true text of its record, articles agree, and threads change nothing", "[foils]") {
  const auto shared = test::shared_dir();
  FGVL_SKIP_UNLESS(!shared.empty(), "real captions and region descriptions");
  const std::string root = (shared / "data" / "photos").string();
  const std::vector<DatasetPtr> datasets = {
    open_dataset(XvlmJsonlOptions{.file = "xvlm/regions.jsonl", .image_root = ""}, {.root = root, .split = Split::kAll}).value(),
    open_dataset(XvlmJsonlOptions{.file = "xvlm/captions.jsonl", .image_root = ""}, {.root = root, .split = Split::kAll}).value(),
    open_dataset(CocoOptions{.instances = "coco/instances.json", .captions = "coco/captions.json", .images = "images"}, {.root = root, .split = Split::kAll}).value()};
  FoilOptions options{.kinds = {.given = 0, .relation = 1, .attribute = 1, .number = 1, .noun = 1, .role = 1}};
  std::map<FoilKind, int> counts;
  for (const DatasetPtr& dataset : datasets) {
    std::vector<std::string> all = dataset->texts().value();
    const auto texts = pipeline(all);
    SampleOptions sample;
    sample.foils = true;
    sample.foil_rules = options;
    const FoilRulesPtr with = open_foil_rules(sample, *dataset, *texts).value();
    for (std::int64_t i = 0; i < dataset->size(); ++i) {
      const Record record = dataset->get(i).value();
      std::set<std::string> truth;
      for (const std::string& caption : record.captions) truth.insert(plain(caption));
      for (const Region& region : record.regions) {
        for (const std::string& text : region.texts) truth.insert(plain(text));
        truth.insert(plain(region.label));
      }
      const auto check = [&](const std::string& text, std::int64_t region) {
        const auto prepared = texts->prepare(text);
        if (!prepared.ok()) return;
        for (const auto& [kind, foils] : with->foils(*prepared, true_texts(record, *texts, region))) {
          for (const Foil& foil : foils) {
            INFO(*prepared << " -> " << foil.text);
            ++counts[kind];
            CHECK(plain(foil.text) != plain(*prepared));
            CHECK(truth.count(plain(foil.text)) == 0);
            const std::string words = " " + plain(foil.text) + " ";
            for (const char* wrong : {" a orange ", " an red ", " a oval ", " a old ", " an green ", " a elephant ", " an dog ", " one men ", " one women ", " two man ", " two woman ", " a a ", " the the "}) CHECK(words.find(wrong) == std::string::npos);
          }
        }
      };
      for (const std::string& caption : record.captions) check(caption, -1);
      for (std::size_t r = 0; r < record.regions.size(); ++r) {
        for (const std::string& text : record.regions[r].texts) check(text, static_cast<std::int64_t>(r));
      }
    }
    // Two loaders, with three threads and with none.
    const auto batches = [&](std::int64_t workers) {
      const auto loader = Loader::make({{"s", dataset, 1.0, sample}}, {.size = 16}, texts, {.batch_size = 4, .workers = workers, .seed = 3, .max_skipped_fraction = 1}).value();
      std::vector<Tensor> foils;
      for (int batch = 0; batch < 4; ++batch) {
        const RegionBatch made = loader->next().value();
        foils.push_back(made.foil_ids);
        foils.push_back(made.foil_to_text);
      }
      return foils;
    };
    const std::vector<Tensor> alone = batches(0), together = batches(3);
    std::int64_t delivered = 0;
    for (std::size_t i = 0; i < alone.size(); ++i) {
      CHECK(at::equal(alone[i], together[i]));
      delivered += alone[i].size(0);
    }
    CHECK(delivered > 0);
  }
  for (const auto& [kind, count] : counts) std::cout << "foils of kind " << config::name_of(kind) << ": " << count << std::endl;
  for (const FoilKind kind : {FoilKind::kRelation, FoilKind::kAttribute, FoilKind::kNumber, FoilKind::kNoun, FoilKind::kRole}) CHECK(counts[kind] > 0);
}

}  // namespace
}  // namespace fgvl::data
