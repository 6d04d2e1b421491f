#include "fgvl/data/datasets.hpp"

#include <algorithm>

#include "fgvl/data/synthetic.hpp"

namespace fgvl::data {
namespace {

class Concatenated final : public Dataset {
 public:
  explicit Concatenated(std::vector<DatasetPtr> parts) : parts_(std::move(parts)) {}
  std::int64_t size() const override {
    std::int64_t total = 0;
    for (const DatasetPtr& part : parts_) total += part->size();
    return total;
  }
  absl::StatusOr<Record> get(std::int64_t index) const override {
    for (const DatasetPtr& part : parts_) {
      if (index < part->size()) return part->get(index);
      index -= part->size();
    }
    return absl::OutOfRangeError("concatenated: index past the end");
  }
  absl::StatusOr<std::vector<std::string>> texts() const override {
    std::vector<std::string> all;
    for (const DatasetPtr& part : parts_) {
      FGVL_ASSIGN_OR_RETURN(const std::vector<std::string> own, part->texts());
      all.insert(all.end(), own.begin(), own.end());
    }
    return all;
  }
  bool has_closed_texts() const override {
    return std::all_of(parts_.begin(), parts_.end(), [](const DatasetPtr& part) { return part->has_closed_texts(); });
  }
  std::string place(std::int64_t index) const override {
    for (const DatasetPtr& part : parts_) {
      if (index < part->size()) return part->place(index);
      index -= part->size();
    }
    return Dataset::place(index);
  }

 private:
  std::vector<DatasetPtr> parts_;
};

class Subset final : public Dataset {
 public:
  Subset(DatasetPtr dataset, std::vector<std::int64_t> indices) : dataset_(std::move(dataset)), indices_(std::move(indices)) {}
  std::int64_t size() const override { return static_cast<std::int64_t>(indices_.size()); }
  absl::StatusOr<Record> get(std::int64_t index) const override { return dataset_->get(indices_[static_cast<std::size_t>(index)]); }
  // Words that only other records carry do not belong into a vocabulary.
  absl::StatusOr<std::vector<std::string>> texts() const override { return dataset_->has_closed_texts() ? dataset_->texts() : Dataset::texts(); }
  bool has_closed_texts() const override { return dataset_->has_closed_texts(); }
  std::string place(std::int64_t index) const override { return dataset_->place(indices_[static_cast<std::size_t>(index)]); }

 private:
  DatasetPtr dataset_;
  std::vector<std::int64_t> indices_;
};

class Transformed final : public Dataset {
 public:
  using Function = std::function<absl::StatusOr<Record>(Record)>;
  Transformed(DatasetPtr dataset, Function function) : dataset_(std::move(dataset)), function_(std::move(function)) {}
  std::int64_t size() const override { return dataset_->size(); }
  absl::StatusOr<Record> get(std::int64_t index) const override {
    FGVL_ASSIGN_OR_RETURN(Record record, dataset_->get(index));
    return function_(std::move(record));
  }
  std::string place(std::int64_t index) const override { return dataset_->place(index); }

 private:
  DatasetPtr dataset_;
  Function function_;
};

}  // namespace

absl::StatusOr<std::vector<std::string>> Dataset::texts() const {
  std::vector<std::string> all;
  for (std::int64_t i = 0; i < size(); ++i) {
    const absl::StatusOr<Record> record = get(i);
    if (!record.ok()) continue;  // counted when the loader meets it
    all.insert(all.end(), record->captions.begin(), record->captions.end());
    all.insert(all.end(), record->caption_foils.begin(), record->caption_foils.end());
    for (const Region& region : record->regions) {
      all.insert(all.end(), region.texts.begin(), region.texts.end());
      all.insert(all.end(), region.foils.begin(), region.foils.end());
      if (!region.label.empty()) all.push_back(region.label);
    }
  }
  return all;
}

config::EnumNames<Split> enum_names(Split) { return {{Split::kTrain, "train"}, {Split::kHeldOut, "held_out"}, {Split::kAll, "all"}}; }

std::vector<std::int64_t> split_indices(std::int64_t count, Split split, std::int64_t held_out_every) {
  std::vector<std::int64_t> indices;
  for (std::int64_t i = 0; i < count; ++i) {
    const bool held_out = held_out_every > 0 && i % held_out_every == 0;
    if (split == Split::kAll || held_out == (split == Split::kHeldOut)) indices.push_back(i);
  }
  return indices;
}

DatasetPtr concatenated(std::vector<DatasetPtr> parts) { return std::make_shared<Concatenated>(std::move(parts)); }
DatasetPtr subset(DatasetPtr dataset, std::vector<std::int64_t> indices) { return std::make_shared<Subset>(std::move(dataset), std::move(indices)); }

DatasetPtr transformed(DatasetPtr dataset, std::function<absl::StatusOr<Record>(Record)> function) { return std::make_shared<Transformed>(std::move(dataset), std::move(function)); }

std::shared_ptr<DatasetRegistry> builtin_datasets() {
  auto registry = std::make_shared<DatasetRegistry>();
  const auto add = [&]<class O>(const char* name, const O& defaults) {
    registry->add(name, [](const O& options, const DatasetContext& context) { return open_dataset(options, context); }, defaults);
  };
  add("synthetic", SyntheticOptions{});
  add("voc", VocOptions{});
  add("coco", CocoOptions{});
  add("xvlm_jsonl", XvlmJsonlOptions{});
  return registry;
}

}  // namespace fgvl::data
