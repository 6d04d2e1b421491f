#include "fgvl/eval/query.hpp"

#include <torch/torch.h>

#include "fgvl/data/sample.hpp"

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
    FGVL_ASSIGN_OR_RETURN(text.text, pipeline.prepare(query.text, query.phrases));
    text.ids = pipeline.encode(text.text);
    text.masked.ids = text.ids;
    text.box = query.box;
    text.is_region = query.is_region;
    samples[static_cast<std::size_t>(query.image)].texts.push_back(std::move(text));
    of_image[static_cast<std::size_t>(query.image)].push_back(static_cast<std::int64_t>(row));
  }
  for (const auto& rows : of_image) order.insert(order.end(), rows.begin(), rows.end());
  RegionBatch batch = data::collate(samples, std::vector<std::int64_t>(samples.size(), 0), pipeline.tokenizer().pad_id());
  // Back to the caller's order of texts.
  const Tensor back = torch::tensor(order, torch::kLong).argsort();
  for (Tensor RegionBatch::*field : {&RegionBatch::text_to_image, &RegionBatch::is_region, &RegionBatch::boxes, &RegionBatch::is_unambiguous, &RegionBatch::text_ids, &RegionBatch::text_mask,
                                     &RegionBatch::masked_ids, &RegionBatch::masked_positions, &RegionBatch::masked_labels, &RegionBatch::text_key, &RegionBatch::text_stream}) {
    batch.*field = (batch.*field).index_select(0, back);
  }
  return batch;
}

}  // namespace fgvl::eval
