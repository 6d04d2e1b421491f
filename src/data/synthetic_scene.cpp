#include "data/synthetic_scene.hpp"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>

namespace fgvl::data {
namespace {

constexpr double kRgb[kColourCount][3] = {{.9, .1, .1}, {.1, .8, .1}, {.15, .2, .95}, {.95, .9, .1}, {.6, .1, .7}, {.95, .95, .95}};
constexpr double kHalves[4] = {6 / 64.0, 6.5 / 64.0, 10 / 64.0, 10.5 / 64.0};  // two small, two large
constexpr double kMargin = 1 / 64.0;
constexpr double kSquareHalf = 0.88, kTriangleFoot = 0.9, kCrossArm = 0.33;

constexpr const char* kRelations[] = {"left of", "right of", "above", "below"};

/// Whether the point (dx, dy) from an object's centre, in units of its half size, is inside.
bool inside(std::int64_t shape, double dx, double dy) {
  switch (shape) {
    case 0: return dx * dx + dy * dy < 1;
    case 1: return std::abs(dx) < kSquareHalf && std::abs(dy) < kSquareHalf;
    case 2: return dy > -1 && dy < kTriangleFoot && std::abs(dx) < (dy + 1) / 2;
    default: return (std::abs(dx) < kCrossArm && std::abs(dy) < 1) || (std::abs(dy) < kCrossArm && std::abs(dx) < 1);
  }
}

bool matches(const Statement::Noun& noun, const SceneObject& object) {
  return noun.shape == object.shape && (!noun.colour || *noun.colour == object.colour) && (!noun.large || *noun.large == object.large);
}

std::string words(const Statement::Noun& noun, bool plural) {
  std::string text;
  if (noun.large) text += *noun.large ? "large " : "small ";
  if (noun.colour) text += std::string(kColours[*noun.colour]) + " ";
  text += kShapes[noun.shape];
  if (plural) text += noun.shape == 3 ? "es" : "s";
  return text;
}

/// A faint texture: a grey level with a gradient, and on some pictures stripes.
struct Background {
  double base[3], slope_x, slope_y, stripes, frequency_x, frequency_y;
};

Background make_background(Generator& generator) {
  Background background{};
  for (double& channel : background.base) channel = 0.25 + 0.2 * generator.uniform();
  background.slope_x = generator.uniform(-0.08, 0.08);
  background.slope_y = generator.uniform(-0.08, 0.08);
  background.stripes = generator.bernoulli(0.5) ? generator.uniform(0.0, 0.05) : 0.0;
  background.frequency_x = generator.uniform(5, 30);
  background.frequency_y = generator.uniform(5, 30);
  return background;
}

}  // namespace

PixelBox SceneObject::box(double side) const {
  double left = half, right = half, top = half, bottom = half;
  if (shape == 1) left = right = top = bottom = kSquareHalf * half;
  if (shape == 2) {
    left = right = (kTriangleFoot + 1) / 2 * half;
    bottom = kTriangleFoot * half;
  }
  return {(x - left) * side, (y - top) * side, (x + right) * side, (y + bottom) * side};
}

Relation relation(const SceneObject& a, const SceneObject& b) {
  const double dx = b.x - a.x, dy = b.y - a.y;
  if (std::abs(dx) > std::abs(dy)) return dx > 0 ? Relation::kLeft : Relation::kRight;
  return dy > 0 ? Relation::kAbove : Relation::kBelow;
}

Relation inverse(Relation relation) {
  switch (relation) {
    case Relation::kLeft: return Relation::kRight;
    case Relation::kRight: return Relation::kLeft;
    case Relation::kAbove: return Relation::kBelow;
    case Relation::kBelow: return Relation::kAbove;
  }
  return relation;
}

std::string Statement::text() const {
  if (count) return std::string(kNumbers[*count]) + " " + words(first, *count != 1);
  std::string text = "a " + words(first, false);
  if (relation) text += std::string(" ") + kRelations[static_cast<int>(*relation)] + " a " + words(second, false);
  return text;
}

bool is_unseen(std::int64_t colour, std::int64_t shape, const SyntheticOptions& options) {
  return colour < options.unseen_pairs && shape == (colour + 3) % kShapeCount;
}

Scene make_scene(const SyntheticOptions& options, const SceneRequest& request, Generator& generator) {
  for (;;) {
    const std::int64_t wanted = std::max(generator.uniform_int(options.min_objects, options.max_objects), request.same_shape.value_or(0));
    Scene scene;
    for (int attempt = 0; attempt < 100 && static_cast<std::int64_t>(scene.objects.size()) < wanted; ++attempt) {
      SceneObject object;
      const auto size = generator.uniform_int(0, 3);
      object.half = kHalves[size];
      object.large = size >= 2;
      object.x = generator.uniform(object.half + kMargin, 1 - object.half - kMargin);
      object.y = generator.uniform(object.half + kMargin, 1 - object.half - kMargin);
      object.shape = generator.uniform_int(0, kShapeCount - 1);
      object.colour = generator.uniform_int(0, kColourCount - 1);
      const auto index = static_cast<std::int64_t>(scene.objects.size());
      if (request.same_shape && index > 0) {
        // The first `same_shape` objects share a shape, and no other has it.
        const std::int64_t shared = scene.objects[0].shape;
        if (index < *request.same_shape) object.shape = shared;
        if (index >= *request.same_shape && object.shape == shared) continue;
      }
      const bool overlaps = std::any_of(scene.objects.begin(), scene.objects.end(), [&](const SceneObject& other) {
        return std::max(std::abs(object.x - other.x), std::abs(object.y - other.y)) <= object.half + other.half + kMargin;
      });
      const bool repeated = std::any_of(scene.objects.begin(), scene.objects.end(), [&](const SceneObject& other) { return object.shape == other.shape && object.colour == other.colour; });
      const bool unseen = is_unseen(object.colour, object.shape, options);
      if (overlaps || repeated || unseen != (request.unseen && index == 0)) continue;
      scene.objects.push_back(object);
    }
    if (static_cast<std::int64_t>(scene.objects.size()) == wanted) return scene;
  }
}

Tensor render(const Scene& scene, std::int64_t side, Generator& generator) {
  const Background background = make_background(generator);
  const Tensor image = at::empty({3, side, side}, at::kByte);
  std::uint8_t* out = image.mutable_data_ptr<std::uint8_t>();
  const std::int64_t count = side * side;
  const double scale = 1.0 / static_cast<double>(side);
  std::vector<float> column(static_cast<std::size_t>(side));
  for (std::int64_t x = 0; x < side; ++x) column[static_cast<std::size_t>(x)] = static_cast<float>(background.stripes * std::sin(background.frequency_x * static_cast<double>(x) * scale) + background.slope_x * static_cast<double>(x) * scale);
  std::uint32_t state = generator.next() | 1u;
  for (std::int64_t y = 0; y < side; ++y) {
    const auto row = static_cast<float>(background.stripes * std::sin(background.frequency_y * static_cast<double>(y) * scale) + background.slope_y * static_cast<double>(y) * scale);
    for (std::int64_t x = 0; x < side; ++x) {
      const std::int64_t i = y * side + x;
      // xorshift32: grain, three times 8 bits a pixel.
      state ^= state << 13;
      state ^= state >> 17;
      state ^= state << 5;
      for (int c = 0; c < 3; ++c) {
        const float grain = (static_cast<float>((state >> (8 * c)) & 255u) / 255.0f - 0.5f) * 0.07f;
        const float value = static_cast<float>(background.base[c]) + column[static_cast<std::size_t>(x)] + row + grain;
        out[c * count + i] = static_cast<std::uint8_t>(std::clamp(value, 0.0f, 1.0f) * 255.0f + 0.5f);
      }
    }
  }
  for (const SceneObject& object : scene.objects) {
    const double brightness = 0.85 + 0.15 * generator.uniform(), size = static_cast<double>(side);
    const auto first_x = static_cast<std::int64_t>((object.x - object.half) * size), last_x = static_cast<std::int64_t>((object.x + object.half) * size) + 1;
    const auto first_y = static_cast<std::int64_t>((object.y - object.half) * size), last_y = static_cast<std::int64_t>((object.y + object.half) * size) + 1;
    for (std::int64_t y = std::max<std::int64_t>(0, first_y); y < std::min(side, last_y); ++y) {
      for (std::int64_t x = std::max<std::int64_t>(0, first_x); x < std::min(side, last_x); ++x) {
        int covered = 0;  // of 2 x 2 points: soft edges
        for (int s = 0; s < 4; ++s) {
          const double px = (static_cast<double>(x) + 0.25 + 0.5 * (s & 1)) * scale, py = (static_cast<double>(y) + 0.25 + 0.5 * (s >> 1)) * scale;
          covered += inside(object.shape, (px - object.x) / object.half, (py - object.y) / object.half) ? 1 : 0;
        }
        if (covered == 0) continue;
        for (int c = 0; c < 3; ++c) {
          std::uint8_t& pixel = out[c * count + y * side + x];
          const double colour = kRgb[object.colour][c] * brightness * 255, share = covered / 4.0;
          pixel = static_cast<std::uint8_t>(share * colour + (1 - share) * pixel + 0.5);
        }
      }
    }
  }
  return image;
}

bool is_true(const Statement& statement, const Scene& scene) {
  if (statement.count) {
    return std::count_if(scene.objects.begin(), scene.objects.end(), [&](const SceneObject& object) { return matches(statement.first, object); }) == *statement.count;
  }
  for (std::size_t a = 0; a < scene.objects.size(); ++a) {
    if (!matches(statement.first, scene.objects[a])) continue;
    if (!statement.relation) return true;
    for (std::size_t b = 0; b < scene.objects.size(); ++b) {
      if (a != b && matches(statement.second, scene.objects[b]) && relation(scene.objects[a], scene.objects[b]) == *statement.relation) return true;
    }
  }
  return false;
}

Statement::Noun noun(const SceneObject& object, bool with_size) {
  Statement::Noun noun{object.shape, object.colour, {}};
  if (with_size) noun.large = object.large;
  return noun;
}

Statement with_inverted_relation(Statement statement) {
  statement.relation = inverse(*statement.relation);
  return statement;
}

Statement with_swapped_roles(Statement statement) {
  std::swap(statement.first, statement.second);
  return statement;
}

}  // namespace fgvl::data
