#include "fgvl/data/sample.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include <absl/strings/str_cat.h>
#include <torch/torch.h>
#include <xxhash.h>

namespace fgvl::data {
namespace {

/// What happened to a picture on its way to the model, so that boxes and texts can follow.
struct View {
  double x = 0, y = 0, width = 0, height = 0;  ///< window in pixels of the original
  bool flipped_horizontally = false, flipped_vertically = false;
};

struct Candidate {
  std::array<float, 4> box;
  const Region* region;
};

/// Swaps two words wherever they stand alone: "bright" keeps its "right".
std::string with_swapped(const std::string& text, const std::string& a, const std::string& b) {
  std::string swapped;
  for (std::size_t i = 0; i < text.size();) {
    const auto letter = [](char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0; };
    std::size_t end = i;
    while (end < text.size() && letter(text[end])) ++end;
    if (end == i) {
      swapped += text[i++];
      continue;
    }
    const std::string word = text.substr(i, end - i);
    swapped += word == a ? b : word == b ? a : word;
    i = end;
  }
  return swapped;
}

std::string as_seen(std::string text, const View& view) {
  if (view.flipped_horizontally) text = with_swapped(text, "left", "right");
  if (view.flipped_vertically) text = with_swapped(text, "above", "below");
  return text;
}

View choose_view(const Image& image, const std::vector<std::pair<PixelBox, const Region*>>& regions, const AugmentOptions& augment, Generator& generator) {
  View view{0, 0, static_cast<double>(image.width), static_cast<double>(image.height), false, false};
  if (augment.keep_region && !regions.empty()) {
    const PixelBox& box = generator.choose(regions).first;
    const std::int64_t x1 = generator.uniform_int(0, static_cast<std::int64_t>(box[0])), y1 = generator.uniform_int(0, static_cast<std::int64_t>(box[1]));
    const std::int64_t x2 = generator.uniform_int(static_cast<std::int64_t>(std::ceil(box[2])), image.width), y2 = generator.uniform_int(static_cast<std::int64_t>(std::ceil(box[3])), image.height);
    view = {static_cast<double>(x1), static_cast<double>(y1), static_cast<double>(x2 - x1), static_cast<double>(y2 - y1), false, false};
  } else if (augment.min_crop_side < 1.0) {
    const auto side = [&](std::int64_t whole) { return std::max<std::int64_t>(1, std::llround(generator.uniform(augment.min_crop_side, 1.0) * static_cast<double>(whole))); };
    const std::int64_t width = side(image.width), height = side(image.height);
    view.x = static_cast<double>(generator.uniform_int(0, image.width - width));
    view.y = static_cast<double>(generator.uniform_int(0, image.height - height));
    view.width = static_cast<double>(width);
    view.height = static_cast<double>(height);
  }
  view.flipped_horizontally = augment.horizontal_flip > 0 && generator.bernoulli(augment.horizontal_flip);
  view.flipped_vertically = augment.vertical_flip > 0 && generator.bernoulli(augment.vertical_flip);
  return view;
}

/// The part of a box that the view shows, (cx, cy, w, h) in units of the view, and how much of its area that is.
std::pair<std::array<float, 4>, double> seen_box(const PixelBox& box, const View& view) {
  double x1 = std::max(box[0], view.x), y1 = std::max(box[1], view.y), x2 = std::min(box[2], view.x + view.width), y2 = std::min(box[3], view.y + view.height);
  const double area = (box[2] - box[0]) * (box[3] - box[1]), shown = std::max(0.0, x2 - x1) * std::max(0.0, y2 - y1);
  x1 = (x1 - view.x) / view.width;
  x2 = (x2 - view.x) / view.width;
  y1 = (y1 - view.y) / view.height;
  y2 = (y2 - view.y) / view.height;
  if (view.flipped_horizontally) std::tie(x1, x2) = std::pair(1 - x2, 1 - x1);
  if (view.flipped_vertically) std::tie(y1, y2) = std::pair(1 - y2, 1 - y1);
  return {{static_cast<float>((x1 + x2) / 2), static_cast<float>((y1 + y2) / 2), static_cast<float>(x2 - x1), static_cast<float>(y2 - y1)}, area > 0 ? shown / area : 0};
}

std::vector<Candidate> visible(const std::vector<std::pair<PixelBox, const Region*>>& regions, const View& view, double min_fraction) {
  std::vector<Candidate> candidates;
  for (const auto& [box, region] : regions) {
    const auto [seen, fraction] = seen_box(box, view);
    if (fraction > min_fraction) candidates.push_back({seen, region});
  }
  return candidates;
}

void jitter_colours(Tensor& image, const AugmentOptions& augment, const ImageOptions& options, Generator& generator) {
  if (augment.brightness <= 0 && augment.contrast <= 0 && augment.saturation <= 0) return;
  const double added = augment.brightness > 0 ? generator.uniform(-augment.brightness, augment.brightness) : 0;
  const double contrast = augment.contrast > 0 ? generator.uniform(1 - augment.contrast, 1 + augment.contrast) : 1;
  const double saturation = augment.saturation > 0 ? generator.uniform(1 - augment.saturation, 1 + augment.saturation) : 1;
  float* data = image.mutable_data_ptr<float>();
  const std::int64_t count = image.size(1) * image.size(2);
  for (std::int64_t i = 0; i < count; ++i) {
    double pixel[3], grey = 0;
    for (std::int64_t c = 0; c < 3; ++c) {
      pixel[c] = data[c * count + i] * options.std[static_cast<std::size_t>(c)] + options.mean[static_cast<std::size_t>(c)];
      grey += pixel[c] / 3;
    }
    for (std::int64_t c = 0; c < 3; ++c) {
      const double value = ((grey + (pixel[c] - grey) * saturation) - 0.5) * contrast + 0.5 + added;
      data[c * count + i] = static_cast<float>((std::clamp(value, 0.0, 1.0) - options.mean[static_cast<std::size_t>(c)]) / options.std[static_cast<std::size_t>(c)]);
    }
  }
}

/// Tokenised and masked; an empty foil text means none.
absl::StatusOr<SampleText> make_text(const std::string& text, const std::string& foil, const TextPipeline& texts, const View& view, Generator& generator) {
  SampleText made;
  FGVL_ASSIGN_OR_RETURN(made.text, texts.prepare(as_seen(text, view)));
  made.ids = texts.encode(made.text);
  if (made.ids.size() < 2) return absl::InvalidArgumentError("no token is left of the text");
  made.masked = texts.mask(made.ids, generator);
  if (!foil.empty()) {
    if (const auto prepared = texts.prepare(as_seen(foil, view)); prepared.ok() && *prepared != made.text) made.foil_ids = texts.encode(*prepared);
  }
  return made;
}

const std::string* chosen_text(const Region& region, const SampleOptions& options, Generator& generator) {
  if (options.labels_only) return region.label.empty() ? nullptr : &region.label;
  return region.texts.empty() ? nullptr : &generator.choose(region.texts);
}

void add_captions(const Record& record, const SampleOptions& options, const TextPipeline& texts, const View& view, Generator& generator, Sample& sample) {
  std::vector<std::size_t> order(record.captions.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  generator.shuffle(order);
  std::int64_t taken = 0;
  for (const std::size_t i : order) {
    if (taken >= options.captions_per_image) break;
    const bool has_foil = options.foils && i < record.caption_foils.size();
    absl::StatusOr<SampleText> text = make_text(record.captions[i], has_foil ? record.caption_foils[i] : "", texts, view, generator);
    if (!text.ok()) {
      sample.problems.push_back({"no_text", absl::StrCat("caption ", i, ": ", text.status().message())});
      continue;
    }
    sample.texts.push_back(std::move(*text));
    ++taken;
  }
}

void add_regions(std::vector<Candidate> candidates, const SampleOptions& options, const TextPipeline& texts, const View& view, Generator& generator, Sample& sample) {
  // How many visible regions carry each text: a text that names two cannot be asked for one box.
  std::map<std::string, std::int64_t> carriers;
  for (const Candidate& candidate : candidates) {
    std::vector<std::string> own = options.labels_only ? std::vector<std::string>{candidate.region->label} : candidate.region->texts;
    std::sort(own.begin(), own.end());
    own.erase(std::unique(own.begin(), own.end()), own.end());
    for (const std::string& text : own) ++carriers[text];
  }
  generator.shuffle(candidates);
  std::map<std::string, std::int64_t> drawn;
  std::int64_t taken = 0;
  for (const Candidate& candidate : candidates) {
    if (taken >= options.max_regions) break;
    const std::string* text = chosen_text(*candidate.region, options, generator);
    if (text == nullptr) continue;
    if (options.max_regions_per_text > 0 && drawn[*text] >= options.max_regions_per_text) continue;
    const std::string foil = options.foils && !candidate.region->foils.empty() ? generator.choose(candidate.region->foils) : "";
    absl::StatusOr<SampleText> made = make_text(*text, foil, texts, view, generator);
    if (!made.ok()) {
      sample.problems.push_back({"no_text", absl::StrCat("\"", *text, "\": ", made.status().message())});
      continue;
    }
    made->box = candidate.box;
    made->is_region = true;
    made->is_unambiguous = carriers[*text] == 1;
    sample.texts.push_back(std::move(*made));
    ++drawn[*text];
    ++taken;
  }
}

}  // namespace

void visit_fields(config::Visitor& visitor, ImageOptions& options) {
  visitor("size", options.size, "pixels a side", {8, 4096});
  visitor("interpolation", options.interpolation, "when resizing");
  visitor("mean", options.mean, "of the channels, pixels in [0, 1]");
  visitor("std", options.std, "of the channels", config::kPositive);
  visitor.check(options.mean.size() == 3 && options.std.size() == 3, "mean, std: expected three numbers each");
}

void visit_fields(config::Visitor& visitor, AugmentOptions& options) {
  visitor("min_crop_side", options.min_crop_side, "each side of a random window, drawn on its own, as a share of the picture's; 1: no crop", {0.01, 1.0});
  visitor("keep_region", options.keep_region, "the window always holds one region (X-VLM's region crop)");
  visitor("horizontal_flip", options.horizontal_flip, "probability; swaps left and right in texts", config::kFraction);
  visitor("vertical_flip", options.vertical_flip, "probability; swaps above and below in texts", config::kFraction);
  visitor("brightness", options.brightness, "largest shift, pixels in [0, 1]", config::kFraction);
  visitor("contrast", options.contrast, "largest change of the factor", config::kFraction);
  visitor("saturation", options.saturation, "largest change of the factor", config::kFraction);
}

void visit_fields(config::Visitor& visitor, SampleOptions& options) {
  visitor("captions_per_image", options.captions_per_image, "captions drawn a visit", {0, 64});
  visitor("max_regions", options.max_regions, "regions drawn a visit", {0, 1024});
  visitor("max_regions_per_text", options.max_regions_per_text, "drawn regions that share one text; 0: no limit", {0, 1024});
  visitor("min_visible_fraction", options.min_visible_fraction, "a region counts when more of its area is inside the window", config::kFraction);
  visitor("foils", options.foils, "deliver texts made false by rule, for foil_matching");
  visitor("labels_only", options.labels_only, "a region's label instead of its texts");
  visitor("augment", options.augment, "random changes of the picture");
}

absl::StatusOr<Image> record_image(const Record& record) {
  if (record.image.defined()) return from_tensor(record.image);
  if (!record.image_bytes.empty()) return decode_image(record.image_bytes, record.place);
  return read_image(record.image_path);
}

Tensor model_input(const Image& image, const ImageOptions& options) {
  const Image small = resize(image, options.size, options.size, options.interpolation);
  const Tensor tensor = at::empty({3, options.size, options.size}, at::kFloat);
  float* out = tensor.mutable_data_ptr<float>();
  const std::int64_t count = options.size * options.size;
  for (std::int64_t c = 0; c < 3; ++c) {
    const auto scale = static_cast<float>(1.0 / (255.0 * options.std[static_cast<std::size_t>(c)])), shift = static_cast<float>(options.mean[static_cast<std::size_t>(c)] / options.std[static_cast<std::size_t>(c)]);
    for (std::int64_t i = 0; i < count; ++i) out[c * count + i] = static_cast<float>(small.pixels[static_cast<std::size_t>(i * 3 + c)]) * scale - shift;
  }
  return tensor;
}

absl::StatusOr<PixelBox> usable_box(const PixelBox& box, std::int64_t width, std::int64_t height) {
  const double area = (box[2] - box[0]) * (box[3] - box[1]);
  if (!(box[2] > box[0]) || !(box[3] > box[1]) || !std::isfinite(area)) return absl::InvalidArgumentError("box_without_area");
  const PixelBox cut = {std::max(box[0], 0.0), std::max(box[1], 0.0), std::min(box[2], static_cast<double>(width)), std::min(box[3], static_cast<double>(height))};
  if (cut[2] <= cut[0] || cut[3] <= cut[1] || (cut[2] - cut[0]) * (cut[3] - cut[1]) < 0.5 * area) return absl::OutOfRangeError("box_outside");
  return cut;
}

Sample make_sample(const Record& record, const SampleOptions& options, const ImageOptions& image_options, const TextPipeline& texts, const GeneratorKey& key) {
  Sample sample;
  const absl::StatusOr<Image> image = record_image(record);
  if (!image.ok()) {
    sample.problems.push_back({"unreadable_image", std::string(image.status().message()), true});
    return sample;
  }
  std::vector<std::pair<PixelBox, const Region*>> regions;
  if (options.max_regions > 0) {
    for (const Region& region : record.regions) {
      ++sample.regions_seen;
      const bool has_text = options.labels_only ? !region.label.empty() : std::any_of(region.texts.begin(), region.texts.end(), [](const std::string& text) { return !text.empty(); });
      const absl::StatusOr<PixelBox> box = usable_box(region.box, image->width, image->height);
      if (!has_text || !box.ok()) {
        const std::string cause = has_text ? std::string(box.status().message()) : "no_text";
        sample.problems.push_back({cause, absl::StrCat("box [", region.box[0], ", ", region.box[1], ", ", region.box[2], ", ", region.box[3], "] of a picture of ", image->width, " x ", image->height)});
        continue;
      }
      regions.emplace_back(*box, &region);
    }
  }
  Generator generator({.seed = key.seed, .epoch = key.epoch, .sample = key.sample, .purpose = key.purpose});
  View view = choose_view(*image, regions, options.augment, generator);
  std::vector<Candidate> candidates = visible(regions, view, options.min_visible_fraction);
  if (candidates.empty() && !regions.empty() && (options.captions_per_image == 0 || record.captions.empty())) {
    // A window that happens to miss every region is no fault of the record: this visit sees the whole picture.
    view = {0, 0, static_cast<double>(image->width), static_cast<double>(image->height), view.flipped_horizontally, view.flipped_vertically};
    candidates = visible(regions, view, options.min_visible_fraction);
  }
  add_captions(record, options, texts, view, generator, sample);
  add_regions(std::move(candidates), options, texts, view, generator, sample);
  if (sample.texts.empty()) {
    sample.problems.push_back({"no_region_left", "no caption and no region of it can be used", true});
    return sample;
  }
  const bool whole = view.width == static_cast<double>(image->width) && view.height == static_cast<double>(image->height);
  Image shown = whole ? *image : crop(*image, static_cast<std::int64_t>(view.x), static_cast<std::int64_t>(view.y), static_cast<std::int64_t>(view.width), static_cast<std::int64_t>(view.height));
  shown = resize(shown, image_options.size, image_options.size, image_options.interpolation);
  if (view.flipped_horizontally) shown = flip_horizontally(shown);
  if (view.flipped_vertically) shown = flip_vertically(shown);
  sample.image = model_input(shown, image_options);
  jitter_colours(sample.image, options.augment, image_options, generator);
  return sample;
}

std::int64_t text_key(const std::string& prepared) { return static_cast<std::int64_t>(XXH64(prepared.data(), prepared.size(), 0) >> 1); }

RegionBatch collate(const std::vector<Sample>& samples, const std::vector<std::int64_t>& streams) {
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
  batch.text_ids = at::zeros({texts, tokens}, at::kLong);
  batch.text_mask = at::zeros({texts, tokens}, at::kBool);
  batch.masked_ids = at::zeros({texts, tokens}, at::kLong);
  batch.masked_positions = at::zeros({texts, masks}, at::kLong);
  batch.masked_labels = at::full({texts, masks}, -100, at::kLong);
  batch.text_key = at::empty({texts}, at::kLong);
  batch.text_stream = at::empty({texts}, at::kLong);
  batch.foil_ids = at::zeros({foils, foil_tokens}, at::kLong);
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
