#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fgvl/core/status.hpp"
#include "fgvl/data/record.hpp"

namespace fgvl::data {

/// A list of records. Thread-safe for reading; `get` reads one record and decodes nothing.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual std::int64_t size() const = 0;
  /// `index` in [0, size()). The status of a record that cannot be read says where it stands.
  virtual absl::StatusOr<Record> get(std::int64_t index) const = 0;
  /// Every text that a record may carry (captions, region texts, labels, foils), to build a vocabulary from. Reads all records;
  /// generated datasets override it with their closed list.
  virtual absl::StatusOr<std::vector<std::string>> texts() const;
  /// True where texts() is such a list, known without reading a record: then a part of the dataset has it too.
  virtual bool has_closed_texts() const { return false; }
  /// Where record `index` stands, as in Record::place; also of a record that cannot be read.
  virtual std::string place(std::int64_t index) const { return "record " + std::to_string(index); }
};
using DatasetPtr = std::shared_ptr<const Dataset>;

}  // namespace fgvl::data
