#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "fgvl/core/batch.hpp"
#include "fgvl/core/config_visitor.hpp"
#include "fgvl/core/random.hpp"
#include "fgvl/data/dataset.hpp"
#include "fgvl/data/foils.hpp"
#include "fgvl/data/image.hpp"
#include "fgvl/data/record.hpp"
#include "fgvl/data/text_pipeline.hpp"

namespace fgvl::data {

/// What the model sees of a picture.
struct ImageOptions {
  std::int64_t size = 224;  ///< pixels a side; the aspect ratio is not kept, as in X-VLM
  Interpolation interpolation = Interpolation::kBicubic;
  std::vector<double> mean = {0.48145466, 0.4578275, 0.40821073};  ///< CLIP's, as X-VLM
  std::vector<double> std = {0.26862954, 0.26130258, 0.27577711};
};
void visit_fields(config::Visitor& visitor, ImageOptions& options);

/// Random changes of a training picture. All zero: none.
struct AugmentOptions {
  double min_crop_side = 1.0;        ///< each side of a random window, as a share of the picture's, uniform in [this, 1], drawn on its own (shapes vary too); 1: no crop
  bool keep_region = false;          ///< the window always holds one region, drawn at random (X-VLM's region crop)
  double horizontal_flip = 0.0;      ///< probability; "left" and "right" are swapped in all texts, as whole words
  double vertical_flip = 0.0;        ///< probability; "above" and "below" are swapped likewise
  double brightness = 0.0;           ///< added to every channel, uniform in [-this, this], pixels in [0, 1]
  double contrast = 0.0;             ///< factor around 0.5, uniform in [1 - this, 1 + this]
  double saturation = 0.0;           ///< factor around the pixel's grey, uniform in [1 - this, 1 + this]
};
void visit_fields(config::Visitor& visitor, AugmentOptions& options);

/// How a record becomes a sample.
struct SampleOptions {
  std::int64_t captions_per_image = 1;    ///< captions drawn a visit; 0: none
  std::int64_t max_regions = 5;           ///< regions drawn a visit, in random order; 0: none
  std::int64_t max_regions_per_text = 0;  ///< at most this many drawn regions share one text; 0: no limit
  double min_visible_fraction = 0.5;      ///< a region counts when more than this part of its area is inside the window (X-VLM's min_perc_in_image, strict)
  bool foils = false;                     ///< deliver a foil of each drawn text that has one
  FoilOptions foil_rules{};               ///< which foils; the defaults deliver those that records carry
  bool labels_only = false;               ///< a region's label instead of its texts
  bool position_tokens = false;           ///< write its box behind a region's text, and their boxes behind a caption's phrases, as PEVL does; the vocabulary must have position tokens
  AugmentOptions augment{};
};
void visit_fields(config::Visitor& visitor, SampleOptions& options);

/// The texts of a region, of which a visit draws one: its own, or with `labels_only` its label, where it has one. They live as long as the region.
std::span<const std::string> region_texts(const Region& region, const SampleOptions& options);

/// One text of a sample, tokenised and masked.
struct SampleText {
  std::string text{};                              ///< prepared
  std::array<float, 4> box{0.5f, 0.5f, 1.f, 1.f};  ///< (cx, cy, w, h) in units of the image side, as the model sees it
  bool is_region = false;
  bool is_unambiguous = true;
  std::vector<std::int64_t> ids{};
  MaskedText masked{};
  std::string foil{};                              ///< prepared; empty: none
  FoilKind foil_kind = FoilKind::kGiven;
  std::vector<std::int64_t> foil_ids{};            ///< empty: none
};

/// Something left out of a record, and why.
struct Problem {
  std::string cause;   ///< unreadable_image, unreadable_record, no_region_left, box_outside, box_without_area, no_text
  std::string detail;
  bool whole_record = false;
};

/// A record decoded, cropped, flipped, resized, its texts tokenised and masked.
struct Sample {
  Tensor image{};  ///< [3, H, W] float32, channel-normalised; undefined when the record could not be used
  std::vector<SampleText> texts{};
  std::int64_t regions_seen = 0;
  std::vector<Problem> problems{};
};

/// Randomness is a pure function of `key`. `rules` (open_foil_rules) make the foils; they may be null where `options` ask for none that are made.
/// A foil is delivered only if the model can tell it from its text: its tokens differ, and it has no unknown token that the text has not.
Sample make_sample(const Record& record, const SampleOptions& options, const ImageOptions& image, const TextPipeline& texts, const GeneratorKey& key, const FoilRules* rules = nullptr);

/// The rules that `options` ask for, with the labels of `dataset` (which are read from all its records; generated datasets give none) and what they imply (data/labels.hpp); null where no foil is to be made.
/// InvalidArgument for a lexicon with mistakes.
absl::StatusOr<FoilRulesPtr> open_foil_rules(const SampleOptions& options, const Dataset& dataset, const TextPipeline& texts, const Implications& implied = {});

/// A text, with every foil of it that a visit can deliver.
struct TextFoils {
  std::string text{};  ///< prepared, with its position tokens
  bool is_region = false;
  std::map<FoilKind, std::vector<Foil>> foils{};  ///< of the kinds that are drawn; empty: none, or none asked for
  std::int64_t foils_of_unknown_words = 0;         ///< further ones, which are not delivered because the vocabulary lacks a word of theirs
};

/// All that visits can draw from a record, seen whole and unflipped.
struct RecordSurvey {
  std::vector<TextFoils> texts{};  ///< captions, then the texts of regions
  std::int64_t regions = 0;        ///< that can be used
  std::vector<Problem> problems{};
};
/// `rules`: as make_sample. A problem concerns the whole record where its picture cannot be read.
RecordSurvey survey(const Record& record, const SampleOptions& options, const TextPipeline& texts, const FoilRules* rules = nullptr);

/// What a record says of itself, prepared. `region`, an index: what is said of that region is what it says itself, what regions that overlap it say, and the captions; -1: everything.
TrueTexts true_texts(const Record& record, const TextPipeline& texts, std::int64_t region = -1);

/// The picture of a record, decoded.
absl::StatusOr<Image> record_image(const Record& record);
/// Resized and normalised, without augmentation: [3, size, size] float32.
Tensor model_input(const Image& image, const ImageOptions& options);

/// A region's box cut to the picture, or why it cannot be used ("box_outside" when less than half of it is inside, "box_without_area").
absl::StatusOr<PixelBox> usable_box(const PixelBox& box, std::int64_t width, std::int64_t height);

/// Joins samples into a batch, trimmed to the longest text; `streams[i]` is the stream of sample i. `pad_id`, the tokenizer's, fills the end of shorter texts.
RegionBatch collate(const std::vector<Sample>& samples, const std::vector<std::int64_t>& streams, std::int64_t pad_id);

/// 63 bits of the text's hash: RegionBatch::text_key.
std::int64_t text_key(const std::string& prepared);

}  // namespace fgvl::data
