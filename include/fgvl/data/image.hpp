#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "fgvl/core/config_visitor.hpp"
#include "fgvl/core/status.hpp"
#include "fgvl/core/tensor.hpp"

namespace fgvl::data {

/// RGB, 8 bits a channel, row by row, channels together: pixels[(y * width + x) * 3 + c].
struct Image {
  std::int64_t width = 0, height = 0;
  std::vector<std::uint8_t> pixels{};
};

enum class Interpolation {
  kBicubic,  ///< as Pillow: a = -0.5, support widened when shrinking, two passes with 8-bit values between them
  kArea,     ///< mean over the covered pixels when shrinking (OpenCV INTER_AREA)
  kBilinear,
};
config::EnumNames<Interpolation> enum_names(Interpolation);

/// Decodes a JPEG or PNG. `name` stands for it in messages. A truncated or damaged JPEG is an error, also where a decoder could guess the rest.
absl::StatusOr<Image> decode_image(const std::string& bytes, const std::string& name);
absl::StatusOr<Image> read_image(const std::string& path);

Image resize(const Image& image, std::int64_t width, std::int64_t height, Interpolation interpolation);
/// Whole pixels inside the image: 0 <= x, x + width <= image.width.
Image crop(const Image& image, std::int64_t x, std::int64_t y, std::int64_t width, std::int64_t height);
Image flip_horizontally(const Image& image);
Image flip_vertically(const Image& image);

Tensor to_tensor(const Image& image);        ///< [3, H, W] uint8
Image from_tensor(const Tensor& image);      ///< of [3, H, W] uint8
std::string to_png(const Image& image);      ///< PNG bytes

}  // namespace fgvl::data
