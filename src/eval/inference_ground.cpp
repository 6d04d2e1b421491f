#include "fgvl/eval/inference.hpp"

#include <algorithm>
#include <cmath>

#include <torch/torch.h>

#include "eval/asked_places.hpp"
#include "eval/pair_batch.hpp"
#include "fgvl/core/boxes.hpp"
#include "fgvl/data/sample.hpp"
#include "fgvl/losses/matching.hpp"
#include "train/inference_scope.hpp"

namespace fgvl::eval {
namespace {

/// [T, V]: the mean over heads, and over the text's tokens where there are several rows of them, of weights [T, heads, L, V]; `mask` [T, L] bool says which tokens are real.
Tensor mean_weights(const Tensor& weights, const Tensor& mask) {
  const Tensor of_tokens = weights.mean(1);
  if (of_tokens.size(1) == 1) return of_tokens.select(1, 0);
  const Tensor real = mask.to(of_tokens.scalar_type());
  return at::bmm((real / real.sum(1, true)).unsqueeze(1), of_tokens).squeeze(1);
}

AttentionMap as_map(const Tensor& weights) {
  const std::int64_t patches = weights.size(0) - 1;
  const auto grid = static_cast<std::int64_t>(std::lround(std::sqrt(static_cast<double>(patches))));
  TORCH_INTERNAL_ASSERT(grid * grid == patches);
  return {weights.slice(0, 1).reshape({grid, grid}).contiguous(), weights[0].item<double>()};
}

/// What is computed of T pairs, on the CPU; undefined: not asked for or not there.
struct PairResults {
  Tensor boxes{};       ///< [T, 4] float64 cxcywh
  Tensor itm{};         ///< [T] float64
  Tensor region_itc{};  ///< [T] float64
  Tensor maps{};        ///< [T, 1 + P] float32
};

}  // namespace

absl::StatusOr<EncodedTexts> Inference::encode_texts_to_ground(const std::vector<std::string>& texts) const {
  FGVL_ASSIGN_OR_RETURN(EncodedTexts encoded, encode_texts(texts));
  if (has_position_tokens()) {
    FGVL_ASSIGN_OR_RETURN(encoded.places, ask_places(texts, pipeline_, model_.model.spec().first_position_id, model_.device));
  }
  return encoded;
}

std::vector<std::vector<Grounding>> Inference::ground(const std::vector<data::Image>& images, const EncodedTexts& texts, const GroundOptions& options) const {
  TORCH_CHECK(has_fusion(), "[Inference::ground] this model has no fusion encoder, from which boxes are predicted");
  TORCH_CHECK(has_box_head() || has_position_tokens(), "[Inference::ground] this model has no box head, nor position tokens and a masked_language term that predicts them");
  TORCH_CHECK(!has_position_tokens() || texts.places.ids.defined() || texts.size() == 0, "[Inference::ground] texts: this model reads boxes from position tokens, for which encode_texts_to_ground() makes room");
  const train::InferenceScope scope(model_.model, model_.criterion);
  std::vector<Tensor> pixels;
  for (const data::Image& image : images) pixels.push_back(data::model_input(image, image_));
  std::size_t next = 0;
  const ImageFeatures encoded = encode(static_cast<std::int64_t>(pixels.size()), [&] { return next < pixels.size() ? pixels[next++] : Tensor(); }).features;

  /// Texts [first, last) on pictures [begin, end), picture by picture.
  const auto compute = [&](std::int64_t begin, std::int64_t end, std::int64_t first, std::int64_t last) {
    const auto whole = at::TensorOptions(model_.device).dtype(at::kLong);
    const Tensor text_to_image = at::arange(end - begin, whole).repeat_interleave(last - first);
    const Tensor text_of_pair = at::arange(first, last, whole).repeat({end - begin});
    const TextRows rows = text_rows(texts, text_of_pair, text_to_image);
    const ImageFeatures given{encoded.embeds.slice(0, begin, end), encoded.features.slice(0, begin, end)};
    const auto pass = model_.model.begin(rows.batch, {.given = {given, rows.given}});
    const Tensor all = at::arange(text_to_image.size(0), whole);
    const Tensor boxes = has_box_head() ? pass->predicted_boxes(all) : boxes_of_places(model_.model, *words_, given, texts.places, text_of_pair, text_to_image);
    PairResults results{boxes.to(at::kCPU, at::kDouble).contiguous(), {}, {}, {}};
    if (has_matching()) results.itm = match_probability(scorer_->pair_logits(pass->matched()));
    if (options.map) {
      const Tensor positions = options.map_tokens == MapTokens::kFirst ? at::zeros({all.size(0), 1}, whole) : Tensor();
      const Tensor weights = pass->cross_attention({.text_index = all, .visual = VisualInput::kImage, .visual_index = text_to_image, .positions = positions}, options.map_layer);
      results.maps = mean_weights(weights, rows.batch.text_mask).to(at::kCPU, at::kFloat);
    }
    if (options.region_itc && has_contrast()) {
      RegionBatch regions = rows.batch;
      regions.images = at::stack(at::TensorList(pixels).slice(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin))).to(model_.device);
      regions.boxes = boxes.to(rows.batch.boxes.scalar_type());
      regions.is_region = at::ones_like(regions.is_region);
      const auto second = model_.model.begin(regions);
      results.region_itc = (second->regions().features * rows.given.features).sum(1).to(at::kCPU, at::kDouble);
    }
    return results;
  };

  const std::int64_t count = static_cast<std::int64_t>(images.size()), columns = texts.size();
  std::vector<std::vector<Grounding>> found(images.size(), std::vector<Grounding>(texts.texts.size()));
  const auto keep = [&](const PairResults& results, std::int64_t row, const data::Image& image, std::size_t text, Grounding& one) {
    const Tensor corners = cxcywh_to_xyxy(results.boxes.slice(0, row, row + 1)).contiguous();
    one.text = texts.texts[text];
    one.has_unknown_words = texts.has_unknown_words[text];
    for (std::size_t k = 0; k < 4; ++k) {
      const double side = static_cast<double>(k % 2 == 0 ? image.width : image.height);
      one.box[k] = std::clamp(corners.const_data_ptr<double>()[k] * side, 0.0, side);
    }
    if (results.itm.defined()) one.itm = results.itm[row].item<double>();
    if (results.region_itc.defined()) one.region_itc = results.region_itc[row].item<double>();
    if (results.maps.defined()) one.map = as_map(results.maps[row]);
  };
  // batch_size pairs at once: several pictures with few texts, or one with a part of many.
  const std::int64_t texts_at_once = std::min(columns, options_.batch_size), images_at_once = std::max<std::int64_t>(1, options_.batch_size / std::max<std::int64_t>(1, columns));
  for (std::int64_t begin = 0; begin < count; begin += images_at_once) {
    const std::int64_t end = std::min(count, begin + images_at_once);
    for (std::int64_t first = 0; first < columns; first += texts_at_once) {
      const std::int64_t last = std::min(columns, first + texts_at_once);
      const PairResults results = compute(begin, end, first, last);
      for (std::int64_t row = 0; row < results.boxes.size(0); ++row) {
        const auto picture = static_cast<std::size_t>(begin + row / (last - first)), text = static_cast<std::size_t>(first + row % (last - first));
        keep(results, row, images[picture], text, found[picture][text]);
      }
    }
  }
  return found;
}

}  // namespace fgvl::eval
