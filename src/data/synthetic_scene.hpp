#pragma once
#include <optional>
#include <string>
#include <vector>

#include "fgvl/core/random.hpp"
#include "fgvl/data/record.hpp"
#include "fgvl/data/synthetic.hpp"

namespace fgvl::data {

/// Names; sizes of the tables below are used everywhere.
inline constexpr const char* kShapes[] = {"circle", "square", "triangle", "cross"};
inline constexpr const char* kColours[] = {"red", "green", "blue", "yellow", "purple", "white"};
inline constexpr const char* kNumbers[] = {"no", "one", "two", "three"};
inline constexpr std::int64_t kShapeCount = 4, kColourCount = 6;

/// Positions and half sizes in units of the image side.
struct SceneObject {
  std::int64_t shape = 0, colour = 0;
  bool large = false;
  double x = 0, y = 0, half = 0;
  PixelBox box(double side) const;  ///< tight, in pixels
};

enum class Relation { kLeft, kRight, kAbove, kBelow };
Relation relation(const SceneObject& a, const SceneObject& b);  ///< of a to b, by the larger difference of their centres
Relation inverse(Relation relation);

/// A sentence of the scenes' language. Unset fields are not said.
struct Statement {
  struct Noun {
    std::int64_t shape = 0;
    std::optional<std::int64_t> colour{};
    std::optional<bool> large{};
  };
  Noun first{};
  std::optional<Relation> relation{};
  Noun second{};                        ///< with relation
  std::optional<std::int64_t> count{};  ///< "two circles"

  std::string text() const;
};

struct Scene {
  std::vector<SceneObject> objects{};
};

/// Whether a pair of colour and shape is kept out of training.
bool is_unseen(std::int64_t colour, std::int64_t shape, const SyntheticOptions& options);

/// What a scene has to show beside random objects.
struct SceneRequest {
  std::optional<std::int64_t> same_shape{};  ///< at least this many objects share one shape, and exactly this many of object 0's shape
  bool unseen = false;                       ///< object 0 is an unseen pair
};
Scene make_scene(const SyntheticOptions& options, const SceneRequest& request, Generator& generator);
Tensor render(const Scene& scene, std::int64_t side, Generator& generator);  ///< [3, side, side] uint8

/// Ground truth, decided from the objects alone.
bool is_true(const Statement& statement, const Scene& scene);

Statement::Noun noun(const SceneObject& object, bool with_size);
/// The statement with its relation inverted, or with its two objects swapped.
Statement with_inverted_relation(Statement statement);
Statement with_swapped_roles(Statement statement);

}  // namespace fgvl::data
