#include <algorithm>
#include <cstring>
#include <filesystem>

#include <absl/strings/str_cat.h>
#include <pugixml.hpp>

#include "data/folders.hpp"
#include "fgvl/data/datasets.hpp"

namespace fgvl::data {
namespace {

class VocDataset final : public Dataset {
 public:
  VocDataset(const VocOptions& options, std::filesystem::path root, std::vector<std::string> files) : options_(options), root_(std::move(root)), files_(std::move(files)) {}

  std::int64_t size() const override { return static_cast<std::int64_t>(files_.size()); }

  std::string place(std::int64_t index) const override { return files_[static_cast<std::size_t>(index)]; }

  absl::StatusOr<Record> get(std::int64_t index) const override {
    const std::string place = files_[static_cast<std::size_t>(index)];
    pugi::xml_document document;
    const pugi::xml_parse_result parsed = document.load_file(place.c_str());
    if (!parsed) return data_error(place, absl::StrCat(parsed.description(), " at byte ", parsed.offset, parsed.status == pugi::status_no_document_element ? " (the file is empty)" : ""));
    const pugi::xml_node annotation = document.child("annotation");
    if (!annotation) return data_error(place, "no <annotation> element");
    Record record;
    record.key = std::filesystem::path(place).stem().string();
    record.place = place;
    const std::filesystem::path named = annotation.child_value("filename");
    if (named.empty()) return data_error(place, "no <filename> element");
    record.image_path = (root_ / options_.images / named.filename()).string();
    for (const pugi::xml_node object : annotation.children("object")) {
      const pugi::xml_node box = object.child("bndbox");
      const std::string name = object.child_value("name");
      if (!box || name.empty()) return data_error(place, "an <object> without <name> or <bndbox>");
      double corners[4];
      for (int i = 0; i < 4; ++i) {
        static constexpr const char* kCorners[] = {"xmin", "ymin", "xmax", "ymax"};
        const char* text = box.child_value(kCorners[i]);
        char* end = nullptr;
        corners[i] = std::strtod(text, &end);
        if (*text == '\0' || *end != '\0') return data_error(place, absl::StrCat("<", kCorners[i], "> of a ", name, " holds \"", text, "\", not a number"));
      }
      // Small boxes are left out on request; one without any area is a mistake, which is counted when the sample is made.
      const double width = corners[2] - corners[0] + 1, height = corners[3] - corners[1] + 1;
      if (width > 0 && height > 0 && std::min(width, height) <= options_.min_side_pixels) continue;
      // 1-based inclusive corners to a continuous box.
      Region region{{corners[0] - 1, corners[1] - 1, corners[2], corners[3]}, {}, name, {}};
      if (const std::string* text = description(name)) {
        region.texts = {*text};
        record.regions.push_back(std::move(region));
      }
    }
    return record;
  }

 private:
  /// Null: this class is not wanted.
  const std::string* description(const std::string& name) const {
    if (options_.labels.empty()) return &name;
    for (const auto& [label, text] : options_.labels) {
      if (label == name) return &text;
    }
    return nullptr;
  }

  VocOptions options_;
  std::filesystem::path root_;
  std::vector<std::string> files_;
};

}  // namespace

void visit_fields(config::Visitor& visitor, VocOptions& options) {
  visitor("annotations", options.annotations, "folder of XML files, relative to root");
  visitor("images", options.images, "folder of pictures, relative to root");
  visitor("labels", options.labels, "class name -> description; only these classes; empty: all, each its own description");
  visitor("min_side_pixels", options.min_side_pixels, "boxes with a side of at most this (both corners belong to a box) are left out; 0: none", config::kNonNegative);
  visitor("held_out_every", options.held_out_every, "every n-th file of the sorted list is held out; 0: none", {0, 1e9});
}

absl::StatusOr<DatasetPtr> open_dataset(const VocOptions& options, const DatasetContext& context) {
  const std::filesystem::path root = context.root;
  FGVL_RETURN_IF_ERROR(check_folder(root, "the data folder (data.root)"));
  FGVL_RETURN_IF_ERROR(check_folder(root / options.annotations, "the folder of annotations (data.dataset.options.annotations)"));
  FGVL_RETURN_IF_ERROR(check_folder(root / options.images, "the folder of pictures (data.dataset.options.images)"));
  std::vector<std::string> files;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(root / options.annotations, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->path().extension() == ".xml") files.push_back(entry->path().string());
  }
  if (error) return data_error((root / options.annotations).string(), absl::StrCat("the folder of annotations cannot be read: ", error.message()));
  if (files.empty()) return data_error((root / options.annotations).string(), "no .xml file in this folder");
  std::sort(files.begin(), files.end());
  std::vector<std::string> chosen;
  for (const std::int64_t index : split_indices(static_cast<std::int64_t>(files.size()), context.split, options.held_out_every)) chosen.push_back(files[static_cast<std::size_t>(index)]);
  return std::make_shared<VocDataset>(options, root, std::move(chosen));
}

}  // namespace fgvl::data
