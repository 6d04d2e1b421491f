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
};
using DatasetPtr = std::shared_ptr<const Dataset>;

}  // namespace fgvl::data
