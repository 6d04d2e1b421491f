#include "fgvl/data/image.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#include <absl/strings/str_cat.h>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <torch/torch.h>
#include <turbojpeg.h>

#include "fgvl/core/files.hpp"

namespace fgvl::data {
namespace {

constexpr std::int64_t kMaxPixels = std::int64_t{1} << 28;  // 268 megapixels: more is a damaged header

absl::StatusOr<Image> decode_jpeg(const std::string& bytes, const std::string& name) {
  const std::unique_ptr<void, int (*)(tjhandle)> decoder(tjInitDecompress(), tjDestroy);
  const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
  const auto size = static_cast<unsigned long>(bytes.size());
  int width = 0, height = 0, subsampling = 0, colours = 0;
  const auto failed = [&] { return absl::DataLossError(absl::StrCat(name, ": damaged JPEG: ", tjGetErrorStr2(decoder.get()))); };
  if (tjDecompressHeader3(decoder.get(), data, size, &width, &height, &subsampling, &colours) != 0) return failed();
  if (std::int64_t{width} * height > kMaxPixels) return absl::DataLossError(absl::StrCat(name, ": ", width, " x ", height, " pixels are more than this reader takes"));
  Image image{width, height, {}};
  image.pixels.resize(static_cast<std::size_t>(image.width * image.height * 3));
  // A warning (a premature end, bad codes) also returns -1: a picture of which a part was guessed is not used.
  if (tjDecompress2(decoder.get(), data, size, image.pixels.data(), width, 0, height, TJPF_RGB, TJFLAG_ACCURATEDCT) != 0) return failed();
  return image;
}

absl::StatusOr<Image> decode_other(const std::string& bytes, const std::string& name) {
  const cv::Mat buffer(1, static_cast<int>(bytes.size()), CV_8UC1, const_cast<char*>(bytes.data()));
  cv::Mat decoded;
  try {
    decoded = cv::imdecode(buffer, cv::IMREAD_COLOR | cv::IMREAD_IGNORE_ORIENTATION);
  } catch (const cv::Exception& error) {
    return absl::DataLossError(absl::StrCat(name, ": ", error.what()));
  }
  if (decoded.empty()) return absl::DataLossError(absl::StrCat(name, ": neither a JPEG nor a PNG, or damaged"));
  cv::cvtColor(decoded, decoded, cv::COLOR_BGR2RGB);
  Image image{decoded.cols, decoded.rows, {}};
  image.pixels.assign(decoded.datastart, decoded.dataend);
  return image;
}

/// Pillow's fixed-point filter: for every output pixel the first input pixel and the weights, scaled by 2^kBits.
struct Filter {
  std::vector<std::int64_t> first;
  std::vector<std::vector<std::int32_t>> weights;
};
constexpr int kBits = 32 - 8 - 2;

double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

Filter make_filter(std::int64_t input, std::int64_t output) {
  const double scale = static_cast<double>(input) / static_cast<double>(output), widened = std::max(scale, 1.0), support = 2.0 * widened;
  Filter filter;
  for (std::int64_t i = 0; i < output; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * scale;
    const std::int64_t first = std::max<std::int64_t>(0, static_cast<std::int64_t>(centre - support + 0.5));
    const std::int64_t last = std::min(input, static_cast<std::int64_t>(centre + support + 0.5));
    std::vector<double> raw;
    double total = 0;
    for (std::int64_t x = first; x < last; ++x) {
      raw.push_back(bicubic((static_cast<double>(x) - centre + 0.5) / widened));
      total += raw.back();
    }
    std::vector<std::int32_t> fixed;
    for (const double value : raw) {
      const double scaled = value / total * (1 << kBits);
      fixed.push_back(static_cast<std::int32_t>(scaled < 0 ? scaled - 0.5 : scaled + 0.5));
    }
    filter.first.push_back(first);
    filter.weights.push_back(std::move(fixed));
  }
  return filter;
}

std::uint8_t rounded(std::int32_t sum) { return static_cast<std::uint8_t>(std::clamp(sum >> kBits, 0, 255)); }

Image resize_bicubic(const Image& image, std::int64_t width, std::int64_t height) {
  Image wide = image;
  if (width != image.width) {
    const Filter filter = make_filter(image.width, width);
    wide = {width, image.height, std::vector<std::uint8_t>(static_cast<std::size_t>(width * image.height * 3))};
    for (std::int64_t y = 0; y < image.height; ++y) {
      const std::uint8_t* row = image.pixels.data() + y * image.width * 3;
      std::uint8_t* out = wide.pixels.data() + y * width * 3;
      for (std::int64_t x = 0; x < width; ++x) {
        const auto& weights = filter.weights[static_cast<std::size_t>(x)];
        const std::uint8_t* from = row + filter.first[static_cast<std::size_t>(x)] * 3;
        std::int32_t sums[3] = {1 << (kBits - 1), 1 << (kBits - 1), 1 << (kBits - 1)};
        for (const std::int32_t weight : weights) {
          for (int c = 0; c < 3; ++c) sums[c] += *from++ * weight;
        }
        for (const std::int32_t sum : sums) *out++ = rounded(sum);
      }
    }
  }
  if (height == image.height) return wide;
  const Filter filter = make_filter(image.height, height);
  Image result{width, height, std::vector<std::uint8_t>(static_cast<std::size_t>(width * height * 3))};
  std::vector<std::int32_t> sums(static_cast<std::size_t>(width * 3));
  for (std::int64_t y = 0; y < height; ++y) {
    std::fill(sums.begin(), sums.end(), 1 << (kBits - 1));
    const std::uint8_t* from = wide.pixels.data() + filter.first[static_cast<std::size_t>(y)] * width * 3;
    for (const std::int32_t weight : filter.weights[static_cast<std::size_t>(y)]) {
      for (std::int32_t& sum : sums) sum += *from++ * weight;
    }
    std::uint8_t* out = result.pixels.data() + y * width * 3;
    for (const std::int32_t sum : sums) *out++ = rounded(sum);
  }
  return result;
}

cv::Mat as_matrix(const Image& image) {
  return cv::Mat(static_cast<int>(image.height), static_cast<int>(image.width), CV_8UC3, const_cast<std::uint8_t*>(image.pixels.data()));
}

Image from_matrix(const cv::Mat& matrix) {
  const cv::Mat whole = matrix.isContinuous() ? matrix : matrix.clone();
  return {whole.cols, whole.rows, std::vector<std::uint8_t>(whole.datastart, whole.dataend)};
}

}  // namespace

config::EnumNames<Interpolation> enum_names(Interpolation) {
  return {{Interpolation::kBicubic, "bicubic"}, {Interpolation::kArea, "area"}, {Interpolation::kBilinear, "bilinear"}};
}

absl::StatusOr<Image> decode_image(const std::string& bytes, const std::string& name) {
  if (bytes.empty()) return absl::DataLossError(absl::StrCat(name, ": the file is empty"));
  const bool jpeg = bytes.size() > 2 && static_cast<unsigned char>(bytes[0]) == 0xFF && static_cast<unsigned char>(bytes[1]) == 0xD8;
  return jpeg ? decode_jpeg(bytes, name) : decode_other(bytes, name);
}

absl::StatusOr<Image> read_image(const std::string& path) {
  FGVL_ASSIGN_OR_RETURN(const std::string bytes, read_file(path));
  return decode_image(bytes, path);
}

Image resize(const Image& image, std::int64_t width, std::int64_t height, Interpolation interpolation) {
  TORCH_CHECK(width > 0 && height > 0 && image.width > 0 && image.height > 0, "[resize] expected positive sizes, got ", image.width, " x ", image.height, " -> ", width, " x ", height);
  if (width == image.width && height == image.height) return image;
  if (interpolation == Interpolation::kBicubic) return resize_bicubic(image, width, height);
  cv::Mat resized;
  cv::resize(as_matrix(image), resized, cv::Size(static_cast<int>(width), static_cast<int>(height)), 0, 0,
             interpolation == Interpolation::kArea ? cv::INTER_AREA : cv::INTER_LINEAR);
  return from_matrix(resized);
}

Image crop(const Image& image, std::int64_t x, std::int64_t y, std::int64_t width, std::int64_t height) {
  TORCH_CHECK(x >= 0 && y >= 0 && width > 0 && height > 0 && x + width <= image.width && y + height <= image.height, "[crop] expected a window inside ", image.width, " x ",
              image.height, ", got x ", x, " y ", y, " width ", width, " height ", height);
  Image part{width, height, std::vector<std::uint8_t>(static_cast<std::size_t>(width * height * 3))};
  for (std::int64_t row = 0; row < height; ++row) {
    std::memcpy(part.pixels.data() + row * width * 3, image.pixels.data() + ((y + row) * image.width + x) * 3, static_cast<std::size_t>(width * 3));
  }
  return part;
}

Image flip_horizontally(const Image& image) {
  Image flipped = image;
  for (std::int64_t y = 0; y < image.height; ++y) {
    for (std::int64_t x = 0; x < image.width; ++x) {
      std::memcpy(flipped.pixels.data() + (y * image.width + x) * 3, image.pixels.data() + (y * image.width + image.width - 1 - x) * 3, 3);
    }
  }
  return flipped;
}

Image flip_vertically(const Image& image) {
  Image flipped = image;
  const std::int64_t stride = image.width * 3;
  for (std::int64_t y = 0; y < image.height; ++y) {
    std::memcpy(flipped.pixels.data() + y * stride, image.pixels.data() + (image.height - 1 - y) * stride, static_cast<std::size_t>(stride));
  }
  return flipped;
}

Tensor to_tensor(const Image& image) {
  const Tensor tensor = at::empty({3, image.height, image.width}, at::kByte);
  std::uint8_t* out = tensor.mutable_data_ptr<std::uint8_t>();
  const std::int64_t count = image.width * image.height;
  for (std::int64_t i = 0; i < count; ++i) {
    for (std::int64_t c = 0; c < 3; ++c) out[c * count + i] = image.pixels[static_cast<std::size_t>(i * 3 + c)];
  }
  return tensor;
}

Image from_tensor(const Tensor& tensor) {
  TORCH_CHECK(tensor.dim() == 3 && tensor.size(0) == 3 && tensor.scalar_type() == at::kByte, "[from_tensor] image: expected [3, H, W] uint8, got ", tensor.scalar_type(), " ",
              tensor.sizes());
  const Tensor host = tensor.cpu().contiguous();
  Image image{host.size(2), host.size(1), {}};
  const std::int64_t count = image.width * image.height;
  image.pixels.resize(static_cast<std::size_t>(count * 3));
  const std::uint8_t* from = host.const_data_ptr<std::uint8_t>();
  for (std::int64_t i = 0; i < count; ++i) {
    for (std::int64_t c = 0; c < 3; ++c) image.pixels[static_cast<std::size_t>(i * 3 + c)] = from[c * count + i];
  }
  return image;
}

std::string to_png(const Image& image) {
  cv::Mat bgr;
  cv::cvtColor(as_matrix(image), bgr, cv::COLOR_RGB2BGR);
  std::vector<unsigned char> bytes;
  cv::imencode(".png", bgr, bytes);
  return {bytes.begin(), bytes.end()};
}

}  // namespace fgvl::data
