#include <filesystem>
#include <fstream>

#include <absl/strings/escaping.h>
#include <absl/strings/str_cat.h>
#include <simdjson.h>

#include "data/folders.hpp"
#include "data/phrases.hpp"
#include "fgvl/data/datasets.hpp"

namespace fgvl::data {
namespace {

/// A text or a list of texts.
absl::StatusOr<std::vector<std::string>> texts_of(const simdjson::dom::element& value) {
  std::vector<std::string> texts;
  std::string_view single;
  if (value.get(single) == simdjson::SUCCESS) return std::vector<std::string>{std::string(single)};
  simdjson::dom::array list;
  if (value.get(list) != simdjson::SUCCESS) return absl::InvalidArgumentError("expected a text or a list of texts");
  for (const simdjson::dom::element item : list) {
    std::string_view text;
    if (item.get(text) != simdjson::SUCCESS) return absl::InvalidArgumentError("expected a text or a list of texts");
    texts.emplace_back(text);
  }
  return texts;
}

/// A list of exactly N numbers.
template <class T, std::size_t N>
bool read_numbers(const simdjson::simdjson_result<simdjson::dom::element>& value, std::array<T, N>& numbers) {
  simdjson::dom::array list;
  if (value.get(list) != simdjson::SUCCESS || list.size() != N) return false;
  for (std::size_t i = 0; i < N; ++i) {
    if (list.at(i).get(numbers[i]) != simdjson::SUCCESS) return false;
  }
  return true;
}

class XvlmJsonl final : public Dataset {
 public:
  XvlmJsonl(const XvlmJsonlOptions& options, std::filesystem::path root, std::string file, std::vector<std::pair<std::int64_t, std::int64_t>> lines)
      : options_(options), root_(std::move(root)), file_(std::move(file)), lines_(std::move(lines)) {}

  std::int64_t size() const override { return static_cast<std::int64_t>(lines_.size()); }

  std::string place(std::int64_t index) const override { return absl::StrCat(file_, ":", lines_[static_cast<std::size_t>(index)].second); }

  absl::StatusOr<Record> get(std::int64_t index) const override {
    const auto [offset, number] = lines_[static_cast<std::size_t>(index)];
    const std::string place = this->place(index);
    std::ifstream stream(file_, std::ios::binary);
    stream.seekg(offset);
    std::string line;
    if (!std::getline(stream, line)) return data_error(place, "cannot be read");
    simdjson::dom::parser parser;
    simdjson::dom::element root;
    if (const auto error = parser.parse(line).get(root)) return data_error(place, absl::StrCat("not valid JSON: ", simdjson::error_message(error)));
    if (!root.is_object()) return data_error(place, "expected a JSON object");
    Record record;
    record.place = place;
    record.key = absl::StrCat(std::filesystem::path(file_).filename().string(), ":", number);
    FGVL_RETURN_IF_ERROR(read_image_source(root, place, record));
    simdjson::dom::element value;
    if (root["caption"].get(value) == simdjson::SUCCESS) {
      absl::StatusOr<std::vector<std::string>> captions = texts_of(value);
      if (!captions.ok()) return data_error(place, absl::StrCat("caption: ", captions.status().message()));
      record.captions = std::move(*captions);
    }
    FGVL_RETURN_IF_ERROR(read_phrases(root, place, record));
    if (root["elems"].get(value) == simdjson::SUCCESS) {
      simdjson::dom::array elements;
      if (value.get(elements) != simdjson::SUCCESS) return data_error(place, "elems: expected a list");
      for (const simdjson::dom::element element : elements) {
        FGVL_RETURN_IF_ERROR(read_region(element, place, record));
      }
    }
    return record;
  }

 private:
  absl::Status read_image_source(const simdjson::dom::element& root, const std::string& place, Record& record) const {
    std::string_view text;
    if (root["image_rpath"].get(text) == simdjson::SUCCESS) {
      record.image_path = (root_ / options_.image_root / std::string(text)).string();
    } else if (root["binary"].get(text) == simdjson::SUCCESS) {
      if (!absl::Base64Unescape(absl::string_view(text.data(), text.size()), &record.image_bytes)) return data_error(place, "binary: not valid base64");
    } else {
      return data_error(place, "neither image_rpath nor binary");
    }
    return absl::OkStatus();
  }

  /// "tokens_positive": [[first, last + 1], ...] of the caption's characters and, one each, "bbox_list": [[x1, y1, x2, y2], ...], as PEVL writes them.
  static absl::Status read_phrases(const simdjson::dom::element& root, const std::string& place, Record& record) {
    simdjson::dom::array spans, boxes;
    if (root["tokens_positive"].get(spans) != simdjson::SUCCESS) return absl::OkStatus();
    if (root["bbox_list"].get(boxes) != simdjson::SUCCESS || boxes.size() != spans.size()) return data_error(place, "tokens_positive: needs a bbox_list of as many boxes");
    if (record.captions.size() != 1) return data_error(place, absl::StrCat("tokens_positive: needs one caption, not ", record.captions.size()));
    record.caption_phrases.resize(1);
    for (std::size_t i = 0; i < spans.size(); ++i) {
      std::array<std::int64_t, 2> span{};
      PixelBox box{};
      if (!read_numbers(spans.at(i), span)) return data_error(place, absl::StrCat("tokens_positive[", i, "]: expected [first, last + 1]"));
      if (!read_numbers(boxes.at(i), box)) return data_error(place, absl::StrCat("bbox_list[", i, "]: expected [x1, y1, x2, y2]"));
      if (const absl::Status added = add_phrase(record.captions[0], span[0], span[1], box, record.caption_phrases[0]); !added.ok()) {
        return data_error(place, absl::StrCat("tokens_positive[", i, "]: ", added.message()));
      }
    }
    return absl::OkStatus();
  }

  static absl::Status read_region(const simdjson::dom::element& element, const std::string& place, Record& record) {
    simdjson::dom::element caption;
    simdjson::dom::array box;
    if (element["caption"].get(caption) != simdjson::SUCCESS || element["bb"].get(box) != simdjson::SUCCESS) {
      return data_error(place, absl::StrCat("elems[", record.regions.size(), "]: needs caption and bb [x, y, w, h]"));
    }
    std::vector<double> numbers;
    for (const simdjson::dom::element number : box) {
      double value = 0;
      if (number.get(value) != simdjson::SUCCESS) return data_error(place, absl::StrCat("elems[", record.regions.size(), "]: bb holds something that is not a number"));
      numbers.push_back(value);
    }
    if (numbers.size() != 4) return data_error(place, absl::StrCat("elems[", record.regions.size(), "]: bb has ", numbers.size(), " numbers, 4 were expected"));
    Region region;
    region.box = {numbers[0], numbers[1], numbers[0] + numbers[2], numbers[1] + numbers[3]};
    absl::StatusOr<std::vector<std::string>> texts = texts_of(caption);
    if (!texts.ok()) return data_error(place, absl::StrCat("elems[", record.regions.size(), "].caption: ", texts.status().message()));
    if (!texts->empty()) region.label = texts->front();
    simdjson::dom::element attributes;
    std::vector<std::string> prefixes;
    if (element["attributes"].get(attributes) == simdjson::SUCCESS) {
      absl::StatusOr<std::vector<std::string>> read = texts_of(attributes);
      if (!read.ok()) return data_error(place, absl::StrCat("elems[", record.regions.size(), "].attributes: ", read.status().message()));
      prefixes = std::move(*read);
    }
    // "attribute caption", as X-VLM writes an object with attributes.
    for (const std::string& text : *texts) {
      if (prefixes.empty()) region.texts.push_back(text);
      for (const std::string& prefix : prefixes) region.texts.push_back(absl::StrCat(prefix, " ", text));
    }
    record.regions.push_back(std::move(region));
    return absl::OkStatus();
  }

  XvlmJsonlOptions options_;
  std::filesystem::path root_;
  std::string file_;
  std::vector<std::pair<std::int64_t, std::int64_t>> lines_;  ///< (byte offset, line number)
};

}  // namespace

void visit_fields(config::Visitor& visitor, XvlmJsonlOptions& options) {
  visitor("file", options.file, "JSON lines, relative to root");
  visitor("image_root", options.image_root, "folder of the pictures, relative to root");
  visitor("held_out_every", options.held_out_every, "every n-th line is held out; 0: none", {0, 1e9});
}

absl::StatusOr<DatasetPtr> open_dataset(const XvlmJsonlOptions& options, const DatasetContext& context) {
  const std::filesystem::path root = context.root;
  FGVL_RETURN_IF_ERROR(check_folder(root, "the data folder (data.root)"));
  const std::string file = (root / options.file).string();
  std::ifstream stream(file, std::ios::binary);
  if (!stream) return with_exit_code(absl::NotFoundError(absl::StrCat(file, ": the annotation file (data.dataset.options.file) cannot be opened")), ExitCode::kData);
  std::vector<std::pair<std::int64_t, std::int64_t>> lines;
  std::string line;
  for (std::int64_t offset = 0, number = 1; std::getline(stream, line); ++number) {
    if (line.find_first_not_of(" \t\r") != std::string::npos) lines.emplace_back(offset, number);
    offset += static_cast<std::int64_t>(line.size()) + 1;
  }
  if (lines.empty()) return data_error(file, "the annotation file is empty");
  std::vector<std::pair<std::int64_t, std::int64_t>> chosen;
  for (const std::int64_t index : split_indices(static_cast<std::int64_t>(lines.size()), context.split, options.held_out_every)) chosen.push_back(lines[static_cast<std::size_t>(index)]);
  return std::make_shared<XvlmJsonl>(options, root, file, std::move(chosen));
}

}  // namespace fgvl::data
