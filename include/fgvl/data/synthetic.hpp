#pragma once
#include "fgvl/data/datasets.hpp"

namespace fgvl::data {

/// Generated scenes: two or three objects of a shape, colour and size that do not overlap, on a textured background, with captions, region descriptions,
/// labels and foils. A scene is a pure function of (seed, split, index). Some colour-shape pairs occur only in scenes made for the unseen slice.
struct SyntheticOptions {
  std::int64_t image_size = 64;
  std::int64_t scenes = 100000;          ///< of the training split; one of 10 as many are held out
  std::int64_t min_objects = 2, max_objects = 3;
  double counting_captions = 0.25;       ///< share of captions that count ("two circles"); the others relate two objects
  bool spanning_regions = true;          ///< also a region that spans two objects, with their relation
  std::int64_t unseen_pairs = 3;         ///< colour-shape pairs that never occur in training
  std::int64_t seed = 0;
};
void visit_fields(config::Visitor& visitor, SyntheticOptions& options);
absl::StatusOr<DatasetPtr> open_dataset(const SyntheticOptions& options, const DatasetContext& context);

/// A held-out picture with a true text and a text that differs in one respect and is false of it.
struct SkillPair {
  Tensor image{};  ///< [3, H, W] uint8
  std::string text{}, foil{};
};
/// existence, attribute, shape, counting, relation, swap.
const std::vector<std::string>& synthetic_skills();
/// `count` pairs of one skill. The true and the false text come from one distribution, so that texts alone decide nothing. `unseen`: the true text
/// names a colour-shape pair that never occurs in training. Throws c10::Error for an unknown skill.
std::vector<SkillPair> synthetic_skill_pairs(const SyntheticOptions& options, const std::string& skill, std::int64_t count, bool unseen);

}  // namespace fgvl::data
