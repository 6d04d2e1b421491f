#include <map>

#include <torch/torch.h>

#include "data/synthetic_scene.hpp"
#include "fgvl/data/text_pipeline.hpp"
#include "support/catch.hpp"

namespace fgvl::data {
namespace {

TEST_CASE("scenes repeat for the same seed and differ between splits", "[synthetic]") {
  const SyntheticOptions options{.scenes = 100};
  const auto a = open_dataset(options, {}).value(), b = open_dataset(options, {}).value(), held_out = open_dataset(options, {.root = "", .split = Split::kHeldOut}).value();
  CHECK(held_out->size() == 10);
  for (std::int64_t i = 0; i < 10; ++i) {
    CHECK(at::equal(a->get(i)->image, b->get(i)->image));
    CHECK_FALSE(at::equal(a->get(i)->image, held_out->get(i)->image));
    CHECK(a->get(i)->captions == b->get(i)->captions);
  }
}

TEST_CASE("training never shows an unseen colour-shape pair, and every word is in the vocabulary", "[synthetic]") {
  const SyntheticOptions options{.scenes = 2000};
  const auto scenes = open_dataset(options, {}).value();
  const auto texts = scenes->texts().value();
  const TokenizerPtr tokenizer = make_tokenizer(WordPieceOptions{}, build_vocabulary(texts)).value();
  for (std::int64_t i = 0; i < scenes->size(); ++i) {
    const Record record = *scenes->get(i);
    std::vector<std::string> all = record.captions;
    for (const Region& region : record.regions) {
      all.insert(all.end(), region.texts.begin(), region.texts.end());
      CHECK(region.box[0] >= 0);
      CHECK(region.box[3] <= 64);
    }
    for (const std::string& text : all) {
      for (std::int64_t colour = 0; colour < options.unseen_pairs; ++colour) {
        const std::string unseen = std::string(kColours[colour]) + " " + kShapes[(colour + 3) % kShapeCount];
        CHECK(text.find(unseen) == std::string::npos);
      }
      for (const std::int64_t id : tokenizer->ids(text)) CHECK(id != tokenizer->unknown_id());
    }
  }
}

TEST_CASE("a box holds its object's pixels", "[synthetic]") {
  SyntheticOptions options{.scenes = 100};
  Generator generator({.seed = 1});
  for (int i = 0; i < 50; ++i) {
    Scene scene = make_scene(options, {}, generator);
    Scene without = scene;
    without.objects.erase(without.objects.begin());
    Generator same({.seed = 2, .sample = static_cast<std::uint64_t>(i)}), again({.seed = 2, .sample = static_cast<std::uint64_t>(i)});
    // The first object is drawn first, so that the later ones' brightness shifts; compare where only it can differ.
    scene.objects = {scene.objects[0]};
    without.objects.clear();
    const Tensor changed = (render(scene, 64, same).to(torch::kInt) - render(without, 64, again).to(torch::kInt)).abs().amax(0) > 12;
    const Tensor where = changed.nonzero();
    const PixelBox box = scene.objects[0].box(64);
    const auto extreme = [&](int axis, bool low) { return static_cast<double>((low ? where.select(1, axis).min() : where.select(1, axis).max() + 1).item<std::int64_t>()); };
    CHECK(std::abs(extreme(1, true) - box[0]) <= 1.01);
    CHECK(std::abs(extreme(0, true) - box[1]) <= 1.01);
    CHECK(std::abs(extreme(1, false) - box[2]) <= 1.01);
    CHECK(std::abs(extreme(0, false) - box[3]) <= 1.01);
  }
}

TEST_CASE("is_true knows relations, counts and existence", "[synthetic]") {
  const SceneObject red_circle{0, 0, false, 0.2, 0.5, 0.1}, blue_square{1, 2, true, 0.8, 0.55, 0.15}, green_circle{0, 1, false, 0.2, 0.1, 0.1};
  const Scene scene{{red_circle, blue_square, green_circle}};
  const auto says = [&](Statement statement) { return is_true(statement, scene); };
  const Statement left{noun(red_circle, false), Relation::kLeft, noun(blue_square, false), {}};
  CHECK(left.text() == "a red circle left of a blue square");
  CHECK(says(left));
  CHECK_FALSE(says(with_inverted_relation(left)));
  CHECK_FALSE(says(with_swapped_roles(left)));
  CHECK(says(with_swapped_roles(with_inverted_relation(left))));
  CHECK(says({{0, {}, {}}, {}, {}, 2}));
  CHECK_FALSE(says({{0, {}, {}}, {}, {}, 1}));
  CHECK(Statement{{3, {}, {}}, {}, {}, 2}.text() == "two crosses");
  CHECK_FALSE(says({{0, 3, {}}, {}, {}, {}}));
}

TEST_CASE("pairs of every skill: texts differ, and texts alone decide nothing", "[synthetic]") {
  const SyntheticOptions options;
  for (const std::string& skill : synthetic_skills()) {
    INFO(skill);
    // True and false texts come from one distribution: every word is about as frequent in both (relation and swap: exactly one order a pair).
    std::map<std::string, std::pair<int, int>> counts;
    const auto pairs = synthetic_skill_pairs(options, skill, 600, false);
    REQUIRE(pairs.size() == 600);
    for (const SkillPair& pair : pairs) {
      CHECK(pair.text != pair.foil);
      for (const std::string& word : basic_words(pair.text)) ++counts[word].first;
      for (const std::string& word : basic_words(pair.foil)) ++counts[word].second;
    }
    for (const auto& [word, both] : counts) {
      INFO(word << " " << both.first << " " << both.second);
      const double total = both.first + both.second;
      if (total >= 40) CHECK(std::abs(both.first - both.second) < 5.5 * std::sqrt(total));
    }
    if (skill != "counting") CHECK(synthetic_skill_pairs(options, skill, 20, true).size() == 20);
  }
  CHECK_THROWS_WITH(synthetic_skill_pairs(options, "smell", 1, false), Catch::Contains("existence, attribute"));
}

}  // namespace
}  // namespace fgvl::data
