#include <filesystem>
#include <map>

#include <absl/strings/str_cat.h>
#include <simdjson.h>

#include "data/folders.hpp"
#include "data/phrases.hpp"
#include "fgvl/core/files.hpp"
#include "fgvl/data/datasets.hpp"

namespace fgvl::data {
namespace {

class CocoDataset final : public Dataset {
 public:
  explicit CocoDataset(std::vector<Record> records) : records_(std::move(records)) {}
  std::int64_t size() const override { return static_cast<std::int64_t>(records_.size()); }
  absl::StatusOr<Record> get(std::int64_t index) const override { return records_[static_cast<std::size_t>(index)]; }
  std::string place(std::int64_t index) const override { return records_[static_cast<std::size_t>(index)].place; }

 private:
  std::vector<Record> records_;
};

class Reader {
 public:
  Reader(const CocoOptions& options, const std::filesystem::path& root) : options_(options), root_(root) {}

  absl::Status read(const std::string& name) {
    if (name.empty()) return absl::OkStatus();
    const std::string path = (root_ / name).string();
    const absl::StatusOr<std::string> text = read_file(path);
    if (!text.ok()) return with_exit_code(text.status(), ExitCode::kData);
    if (text->empty()) return data_error(path, "the annotation file is empty");
    simdjson::dom::parser parser;
    simdjson::dom::element document;
    if (const auto error = parser.parse(*text).get(document)) return data_error(path, absl::StrCat("not valid JSON: ", simdjson::error_message(error)));
    std::map<std::int64_t, std::string> categories;
    simdjson::dom::array list;
    if (document["categories"].get(list) == simdjson::SUCCESS) {
      for (const simdjson::dom::element category : list) {
        std::int64_t id = 0;
        std::string_view label;
        if (category["id"].get(id) == simdjson::SUCCESS && category["name"].get(label) == simdjson::SUCCESS) categories[id] = std::string(label);
      }
    }
    if (document["images"].get(list) != simdjson::SUCCESS) return data_error(path, "no list \"images\"");
    std::int64_t number = 0;
    for (const simdjson::dom::element image : list) {
      std::int64_t id = 0;
      std::string_view file;
      if (image["id"].get(id) != simdjson::SUCCESS || image["file_name"].get(file) != simdjson::SUCCESS) return data_error(path, absl::StrCat("images[", number, "]: needs id and file_name"));
      Record& record = records_[id];
      record.key = absl::StrCat(id);
      record.place = absl::StrCat(path, ": image ", id);
      record.image_path = (root_ / options_.images / std::string(file)).string();
      std::string_view caption;  // MDETR's files: the caption stands with the image, and annotations name its words
      if (image["caption"].get(caption) == simdjson::SUCCESS) {
        record.captions.emplace_back(caption);
        grounded_[id] = {record.captions.size() - 1, {}};
      }
      ++number;
    }
    if (document["annotations"].get(list) != simdjson::SUCCESS) return data_error(path, "no list \"annotations\"");
    number = 0;
    for (const simdjson::dom::element annotation : list) {
      FGVL_RETURN_IF_ERROR(add(annotation, categories, absl::StrCat(path, ": annotations[", number++, "]")));
    }
    return absl::OkStatus();
  }

  std::vector<Record> take() {
    std::vector<Record> records;
    for (auto& [id, record] : records_) {
      if (const auto found = grounded_.find(id); found != grounded_.end() && !found->second.phrases.empty()) {
        record.caption_phrases.resize(record.captions.size());
        record.caption_phrases[found->second.caption] = std::move(found->second.phrases);
      }
      records.push_back(std::move(record));
    }
    return records;
  }

 private:
  absl::Status add(const simdjson::dom::element& annotation, const std::map<std::int64_t, std::string>& categories, const std::string& place) {
    std::int64_t image = 0;
    if (annotation["image_id"].get(image) != simdjson::SUCCESS || records_.count(image) == 0) return data_error(place, "image_id names no image of the file");
    Record& record = records_[image];
    std::string_view caption;
    if (annotation["caption"].get(caption) == simdjson::SUCCESS) {
      record.captions.emplace_back(caption);
      return absl::OkStatus();
    }
    std::int64_t crowd = 0, category = 0;
    if (annotation["iscrowd"].get(crowd) == simdjson::SUCCESS && crowd != 0) return absl::OkStatus();
    simdjson::dom::array box;
    if (annotation["bbox"].get(box) != simdjson::SUCCESS || box.size() != 4 || (annotation["category_id"].get(category) != simdjson::SUCCESS && grounded_.count(image) == 0)) {
      return data_error(place, "needs caption, or bbox [x, y, w, h] and category_id");
    }
    double number[4];
    for (std::size_t i = 0; i < 4; ++i) {
      if (box.at(i).get(number[i]) != simdjson::SUCCESS) return data_error(place, "bbox holds something that is not a number");
    }
    const PixelBox corners = {number[0], number[1], number[0] + number[2], number[1] + number[3]};
    simdjson::dom::array spans;
    if (const auto grounded = grounded_.find(image); grounded != grounded_.end() && annotation["tokens_positive"].get(spans) == simdjson::SUCCESS) {
      return add_grounded(spans, corners, place, grounded->second, record);
    }
    const auto found = categories.find(category);
    if (found == categories.end()) return data_error(place, absl::StrCat("category_id ", category, " is not in the list of categories"));
    Region region{corners, {found->second}, found->second, {}};
    if (!options_.labels.empty()) {
      region.texts.clear();
      for (const auto& [label, text] : options_.labels) {
        if (label == found->second) region.texts = {text};
      }
      if (region.texts.empty()) return absl::OkStatus();
    }
    record.regions.push_back(std::move(region));
    return absl::OkStatus();
  }

  /// The caption of an image that annotations refer to, by its place in Record::captions.
  struct Grounded {
    std::size_t caption = 0;
    std::vector<Phrase> phrases{};
  };

  /// A box with the characters [[first, last + 1], ...] of the caption that name it: phrases of the caption, and a region whose texts they are.
  static absl::Status add_grounded(const simdjson::dom::array& spans, const PixelBox& box, const std::string& place, Grounded& grounded, Record& record) {
    const std::string& caption = record.captions[grounded.caption];
    Region region{box, {}, "", {}};
    for (const simdjson::dom::element element : spans) {
      simdjson::dom::array span;
      std::int64_t begin = 0, end = 0;
      if (element.get(span) != simdjson::SUCCESS || span.size() != 2 || span.at(0).get(begin) != simdjson::SUCCESS || span.at(1).get(end) != simdjson::SUCCESS) {
        return data_error(place, "tokens_positive: expected [[first, last + 1], ...]");
      }
      std::vector<Phrase> own;
      if (const absl::Status added = add_phrase(caption, begin, end, box, own); !added.ok()) return data_error(place, absl::StrCat("tokens_positive: ", added.message()));
      region.texts.push_back(caption.substr(own[0].begin, own[0].end - own[0].begin));
      FGVL_RETURN_IF_ERROR(add_phrase(caption, begin, end, box, grounded.phrases));
    }
    record.regions.push_back(std::move(region));
    return absl::OkStatus();
  }

  CocoOptions options_;
  std::filesystem::path root_;
  std::map<std::int64_t, Record> records_;
  std::map<std::int64_t, Grounded> grounded_;
};

}  // namespace

void visit_fields(config::Visitor& visitor, CocoOptions& options) {
  visitor("instances", options.instances, "instances file, relative to root; empty: none");
  visitor("captions", options.captions, "captions file, relative to root; empty: none");
  visitor("images", options.images, "folder of pictures, relative to root");
  visitor("labels", options.labels, "category -> description; only these; empty: all, each its own description");
  visitor("held_out_every", options.held_out_every, "every n-th image, by id, is held out; 0: none", {0, 1e9});
}

absl::StatusOr<DatasetPtr> open_dataset(const CocoOptions& options, const DatasetContext& context) {
  const std::filesystem::path root = context.root;
  FGVL_RETURN_IF_ERROR(check_folder(root, "the data folder (data.root)"));
  FGVL_RETURN_IF_ERROR(check_folder(root / options.images, "the folder of pictures (data.dataset.options.images)"));
  if (options.instances.empty() && options.captions.empty()) return absl::InvalidArgumentError("data.dataset.options: expected instances, captions or both");
  Reader reader(options, root);
  FGVL_RETURN_IF_ERROR(reader.read(options.instances));
  FGVL_RETURN_IF_ERROR(reader.read(options.captions));
  auto all = std::make_shared<CocoDataset>(reader.take());
  if (all->size() == 0) return data_error(root.string(), "the annotation files name no image");
  return subset(all, split_indices(all->size(), context.split, options.held_out_every));
}

}  // namespace fgvl::data
