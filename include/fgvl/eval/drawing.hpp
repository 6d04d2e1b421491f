#pragma once
#include <array>
#include <string>
#include <vector>

#include "fgvl/core/tensor.hpp"
#include "fgvl/data/image.hpp"
#include "fgvl/data/record.hpp"

namespace fgvl::eval {

struct DrawnBox {
  data::PixelBox box{};
  std::string caption{};
  std::array<std::uint8_t, 3> colour{255, 255, 255};
};

/// What is drawn into a picture.
struct Drawing {
  std::vector<DrawnBox> boxes{};
  Tensor heat{};              ///< [rows, columns] floating, >= 0, spread over the picture: from dark blue where it is 0 over green to dark red where it is largest, on grey; undefined: none
  std::int64_t min_side = 0;  ///< the picture is enlarged by a whole factor until both sides have at least this many pixels
};
data::Image draw(const data::Image& image, const Drawing& drawing);

/// Pictures of one size in rows of `columns`, a white gap between them.
data::Image tiled(const std::vector<data::Image>& pictures, std::int64_t columns);

}  // namespace fgvl::eval
