#include "fgvl/eval/grounding.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include <absl/strings/str_cat.h>
#include <opencv2/imgproc.hpp>
#include <torch/torch.h>

#include "fgvl/core/boxes.hpp"
#include "fgvl/losses/matching.hpp"
#include "train/inference_scope.hpp"

namespace fgvl::eval {

absl::StatusOr<RegionBatch> make_query(const Tensor& images, const std::vector<QueryText>& texts, const data::TextPipeline& pipeline) {
  // Collating samples that already exist keeps one way to make a batch.
  std::vector<data::Sample> samples(static_cast<std::size_t>(images.size(0)));
  std::vector<std::int64_t> order;
  for (std::size_t i = 0; i < samples.size(); ++i) samples[i].image = images[static_cast<std::int64_t>(i)];
  std::vector<std::vector<std::int64_t>> of_image(samples.size());
  for (std::size_t row = 0; row < texts.size(); ++row) {
    const QueryText& query = texts[row];
    TORCH_CHECK(query.image >= 0 && query.image < images.size(0), "[make_query] texts: expected images in [0, ", images.size(0), "), got ", query.image, " for text ", row);
    data::SampleText text;
    FGVL_ASSIGN_OR_RETURN(text.text, pipeline.prepare(query.text));
    text.ids = pipeline.encode(text.text);
    text.masked.ids = text.ids;
    text.box = query.box;
    text.is_region = query.is_region;
    samples[static_cast<std::size_t>(query.image)].texts.push_back(std::move(text));
    of_image[static_cast<std::size_t>(query.image)].push_back(static_cast<std::int64_t>(row));
  }
  for (const auto& rows : of_image) order.insert(order.end(), rows.begin(), rows.end());
  RegionBatch batch = data::collate(samples, std::vector<std::int64_t>(samples.size(), 0));
  // Back to the caller's order of texts.
  const Tensor back = torch::tensor(order, torch::kLong).argsort();
  for (Tensor RegionBatch::*field : {&RegionBatch::text_to_image, &RegionBatch::is_region, &RegionBatch::boxes, &RegionBatch::is_unambiguous, &RegionBatch::text_ids, &RegionBatch::text_mask,
                                     &RegionBatch::masked_ids, &RegionBatch::masked_positions, &RegionBatch::masked_labels, &RegionBatch::text_key, &RegionBatch::text_stream}) {
    batch.*field = (batch.*field).index_select(0, back);
  }
  return batch;
}

double box_iou(const data::PixelBox& a, const data::PixelBox& b) {
  const auto tensor = [](const data::PixelBox& box) { return at::tensor(at::ArrayRef<double>(box.data(), box.size()), at::kDouble).view({1, 4}); };
  return paired_iou(tensor(a), tensor(b)).item<double>();
}

absl::StatusOr<std::vector<Grounding>> ground(const train::ProbeInput& input, const data::TextPipeline& pipeline, const data::ImageOptions& image_options, const data::Image& image,
                                              const std::vector<std::string>& texts, const std::string& matching) {
  if (texts.empty()) return std::vector<Grounding>{};
  const train::InferenceScope scope(input.model, input.criterion);
  std::vector<QueryText> queries;
  for (const std::string& text : texts) queries.push_back({.image = 0, .text = text});
  const Tensor pixels = data::model_input(image, image_options).unsqueeze(0);
  FGVL_ASSIGN_OR_RETURN(RegionBatch batch, make_query(pixels, queries, pipeline));
  batch = batch.to(input.device);
  const auto pass = input.model.begin(batch);
  const Tensor all = at::arange(static_cast<std::int64_t>(texts.size()), batch.text_to_image.options());
  const Tensor boxes = pass->predicted_boxes(all);
  Tensor scores;
  const losses::LossTermPtr term = input.criterion.find(matching);
  if (auto* scorer = dynamic_cast<losses::PairScorer*>(term.get())) scores = scorer->pair_logits(pass->matched()).softmax(1).select(1, 1).cpu().to(at::kDouble);
  // The predicted box as a region, to say how well text and region fit.
  batch.boxes = boxes;
  batch.is_region = at::ones_like(batch.is_region);
  const auto regions = input.model.begin(batch);
  const Tensor cosine = (regions->regions().features * regions->text().features).sum(1).cpu().to(at::kDouble);
  const Tensor host = boxes.cpu().to(at::kDouble).contiguous();
  std::vector<Grounding> results;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const double* box = host.const_data_ptr<double>() + i * 4;
    const double width = static_cast<double>(image.width), height = static_cast<double>(image.height);
    Grounding result{texts[i], {}, std::numeric_limits<double>::quiet_NaN(), cosine[static_cast<std::int64_t>(i)].item<double>(), false};
    result.box = {std::clamp((box[0] - box[2] / 2) * width, 0.0, width), std::clamp((box[1] - box[3] / 2) * height, 0.0, height),
                  std::clamp((box[0] + box[2] / 2) * width, 0.0, width), std::clamp((box[1] + box[3] / 2) * height, 0.0, height)};
    if (scores.defined()) result.match_score = scores[static_cast<std::int64_t>(i)].item<double>();
    const Tensor ids = batch.text_ids[static_cast<std::int64_t>(i)];
    result.has_unknown_words = (ids == pipeline.tokenizer().unknown_id()).any().item<bool>();
    results.push_back(std::move(result));
  }
  return results;
}

data::Image draw_boxes(const data::Image& image, const std::vector<DrawnBox>& boxes, std::int64_t min_side) {
  const std::int64_t shorter = std::max<std::int64_t>(1, std::min(image.width, image.height));
  const std::int64_t factor = std::max<std::int64_t>(1, (min_side + shorter - 1) / shorter);
  const cv::Mat source(static_cast<int>(image.height), static_cast<int>(image.width), CV_8UC3, const_cast<std::uint8_t*>(image.pixels.data()));
  cv::Mat canvas;
  cv::resize(source, canvas, {}, static_cast<double>(factor), static_cast<double>(factor), cv::INTER_NEAREST);
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

}  // namespace fgvl::eval
