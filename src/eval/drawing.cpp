#include "fgvl/eval/drawing.hpp"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>
#include <opencv2/imgproc.hpp>

namespace fgvl::eval {
namespace {

constexpr double kHeatShare = 0.5;  // of the heat's colour in a pixel; the rest is the picture in grey
constexpr int kGap = 6;

/// Colours `canvas` (RGB) by `heat` [rows, columns] in units of its largest value.
void lay_over(cv::Mat& canvas, const Tensor& heat) {
  TORCH_CHECK(heat.dim() == 2 && heat.numel() > 0 && heat.is_floating_point(), "[draw] heat: expected floating [rows, columns], got ", heat.scalar_type(), " ", heat.sizes());
  const Tensor weights = heat.detach().cpu().to(at::kDouble);
  const double largest = weights.max().item<double>();
  const Tensor levels = (largest > 0 ? weights * (255.0 / largest) : weights).clamp(0, 255).round().to(at::kByte).contiguous();
  const cv::Mat small(static_cast<int>(levels.size(0)), static_cast<int>(levels.size(1)), CV_8UC1, levels.mutable_data_ptr<std::uint8_t>());
  cv::Mat large, colours, grey;
  cv::resize(small, large, canvas.size(), 0, 0, cv::INTER_LINEAR);
  cv::applyColorMap(large, colours, cv::COLORMAP_TURBO);
  cv::cvtColor(colours, colours, cv::COLOR_BGR2RGB);
  cv::cvtColor(canvas, grey, cv::COLOR_RGB2GRAY);
  cv::cvtColor(grey, grey, cv::COLOR_GRAY2RGB);
  cv::addWeighted(colours, kHeatShare, grey, 1 - kHeatShare, 0, canvas);
}

}  // namespace

data::Image draw(const data::Image& image, const Drawing& drawing) {
  const std::vector<DrawnBox>& boxes = drawing.boxes;
  const std::int64_t shorter = std::max<std::int64_t>(1, std::min(image.width, image.height));
  const std::int64_t factor = std::max<std::int64_t>(1, (drawing.min_side + shorter - 1) / shorter);
  const cv::Mat source(static_cast<int>(image.height), static_cast<int>(image.width), CV_8UC3, const_cast<std::uint8_t*>(image.pixels.data()));
  cv::Mat canvas;
  cv::resize(source, canvas, {}, static_cast<double>(factor), static_cast<double>(factor), cv::INTER_NEAREST);
  if (drawing.heat.defined()) lay_over(canvas, drawing.heat);
  const double scale = static_cast<double>(factor);
  const int thickness = std::max(2, static_cast<int>(std::lround(std::min(canvas.cols, canvas.rows) / 110.0)));
  const auto outline = [&](const DrawnBox& drawn, const cv::Scalar& colour, int width) {
    const cv::Point top_left(static_cast<int>(std::lround(drawn.box[0] * scale)), static_cast<int>(std::lround(drawn.box[1] * scale)));
    const cv::Point bottom_right(static_cast<int>(std::lround(drawn.box[2] * scale)) - 1, static_cast<int>(std::lround(drawn.box[3] * scale)) - 1);
    cv::rectangle(canvas, top_left, bottom_right, colour, width);
  };
  // A thin dark rim keeps colours visible on bright pictures; all rims first, so that none hides another box.
  for (const DrawnBox& drawn : boxes) outline(drawn, cv::Scalar(0, 0, 0), thickness + 2);
  for (const DrawnBox& drawn : boxes) outline(drawn, cv::Scalar(drawn.colour[0], drawn.colour[1], drawn.colour[2]), thickness);
  for (const DrawnBox& drawn : boxes) {
    if (drawn.caption.empty()) continue;
    int baseline = 0;
    const cv::Size size = cv::getTextSize(drawn.caption, cv::FONT_HERSHEY_SIMPLEX, 0.45, 1, &baseline);
    const int left = static_cast<int>(std::lround(drawn.box[0] * scale)), top = static_cast<int>(std::lround(drawn.box[1] * scale));
    const cv::Point corner(std::clamp(left, 0, std::max(0, canvas.cols - size.width)), std::max(size.height + 4, top - 3));
    cv::rectangle(canvas, {corner.x, corner.y - size.height - 2, size.width, size.height + baseline + 2}, cv::Scalar(0, 0, 0), cv::FILLED);
    cv::putText(canvas, drawn.caption, corner, cv::FONT_HERSHEY_SIMPLEX, 0.45, cv::Scalar(drawn.colour[0], drawn.colour[1], drawn.colour[2]), 1, cv::LINE_AA);
  }
  return {canvas.cols, canvas.rows, std::vector<std::uint8_t>(canvas.datastart, canvas.dataend)};
}

data::Image tiled(const std::vector<data::Image>& pictures, std::int64_t columns) {
  TORCH_CHECK(!pictures.empty() && columns > 0, "[tiled] expected at least one picture and one column, got ", pictures.size(), " and ", columns);
  const std::int64_t count = static_cast<std::int64_t>(pictures.size()), across = std::min(columns, count), down = (count + across - 1) / across;
  const int width = static_cast<int>(pictures[0].width), height = static_cast<int>(pictures[0].height);
  cv::Mat canvas(static_cast<int>(down) * (height + kGap) - kGap, static_cast<int>(across) * (width + kGap) - kGap, CV_8UC3, cv::Scalar(255, 255, 255));
  for (std::int64_t i = 0; i < count; ++i) {
    const data::Image& picture = pictures[static_cast<std::size_t>(i)];
    TORCH_CHECK(picture.width == width && picture.height == height, "[tiled] pictures: expected one size, got ", width, " x ", height, " and ", picture.width, " x ", picture.height);
    const cv::Mat source(height, width, CV_8UC3, const_cast<std::uint8_t*>(picture.pixels.data()));
    source.copyTo(canvas(cv::Rect(static_cast<int>(i % across) * (width + kGap), static_cast<int>(i / across) * (height + kGap), width, height)));
  }
  return {canvas.cols, canvas.rows, std::vector<std::uint8_t>(canvas.datastart, canvas.dataend)};
}

}  // namespace fgvl::eval
