#include "fgvl/data/sample.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <span>

#include <absl/strings/str_cat.h>
#include <torch/torch.h>

#include "data/view.hpp"

namespace fgvl::data {
namespace {

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

/// A text of a record.
struct Source {
  const std::string& text;
  std::vector<PlacedPhrase> phrases{};      ///< whose positions are written out
  std::vector<std::string> given_foils{};   ///< the record's own; empty: none
  const Region* region = nullptr;           ///< whose text it is; null: a caption
};

/// Draws the foils of a record's texts, from random numbers of their own: a record's other draws do not depend on its foils.
class FoilSource {
 public:
  FoilSource(const Record& record, const SampleOptions& options, const TextPipeline& texts, const View& view, const GeneratorKey& key, const FoilRules* rules)
      : record_(record), options_(options), texts_(texts), view_(view), purpose_(std::string(key.purpose) + ":foils"),
        generator_({.seed = key.seed, .epoch = key.epoch, .sample = key.sample, .purpose = purpose_}), rules_(rules) {
    TORCH_CHECK(!options.foils || !options.foil_rules.makes_foils() || rules != nullptr, "[make_sample] rules: these options ask for foils that are made; pass what open_foil_rules gives");
  }

  /// Gives `made`, whose text was `prepared`, its foil, if there is one.
  void add_foil(SampleText& made, const std::string& prepared, const Source& source) {
    std::map<FoilKind, std::vector<Foil>> by_kind = candidates(prepared, source);
    while (const std::optional<Foil> foil = draw_foil(by_kind, options_.foil_rules.kinds, generator_)) {
      std::string seen = as_seen(foil->text, view_);
      std::vector<std::int64_t> ids = texts_.encode(seen);
      if (can_be_told(*foil, ids, made.ids)) {
        made.foil = std::move(seen);
        made.foil_kind = foil->kind;
        made.foil_ids = std::move(ids);
        return;
      }
      std::erase_if(by_kind[foil->kind], [&](const Foil& other) { return other.text == foil->text; });
    }
  }

  /// Every foil that add_foil may give a text whose tokens are `ids`, and how many it may not give because of their words.
  void survey(const std::vector<std::int64_t>& ids, const Source& source, TextFoils& text) {
    text.foils = candidates(text.text, source);
    for (auto& [kind, foils] : text.foils) {
      std::erase_if(foils, [&](const Foil& foil) {
        const std::vector<std::int64_t> foil_ids = texts_.encode(as_seen(foil.text, view_));
        if (can_be_told(foil, foil_ids, ids)) return false;
        if (unknown_words(foil_ids) > unknown_words(ids)) ++text.foils_of_unknown_words;
        return true;
      });
    }
    std::erase_if(text.foils, [](const auto& kind) { return kind.second.empty(); });
  }

 private:
  /// Of a text with position tokens only the record's own foils, with the same phrases at the same places, and without those in which they do not stand.
  std::map<FoilKind, std::vector<Foil>> candidates(const std::string& prepared, const Source& source) {
    std::map<FoilKind, std::vector<Foil>> by_kind;
    if (!options_.foils) return by_kind;
    if (rules_ != nullptr && source.phrases.empty()) by_kind = rules_->foils(prepared, truth_of(source.region));
    if (options_.foil_rules.kinds.given <= 0) return by_kind;
    std::set<std::string> known = {prepared};
    for (const std::string& given : source.given_foils) {
      if (given.empty()) continue;
      const std::vector<PlacedPhrase> in_foil = found_again(source.phrases, source.text, given);
      if (in_foil.size() != source.phrases.size()) continue;
      if (const auto foil = texts_.prepare(given, in_foil); foil.ok() && known.insert(*foil).second) by_kind[FoilKind::kGiven].push_back({*foil, FoilKind::kGiven});
    }
    return by_kind;
  }

  /// Texts are cut, and words may be unknown. What the data themselves call a foil is one.
  bool can_be_told(const Foil& foil, const std::vector<std::int64_t>& foil_ids, const std::vector<std::int64_t>& text_ids) const {
    return foil.kind == FoilKind::kGiven || (foil_ids != text_ids && unknown_words(foil_ids) <= unknown_words(text_ids));
  }
  std::int64_t unknown_words(const std::vector<std::int64_t>& ids) const { return std::count(ids.begin(), ids.end(), texts_.tokenizer().unknown_id()); }

  const TrueTexts& truth_of(const Region* region) {
    const std::int64_t index = region == nullptr ? -1 : region - record_.regions.data();
    const auto known = truth_.find(index);
    return known != truth_.end() ? known->second : truth_.emplace(index, true_texts(record_, texts_, index)).first->second;
  }

  const Record& record_;
  const SampleOptions& options_;
  const TextPipeline& texts_;
  const View& view_;
  std::string purpose_;
  Generator generator_;
  const FoilRules* rules_;
  std::map<std::int64_t, TrueTexts> truth_;
};

/// A text as the view shows it, tokenised, with the positions of its phrases written out; `prepared` as it was before the flips.
struct SeenText {
  std::string prepared, text;
  std::vector<std::int64_t> ids;
};
absl::StatusOr<SeenText> seen_text(const Source& source, const TextPipeline& texts, const View& view) {
  SeenText seen;
  // Words are swapped after preparation, which lower-cases: "Left" is as much a direction as "left".
  FGVL_ASSIGN_OR_RETURN(seen.prepared, texts.prepare(source.text, source.phrases));
  seen.text = as_seen(seen.prepared, view);
  seen.ids = texts.encode(seen.text);
  if (seen.ids.size() < 2) return absl::InvalidArgumentError("no token is left of the text");
  return seen;
}

/// Masked, and with a foil.
absl::StatusOr<SampleText> make_text(const Source& source, FoilSource& foils, const TextPipeline& texts, const View& view, Generator& generator) {
  FGVL_ASSIGN_OR_RETURN(SeenText seen, seen_text(source, texts, view));
  SampleText made;
  made.text = std::move(seen.text);
  made.ids = std::move(seen.ids);
  made.masked = texts.mask(made.ids, generator);
  foils.add_foil(made, seen.prepared, source);
  return made;
}

/// Null where there is none. A label costs no random number.
const std::string* chosen_text(const Region& region, const SampleOptions& options, Generator& generator) {
  const std::span<const std::string> texts = region_texts(region, options);
  if (texts.empty()) return nullptr;
  return options.labels_only ? &texts.front() : &generator.choose(region.texts);
}

/// The regions of a record that can be used, with the part of their boxes inside the picture; why others cannot goes to `problems`.
UsableRegions usable_regions(const Record& record, const Image& image, const SampleOptions& options, std::vector<Problem>& problems) {
  UsableRegions regions;
  for (const Region& region : record.regions) {
    const std::span<const std::string> texts = region_texts(region, options);
    const bool has_text = std::any_of(texts.begin(), texts.end(), [](const std::string& text) { return !text.empty(); });
    const absl::StatusOr<PixelBox> box = usable_box(region.box, image.width, image.height);
    if (!has_text || !box.ok()) {
      const std::string cause = has_text ? std::string(box.status().message()) : "no_text";
      problems.push_back({cause, absl::StrCat("box [", region.box[0], ", ", region.box[1], ", ", region.box[2], ", ", region.box[3], "] of a picture of ", image.width, " x ", image.height)});
      continue;
    }
    regions.emplace_back(*box, &region);
  }
  return regions;
}

Problem unreadable(const absl::Status& why) { return {"unreadable_image", std::string(why.message()), true}; }
Problem no_text(const std::string& what, const absl::Status& why) { return {"no_text", absl::StrCat(what, ": ", why.message())}; }

/// Caption `index`.
Source caption_source(const Record& record, std::size_t index, std::vector<PlacedPhrase> phrases) {
  Source source{record.captions[index], std::move(phrases)};
  if (index < record.caption_foils.size() && !record.caption_foils[index].empty()) source.given_foils = {record.caption_foils[index]};
  return source;
}

/// A text of a region, where the view shows it.
Source region_source(const Candidate& candidate, const std::string& text, const SampleOptions& options, std::vector<std::string> given_foils) {
  Source source{text, {}, std::move(given_foils), candidate.region};
  if (options.position_tokens && !text.empty()) source.phrases.push_back({0, text.size(), candidate.corners});
  return source;
}

/// The phrases of caption `index` that the view shows.
std::vector<PlacedPhrase> placed_phrases(const Record& record, std::size_t index, const Image& image, const SampleOptions& options, const View& view) {
  std::vector<PlacedPhrase> placed;
  if (!options.position_tokens || index >= record.caption_phrases.size()) return placed;
  for (const Phrase& phrase : record.caption_phrases[index]) {
    const absl::StatusOr<PixelBox> box = usable_box(phrase.box, image.width, image.height);
    if (!box.ok()) continue;
    if (const auto corners = seen_corners(*box, view, options.min_visible_fraction)) placed.push_back({phrase.begin, phrase.end, *corners});
  }
  return placed;
}

void add_captions(const Record& record, const Image& image, const SampleOptions& options, const TextPipeline& texts, const View& view, FoilSource& foils, Generator& generator, Sample& sample) {
  std::vector<std::size_t> order(record.captions.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  generator.shuffle(order);
  std::int64_t taken = 0;
  for (const std::size_t i : order) {
    if (taken >= options.captions_per_image) break;
    absl::StatusOr<SampleText> text = make_text(caption_source(record, i, placed_phrases(record, i, image, options, view)), foils, texts, view, generator);
    if (!text.ok()) {
      sample.problems.push_back(no_text(absl::StrCat("caption ", i), text.status()));
      continue;
    }
    sample.texts.push_back(std::move(*text));
    ++taken;
  }
}

void add_regions(std::vector<Candidate> candidates, const SampleOptions& options, const TextPipeline& texts, const View& view, FoilSource& foils, Generator& generator, Sample& sample) {
  // How many visible regions carry each text: a text that names two cannot be asked for one box.
  std::map<std::string, std::int64_t> carriers;
  for (const Candidate& candidate : candidates) {
    const std::span<const std::string> all = region_texts(*candidate.region, options);
    std::vector<std::string> own(all.begin(), all.end());
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
    std::vector<std::string> given;
    if (options.foils && !candidate.region->foils.empty()) given = {generator.choose(candidate.region->foils)};
    absl::StatusOr<SampleText> made = make_text(region_source(candidate, *text, options, std::move(given)), foils, texts, view, generator);
    if (!made.ok()) {
      sample.problems.push_back(no_text(absl::StrCat("\"", *text, "\""), made.status()));
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
  visitor("foil_rules", options.foil_rules, "which of them; the default is those that the data carry");
  visitor.check(options.foils || !options.foil_rules.makes_foils(), "foil_rules: foils is false, so that none would be delivered; set foils: true");
  visitor("labels_only", options.labels_only, "a region's label instead of its texts");
  visitor("position_tokens", options.position_tokens, "write boxes as position tokens: a region's behind its text, those of a caption's phrases behind each; needs data.tokenizer.options.position_tokens");
  visitor("augment", options.augment, "random changes of the picture");
}

std::span<const std::string> region_texts(const Region& region, const SampleOptions& options) {
  if (!options.labels_only) return region.texts;
  return {&region.label, region.label.empty() ? std::size_t{0} : 1};
}

absl::StatusOr<FoilRulesPtr> open_foil_rules(const SampleOptions& options, const Dataset& dataset, const TextPipeline& texts, const Implications& implied) {
  if (!options.foils || !options.foil_rules.makes_foils()) return FoilRulesPtr();
  std::vector<std::string> labels;
  if (options.foil_rules.own_labels && options.foil_rules.kinds.noun > 0 && !dataset.has_closed_texts()) {
    for (std::int64_t i = 0; i < dataset.size(); ++i) {
      const absl::StatusOr<Record> record = dataset.get(i);
      if (!record.ok()) continue;  // counted when the loader meets it
      for (const Region& region : record->regions) {
        if (const auto label = texts.prepare(region.label); label.ok()) labels.push_back(*label);
      }
    }
  }
  return FoilRules::make(options.foil_rules, labels, implied);
}

RecordSurvey survey(const Record& record, const SampleOptions& options, const TextPipeline& texts, const FoilRules* rules) {
  RecordSurvey result;
  const absl::StatusOr<Image> image = record_image(record);
  if (!image.ok()) {
    result.problems.push_back(unreadable(image.status()));
    return result;
  }
  const View whole{0, 0, static_cast<double>(image->width), static_cast<double>(image->height)};
  FoilSource foils(record, options, texts, whole, {}, rules);
  const auto add = [&](const Source& source, const std::string& what) {
    absl::StatusOr<SeenText> seen = seen_text(source, texts, whole);
    if (seen.ok()) {
      result.texts.push_back({.text = seen->prepared, .is_region = source.region != nullptr});
      foils.survey(seen->ids, source, result.texts.back());
    } else {
      result.problems.push_back(no_text(what, seen.status()));
    }
  };
  for (std::size_t i = 0; i < record.captions.size() && options.captions_per_image > 0; ++i) add(caption_source(record, i, placed_phrases(record, i, *image, options, whole)), absl::StrCat("caption ", i));
  if (options.max_regions == 0) return result;
  for (const Candidate& candidate : visible(usable_regions(record, *image, options, result.problems), whole, options.min_visible_fraction)) {
    ++result.regions;
    for (const std::string& text : region_texts(*candidate.region, options)) add(region_source(candidate, text, options, candidate.region->foils), absl::StrCat("\"", text, "\""));
  }
  return result;
}

TrueTexts true_texts(const Record& record, const TextPipeline& texts, std::int64_t region) {
  TrueTexts truth;
  const auto add = [&](const std::string& text, bool is_said, std::int64_t of) {
    const auto prepared = texts.prepare(text);
    if (!prepared.ok()) return;
    truth.add_text(*prepared);
    if (is_said) truth.add_said(*prepared, of);
  };
  for (const std::string& caption : record.captions) add(caption, true, -1);
  for (std::size_t i = 0; i < record.regions.size(); ++i) {
    const Region& other = record.regions[i];
    bool overlaps = true;
    if (region >= 0) {
      const PixelBox &a = record.regions[static_cast<std::size_t>(region)].box, &b = other.box;
      overlaps = std::min(a[2], b[2]) > std::max(a[0], b[0]) && std::min(a[3], b[3]) > std::max(a[1], b[1]);
    }
    const bool is_said = overlaps || static_cast<std::int64_t>(i) == region;
    for (const std::string& text : other.texts) add(text, is_said, static_cast<std::int64_t>(i));
    if (!other.label.empty()) add(other.label, is_said, static_cast<std::int64_t>(i));
  }
  return truth;
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

Sample make_sample(const Record& record, const SampleOptions& options, const ImageOptions& image_options, const TextPipeline& texts, const GeneratorKey& key, const FoilRules* rules) {
  Sample sample;
  const absl::StatusOr<Image> image = record_image(record);
  if (!image.ok()) {
    sample.problems.push_back(unreadable(image.status()));
    return sample;
  }
  UsableRegions regions;
  if (options.max_regions > 0) {
    sample.regions_seen = static_cast<std::int64_t>(record.regions.size());
    regions = usable_regions(record, *image, options, sample.problems);
  }
  Generator generator({.seed = key.seed, .epoch = key.epoch, .sample = key.sample, .purpose = key.purpose});
  View view = choose_view(*image, regions, options.augment, generator);
  std::vector<Candidate> candidates = visible(regions, view, options.min_visible_fraction);
  if (candidates.empty() && !regions.empty() && (options.captions_per_image == 0 || record.captions.empty())) {
    // A window that happens to miss every region is no fault of the record: this visit sees the whole picture.
    view = {0, 0, static_cast<double>(image->width), static_cast<double>(image->height), view.flipped_horizontally, view.flipped_vertically};
    candidates = visible(regions, view, options.min_visible_fraction);
  }
  FoilSource foils(record, options, texts, view, key, rules);
  add_captions(record, *image, options, texts, view, foils, generator, sample);
  add_regions(std::move(candidates), options, texts, view, foils, generator, sample);
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

}  // namespace fgvl::data
