#include "fgvl/data/write_image.hpp"

#include <filesystem>
#include <vector>

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "fgvl/core/files.hpp"

namespace fgvl::data {
namespace {

constexpr int kJpegQuality = 90;

std::string ending(const std::string& path) { return absl::AsciiStrToLower(std::filesystem::path(path).extension().string()); }

std::string to_jpeg(const Image& image) {
  const cv::Mat rgb(static_cast<int>(image.height), static_cast<int>(image.width), CV_8UC3, const_cast<std::uint8_t*>(image.pixels.data()));
  cv::Mat bgr;
  cv::cvtColor(rgb, bgr, cv::COLOR_RGB2BGR);
  std::vector<unsigned char> bytes;
  cv::imencode(".jpg", bgr, bytes, {cv::IMWRITE_JPEG_QUALITY, kJpegQuality});
  return {bytes.begin(), bytes.end()};
}

}  // namespace

bool is_image_path(const std::string& path) {
  const std::string found = ending(path);
  return found == ".png" || found == ".jpg" || found == ".jpeg";
}

absl::Status write_image(const std::string& path, const Image& image) {
  if (!is_image_path(path)) return absl::InvalidArgumentError(absl::StrCat(path, ": what to write is chosen by the ending: .png, .jpg or .jpeg"));
  return write_file_atomically(path, ending(path) == ".png" ? to_png(image) : to_jpeg(image));
}

}  // namespace fgvl::data
