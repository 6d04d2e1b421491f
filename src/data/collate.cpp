#include <algorithm>

#include <torch/torch.h>
#include <xxhash.h>

#include "fgvl/data/sample.hpp"

namespace fgvl::data {

std::int64_t text_key(const std::string& prepared) { return static_cast<std::int64_t>(XXH64(prepared.data(), prepared.size(), 0) >> 1); }

RegionBatch collate(const std::vector<Sample>& samples, const std::vector<std::int64_t>& streams, std::int64_t pad_id) {
  TORCH_CHECK(!samples.empty() && samples.size() == streams.size(), "[collate] expected as many streams as samples, at least one, got ", streams.size(), " and ", samples.size());
  std::int64_t texts = 0, tokens = 1, masks = 1, foils = 0, foil_tokens = 1;
  for (const Sample& sample : samples) {
    for (const SampleText& text : sample.texts) {
      ++texts;
      tokens = std::max(tokens, static_cast<std::int64_t>(text.ids.size()));
      masks = std::max(masks, static_cast<std::int64_t>(text.masked.positions.size()));
      if (!text.foil_ids.empty()) {
        ++foils;
        foil_tokens = std::max(foil_tokens, static_cast<std::int64_t>(text.foil_ids.size()));
      }
    }
  }
  RegionBatch batch;
  std::vector<Tensor> images;
  batch.text_to_image = at::empty({texts}, at::kLong);
  batch.is_region = at::empty({texts}, at::kBool);
  batch.is_unambiguous = at::empty({texts}, at::kBool);
  batch.boxes = at::empty({texts, 4}, at::kFloat);
  batch.text_ids = at::full({texts, tokens}, pad_id, at::kLong);
  batch.text_mask = at::zeros({texts, tokens}, at::kBool);
  batch.masked_ids = at::full({texts, tokens}, pad_id, at::kLong);
  batch.masked_positions = at::zeros({texts, masks}, at::kLong);
  batch.masked_labels = at::full({texts, masks}, -100, at::kLong);
  batch.text_key = at::empty({texts}, at::kLong);
  batch.text_stream = at::empty({texts}, at::kLong);
  batch.foil_ids = at::full({foils, foil_tokens}, pad_id, at::kLong);
  batch.foil_mask = at::zeros({foils, foil_tokens}, at::kBool);
  batch.foil_to_text = at::empty({foils}, at::kLong);
  const auto longs = [](const Tensor& tensor) { return tensor.mutable_data_ptr<std::int64_t>(); };
  const auto bools = [](const Tensor& tensor) { return tensor.mutable_data_ptr<bool>(); };
  std::int64_t row = 0, foil = 0;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    images.push_back(samples[i].image);
    for (const SampleText& text : samples[i].texts) {
      longs(batch.text_to_image)[row] = static_cast<std::int64_t>(i);
      bools(batch.is_region)[row] = text.is_region;
      bools(batch.is_unambiguous)[row] = text.is_unambiguous;
      std::copy(text.box.begin(), text.box.end(), batch.boxes.mutable_data_ptr<float>() + row * 4);
      std::copy(text.ids.begin(), text.ids.end(), longs(batch.text_ids) + row * tokens);
      std::fill_n(bools(batch.text_mask) + row * tokens, text.ids.size(), true);
      std::copy(text.masked.ids.begin(), text.masked.ids.end(), longs(batch.masked_ids) + row * tokens);
      std::copy(text.masked.positions.begin(), text.masked.positions.end(), longs(batch.masked_positions) + row * masks);
      std::copy(text.masked.labels.begin(), text.masked.labels.end(), longs(batch.masked_labels) + row * masks);
      longs(batch.text_key)[row] = text_key(text.text);
      longs(batch.text_stream)[row] = streams[i];
      if (!text.foil_ids.empty()) {
        std::copy(text.foil_ids.begin(), text.foil_ids.end(), longs(batch.foil_ids) + foil * foil_tokens);
        std::fill_n(bools(batch.foil_mask) + foil * foil_tokens, text.foil_ids.size(), true);
        longs(batch.foil_to_text)[foil++] = row;
      }
      ++row;
    }
  }
  batch.images = at::stack(images);
  return batch;
}

}  // namespace fgvl::data
