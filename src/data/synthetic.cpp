#include "fgvl/data/synthetic.hpp"

#include <algorithm>

#include <ATen/ATen.h>

#include "data/synthetic_scene.hpp"
#include "fgvl/data/text_pipeline.hpp"

namespace fgvl::data {
namespace {

/// A relation or a swap, at random: the foils that foil matching trains on.
Statement foil_of(const Statement& statement, Generator& generator) { return generator.bernoulli(0.5) ? with_swapped_roles(statement) : with_inverted_relation(statement); }

Statement relating(const SceneObject& a, const SceneObject& b) { return {noun(a, false), relation(a, b), noun(b, false), {}}; }

/// Two different indices below `count`.
std::pair<std::size_t, std::size_t> two_of(std::size_t count, Generator& generator) {
  const auto a = static_cast<std::size_t>(generator.uniform_int(0, static_cast<std::int64_t>(count) - 1));
  auto b = static_cast<std::size_t>(generator.uniform_int(0, static_cast<std::int64_t>(count) - 2));
  if (b >= a) ++b;
  return {a, b};
}

class SyntheticDataset final : public Dataset {
 public:
  SyntheticDataset(const SyntheticOptions& options, std::string split, std::int64_t size) : options_(options), split_(std::move(split)), size_(size) {}

  std::int64_t size() const override { return size_; }

  absl::StatusOr<Record> get(std::int64_t index) const override {
    Generator generator({.seed = static_cast<std::uint64_t>(options_.seed), .sample = static_cast<std::uint64_t>(index), .purpose = split_});
    const bool counting = generator.bernoulli(options_.counting_captions);
    SceneRequest request;
    if (counting) request.same_shape = generator.uniform_int(1, 3);
    const Scene scene = make_scene(options_, request, generator);
    Record record;
    record.key = split_ + "-" + std::to_string(index);
    record.place = "synthetic:" + record.key;
    record.image = render(scene, options_.image_size, generator);
    const double side = static_cast<double>(options_.image_size);
    if (counting) {
      record.captions = {Statement{{scene.objects[0].shape, {}, {}}, {}, {}, *request.same_shape}.text()};
      record.caption_foils = {""};
    } else {
      const auto [a, b] = two_of(scene.objects.size(), generator);
      const Statement caption = relating(scene.objects[a], scene.objects[b]);
      record.captions = {caption.text()};
      record.caption_foils = {foil_of(caption, generator).text()};
      const std::size_t end = record.captions[0].size(), first = Statement{caption.first, {}, {}, {}}.text().size(), second = Statement{caption.second, {}, {}, {}}.text().size();
      record.caption_phrases = {{{0, first, scene.objects[a].box(side)}, {end - second, end, scene.objects[b].box(side)}}};
    }
    for (const SceneObject& object : scene.objects) {
      const Statement description{noun(object, true), {}, {}, {}};
      const std::string label = std::string(kColours[object.colour]) + " " + kShapes[object.shape];
      record.regions.push_back({object.box(side), {description.text()}, label, {}});
    }
    if (options_.spanning_regions) {
      const auto [a, b] = two_of(scene.objects.size(), generator);
      const PixelBox one = scene.objects[a].box(side), other = scene.objects[b].box(side);
      const Statement both = relating(scene.objects[a], scene.objects[b]);
      record.regions.push_back({{std::min(one[0], other[0]), std::min(one[1], other[1]), std::max(one[2], other[2]), std::max(one[3], other[3])}, {both.text()}, "", {foil_of(both, generator).text()}});
    }
    return record;
  }

  absl::StatusOr<std::vector<std::string>> texts() const override {
    std::vector<std::string> all;
    for (std::int64_t shape = 0; shape < kShapeCount; ++shape) {
      for (std::int64_t colour = 0; colour < kColourCount; ++colour) {
        const Statement::Noun named{shape, colour, colour % 2 == 0};
        all.push_back(Statement{named, static_cast<Relation>(colour % 4), named, {}}.text());
      }
      for (std::int64_t count = 0; count < 4; ++count) all.push_back(Statement{{shape, {}, {}}, {}, {}, count}.text());
    }
    return all;
  }
  bool has_closed_texts() const override { return true; }

 private:
  SyntheticOptions options_;
  std::string split_;
  std::int64_t size_;
};

/// A value of [0, count) other than those for which `taken` holds.
template <class F>
std::int64_t other_than(std::int64_t count, Generator& generator, F&& taken) {
  std::vector<std::int64_t> free;
  for (std::int64_t value = 0; value < count; ++value) {
    if (!taken(value)) free.push_back(value);
  }
  return free.empty() ? -1 : generator.choose(free);
}

/// True and false statement of one skill on a scene whose object `a` is to be changed; the foil's `shape` is -1 where no foil exists.
std::pair<Statement, Statement> statements(const std::string& skill, const Scene& scene, const SceneRequest& request, const SyntheticOptions& options, Generator& generator) {
  const auto shows = [&](std::int64_t colour, std::int64_t shape) {
    return is_unseen(colour, shape, options) || std::any_of(scene.objects.begin(), scene.objects.end(), [&](const SceneObject& object) { return object.colour == colour && object.shape == shape; });
  };
  if (skill == "counting") {
    const Statement truth{{scene.objects[0].shape, {}, {}}, {}, {}, *request.same_shape};
    Statement foil = truth;
    foil.count = 1 + other_than(3, generator, [&](std::int64_t value) { return value + 1 == *request.same_shape; });
    return {truth, foil};
  }
  auto [a, b] = two_of(scene.objects.size(), generator);
  if (request.unseen && a != 0) std::tie(a, b) = std::pair<std::size_t, std::size_t>(0, a);
  Statement truth = relating(scene.objects[a], scene.objects[b]);
  Statement foil = truth;
  if (skill == "relation") return {truth, with_inverted_relation(truth)};
  if (skill == "swap") return {truth, with_swapped_roles(truth)};
  if (skill == "attribute") {
    foil.first.colour = other_than(kColourCount, generator, [&](std::int64_t colour) { return shows(colour, truth.first.shape); });
    if (*foil.first.colour < 0) foil.first.shape = -1;
  } else if (skill == "shape") {
    foil.first.shape = other_than(kShapeCount, generator, [&](std::int64_t shape) { return shows(*truth.first.colour, shape); });
  } else {  // existence
    const std::int64_t pair = other_than(kShapeCount * kColourCount, generator, [&](std::int64_t value) { return shows(value / kShapeCount, value % kShapeCount); });
    foil.first.colour = pair / kShapeCount;
    foil.first.shape = pair % kShapeCount;
  }
  return {truth, foil};
}

}  // namespace

void visit_fields(config::Visitor& visitor, SyntheticOptions& options) {
  visitor("image_size", options.image_size, "pixels a side", {64, 4096});
  visitor("scenes", options.scenes, "of the training split; one in ten as many are held out", {10, 1e12});
  visitor("min_objects", options.min_objects, "a scene", {2, 3});
  visitor("max_objects", options.max_objects, "a scene", {2, 3});
  visitor("counting_captions", options.counting_captions, "share of captions that count", config::kFraction);
  visitor("spanning_regions", options.spanning_regions, "also a region that spans two objects, with their relation");
  visitor("unseen_pairs", options.unseen_pairs, "colour-shape pairs that never occur in training", {0, kColourCount});
  visitor("seed", options.seed, "of the scenes", config::kNonNegative);
  visitor.check(options.min_objects <= options.max_objects, "min_objects: must not exceed max_objects");
}

absl::StatusOr<DatasetPtr> open_dataset(const SyntheticOptions& options, const DatasetContext& context) {
  const auto train = std::make_shared<SyntheticDataset>(options, "train", options.scenes);
  const auto held_out = std::make_shared<SyntheticDataset>(options, "held-out", options.scenes / 10);
  switch (context.split) {
    case Split::kTrain: return train;
    case Split::kHeldOut: return held_out;
    case Split::kAll: return concatenated({train, held_out});
  }
  return absl::InternalError("split");
}

const std::vector<std::string>& synthetic_skills() {
  static const std::vector<std::string> skills = {"existence", "attribute", "shape", "counting", "relation", "swap"};
  return skills;
}

std::vector<SkillPair> synthetic_skill_pairs(const SyntheticOptions& options, const std::string& skill, std::int64_t count, bool unseen) {
  const auto& skills = synthetic_skills();
  TORCH_CHECK(std::find(skills.begin(), skills.end(), skill) != skills.end(), "[synthetic_skill_pairs] skill: expected existence, attribute, shape, counting, relation or swap, got '", skill, "'");
  TORCH_CHECK(!unseen || options.unseen_pairs > 0, "[synthetic_skill_pairs] unseen: the options have no unseen pairs");
  std::vector<SkillPair> pairs;
  const std::string purpose = "skill-" + skill + (unseen ? "-unseen" : "");
  for (std::uint64_t index = 0; static_cast<std::int64_t>(pairs.size()) < count; ++index) {
    Generator generator({.seed = static_cast<std::uint64_t>(options.seed), .sample = index, .purpose = purpose});
    SceneRequest request{{}, unseen};
    if (skill == "counting") request.same_shape = generator.uniform_int(1, 3);
    const Scene scene = make_scene(options, request, generator);
    const auto [truth, foil] = statements(skill, scene, request, options, generator);
    if (foil.first.shape < 0 || !is_true(truth, scene) || is_true(foil, scene)) continue;
    pairs.push_back({render(scene, options.image_size, generator), truth.text(), foil.text()});
  }
  return pairs;
}

}  // namespace fgvl::data
