#pragma once
#include <string>

#include "fgvl/data/image.hpp"

namespace fgvl::data {

/// Whether `path` ends in .png, .jpg or .jpeg, in any case: what write_image can write.
bool is_image_path(const std::string& path);

/// Writes a PNG or JPEG (quality 90), chosen by the ending of `path`, beside and then renamed. InvalidArgument for another ending; otherwise what write_file_atomically says.
absl::Status write_image(const std::string& path, const Image& image);

}  // namespace fgvl::data
