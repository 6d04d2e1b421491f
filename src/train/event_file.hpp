#pragma once
#include <string>

#include "fgvl/core/status.hpp"

namespace fgvl::train {

/// TensorBoard scalars: TFRecord frames (length, masked CRC-32C, bytes, masked CRC-32C) of Event messages
/// (tensorflow/core/util/event.proto and tensorflow/core/framework/summary.proto), encoded by hand: three fields do not need protobuf.
class EventFile {
 public:
  /// Starts `folder`/events.out.tfevents.<seconds>.<step>.
  static absl::StatusOr<EventFile> create(const std::string& folder, double wall_time, std::int64_t step);
  absl::Status scalar(const std::string& tag, std::int64_t step, double value, double wall_time);

 private:
  explicit EventFile(std::string path) : path_(std::move(path)) {}
  absl::Status append(const std::string& event);
  std::string path_;
};

std::uint32_t crc32c(const std::string& bytes);

}  // namespace fgvl::train
