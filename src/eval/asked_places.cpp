#include "eval/asked_places.hpp"

#include <absl/strings/str_cat.h>
#include <torch/torch.h>

#include "eval/pair_batch.hpp"
#include "fgvl/core/boxes.hpp"
#include "fgvl/eval/query.hpp"

namespace fgvl::eval {
namespace {

constexpr std::int64_t kCorners = 4;  // x1, y1, x2, y2

}  // namespace

absl::StatusOr<AskedPlaces> ask_places(const std::vector<std::string>& texts, const data::TextPipeline& pipeline, std::int64_t first_position_id, at::Device device) {
  std::vector<QueryText> queries;
  for (const std::string& text : texts) queries.push_back({.text = text, .phrases = {{0, text.size(), {}}}});
  FGVL_ASSIGN_OR_RETURN(const RegionBatch batch, make_query(at::zeros({1, 3, 1, 1}), queries, pipeline));
  const Tensor asked = (batch.text_ids >= first_position_id).logical_and(batch.text_ids < first_position_id + kPositionBins), counts = asked.sum(1).contiguous();
  for (std::size_t row = 0; row < texts.size(); ++row) {
    const std::int64_t count = counts.const_data_ptr<std::int64_t>()[row];
    if (count == kCorners) continue;
    return absl::InvalidArgumentError(absl::StrCat("text \"", texts[row], "\": ",
                                                   count == 0 ? absl::StrCat("leaves no room for the position tokens that say where it is; shorten it, or raise data.tokenizer.max_tokens (", pipeline.options().max_tokens, ")")
                                                              : std::string("has position tokens of its own, which are what this model is asked for; leave them out")));
  }
  return AskedPlaces{batch.text_ids.masked_fill(asked, pipeline.tokenizer().mask_id()).to(device), batch.text_mask.to(device),
                     asked.nonzero().select(1, 1).view({-1, kCorners}).to(device)};
}

Tensor boxes_of_places(models::Model& model, losses::WordPredictor& words, const ImageFeatures& images, const AskedPlaces& places, const Tensor& rows, const Tensor& text_to_image) {
  Tensor mask = places.mask.index_select(0, rows);
  mask = mask.slice(1, 0, mask.sum(1).max().item<std::int64_t>());
  const auto pass = model.begin(whole_image_batch(places.ids.slice(1, 0, mask.size(1)).index_select(0, rows), mask, text_to_image), {.given = {images, {}}});
  const Tensor positions = places.positions.index_select(0, rows);
  const Tensor fused = pass->fuse({.text_index = at::arange(rows.size(0), rows.options()), .visual = VisualInput::kImage, .visual_index = text_to_image, .positions = positions});
  const std::int64_t first = model.spec().first_position_id;
  const Tensor bins = words.word_logits(fused.flatten(0, 1), pass->word_embedding()).slice(1, first, first + kPositionBins).argmax(1).view(positions.sizes());
  const Tensor corners = bins.to(at::kDouble) / static_cast<double>(kPositionBins), first_corner = corners.slice(1, 0, 2), second_corner = corners.slice(1, 2, 4);
  return xyxy_to_cxcywh(at::cat({at::minimum(first_corner, second_corner), at::maximum(first_corner, second_corner)}, 1));
}

}  // namespace fgvl::eval
