#include "train/event_file.hpp"

#include <array>
#include <cstring>

#include <absl/strings/str_cat.h>

#include "fgvl/core/files.hpp"

namespace fgvl::train {
namespace {

template <class T>
std::string raw(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>((value & 0x7F) | 0x80);
  return bytes + static_cast<char>(value);
}

enum WireType { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };
std::string field(int number, WireType type, const std::string& payload) {
  const std::string key = varint(static_cast<std::uint64_t>(number << 3 | type));
  return type == kBytes ? key + varint(payload.size()) + payload : key + payload;
}

std::uint32_t masked(std::uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xA282EAD8u; }

}  // namespace

std::uint32_t crc32c(const std::string& bytes) {
  static const std::array<std::uint32_t, 256> table = [] {
    std::array<std::uint32_t, 256> values{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = (value & 1) != 0 ? (value >> 1) ^ 0x82F63B78u : value >> 1;
      values[i] = value;
    }
    return values;
  }();
  std::uint32_t crc = 0xFFFFFFFFu;
  for (const char c : bytes) crc = table[(crc ^ static_cast<unsigned char>(c)) & 0xFF] ^ (crc >> 8);
  return ~crc;
}

absl::StatusOr<EventFile> EventFile::create(const std::string& folder, double wall_time, std::int64_t step) {
  EventFile file(absl::StrCat(folder, "/events.out.tfevents.", static_cast<std::int64_t>(wall_time), ".step", step));
  FGVL_RETURN_IF_ERROR(file.append(field(1, kFixed64, raw(wall_time)) + field(3, kBytes, "brain.Event:2")));
  return file;
}

absl::Status EventFile::scalar(const std::string& tag, std::int64_t step, double value, double wall_time) {
  const std::string one = field(1, kBytes, tag) + field(2, kFixed32, raw(static_cast<float>(value)));
  return append(field(1, kFixed64, raw(wall_time)) + field(2, kVarint, varint(static_cast<std::uint64_t>(step))) + field(5, kBytes, field(1, kBytes, one)));
}

absl::Status EventFile::append(const std::string& event) {
  const std::string length = raw(static_cast<std::uint64_t>(event.size()));
  return with_exit_code(append_to_file(path_, length + raw(masked(crc32c(length))) + event + raw(masked(crc32c(event)))), ExitCode::kCheckpoint);
}

}  // namespace fgvl::train
