#pragma once
#include <functional>

#include "fgvl/core/registry.hpp"
#include "fgvl/data/dataset.hpp"

namespace fgvl::data {

enum class Split { kTrain, kHeldOut, kAll };
config::EnumNames<Split> enum_names(Split);

/// Where a dataset is and which part of it is wanted.
struct DatasetContext {
  std::string root{};
  Split split = Split::kTrain;
};

/// Of a sorted list of `count`, the indices of a split: every `held_out_every`-th, from the first on, is held out; 0: none.
std::vector<std::int64_t> split_indices(std::int64_t count, Split split, std::int64_t held_out_every);

/// X-VLM's region and caption lines: {"image_rpath": path | "binary": base64, "caption": text or list, "elems": [{"caption", "bb": [x, y, w, h], "attributes"}]}.
/// A line with one caption may say which of its characters name which box, as PEVL's files do: "tokens_positive": [[first, last + 1], ...], "bbox_list": [[x1, y1, x2, y2], ...].
struct XvlmJsonlOptions {
  std::string file = "regions.jsonl";   ///< relative to root
  std::string image_root{};             ///< relative to root
  std::int64_t held_out_every = 5;
};
void visit_fields(config::Visitor& visitor, XvlmJsonlOptions& options);
absl::StatusOr<DatasetPtr> open_dataset(const XvlmJsonlOptions& options, const DatasetContext& context);

/// Pascal VOC: a folder of XML files beside a folder of pictures; corners are 1-based and inclusive.
struct VocOptions {
  std::string annotations = "Annotations";
  std::string images = "JPEGImages";
  std::vector<std::pair<std::string, std::string>> labels{};  ///< class name -> description; a class that is not named is its own description; empty: all are
  double min_side_pixels = 0;                                 ///< boxes with a side of at most this many pixels, both corners included, are left out; those without area stay, to be counted
  std::int64_t held_out_every = 5;
};
void visit_fields(config::Visitor& visitor, VocOptions& options);
absl::StatusOr<DatasetPtr> open_dataset(const VocOptions& options, const DatasetContext& context);

/// COCO instances and captions. Crowd annotations are left out. MDETR's files (arXiv 2104.12763) are read as well: there an image has a "caption", and an annotation's "tokens_positive" [[first, last + 1], ...]
/// says which of its characters name the box.
struct CocoOptions {
  std::string instances = "instances.json";  ///< relative to root; empty: none
  std::string captions{};                    ///< relative to root; empty: none
  std::string images = "images";
  std::vector<std::pair<std::string, std::string>> labels{};  ///< category -> description
  std::int64_t held_out_every = 5;
};
void visit_fields(config::Visitor& visitor, CocoOptions& options);
absl::StatusOr<DatasetPtr> open_dataset(const CocoOptions& options, const DatasetContext& context);

using DatasetRegistry = Registry<absl::StatusOr<DatasetPtr>, DatasetContext>;
/// Ours: xvlm_jsonl, voc, coco, synthetic.
std::shared_ptr<DatasetRegistry> builtin_datasets();

// Decorators. Mixing sources by weight is the Loader's: give it one Stream each (see loader.hpp).

/// One after the other; a record keeps its key.
DatasetPtr concatenated(std::vector<DatasetPtr> parts);
/// Records `indices` of `dataset`, in that order. Its texts are those of these records, or the closed list of `dataset` where it has one.
DatasetPtr subset(DatasetPtr dataset, std::vector<std::int64_t> indices);
/// Every record through `function`, which is called from several threads and must give the same for the same record; its error makes the record unreadable.
/// The texts are those of the records that come out.
DatasetPtr transformed(DatasetPtr dataset, std::function<absl::StatusOr<Record>(Record)> function);

}  // namespace fgvl::data
