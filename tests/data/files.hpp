#pragma once
#include <filesystem>
#include <fstream>
#include <string>

#include "fgvl/data/image.hpp"
#include "support/folders.hpp"

namespace fgvl::test {

inline void write(const std::filesystem::path& path, const std::string& content) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << content;
}

/// One colour.
inline data::Image plain_image(std::int64_t width, std::int64_t height, std::uint8_t level) {
  return {width, height, std::vector<std::uint8_t>(static_cast<std::size_t>(width * height * 3), level)};
}
inline data::Image grey_image(std::int64_t width, std::int64_t height) { return plain_image(width, height, 128); }

}  // namespace fgvl::test
