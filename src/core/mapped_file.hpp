#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "fgvl/core/status.hpp"

namespace fgvl {

/// A whole regular file in memory, mapped privately: writes to it stay in this process.
class MappedFile {
 public:
  /// NotFound, PermissionDenied, or InvalidArgument for what is not a regular file; exit code 4.
  static absl::StatusOr<std::shared_ptr<const MappedFile>> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::string_view bytes() const { return {data_, size_}; }
  /// For tensors, which are never const; the pages are private.
  char* data() const { return data_; }
  /// Drops the whole pages inside [begin, begin + size), when they are of this file: the next reader gets them from the file again.
  void release(const void* begin, std::size_t size) const;

 private:
  MappedFile(char* data, std::size_t size) : data_(data), size_(size) {}
  char* data_;
  std::size_t size_;
};

}  // namespace fgvl
