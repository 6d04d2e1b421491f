#include "core/zip_writer.hpp"

#include <array>

namespace fgvl::zip {
namespace {

constexpr std::uint64_t kAlignment = 64;
constexpr std::uint16_t kPlainVersion = 20, kZip64Version = 45, kZip64Extra = 1, kPaddingExtra = 0x4246;  // "FB", as PyTorch names its padding
constexpr std::uint16_t kUtf8Names = 1 << 11;
constexpr std::uint16_t kNewYear1980 = 0x21;  // a date is required; a fixed one keeps equal input equal
constexpr std::uint32_t kIn64 = 0xffffffff;

void put(std::string& bytes, std::uint64_t value, int count) {
  for (int i = 0; i < count; ++i) bytes += static_cast<char>(value >> (8 * i));
}

/// Eight tables: eight bytes a step (Kounavis and Berry, "Novel table lookup-based algorithms for high-performance CRC generation", 2008).
using Tables = std::array<std::array<std::uint32_t, 256>, 8>;
constexpr Tables kTables = [] {
  Tables tables{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value & 1) != 0 ? (value >> 1) ^ 0xedb88320u : value >> 1;
    tables[0][i] = value;
  }
  for (std::uint32_t i = 0; i < 256; ++i) {
    for (std::size_t table = 1; table < 8; ++table) tables[table][i] = (tables[table - 1][i] >> 8) ^ tables[0][tables[table - 1][i] & 0xff];
  }
  return tables;
}();

}  // namespace

std::uint32_t crc32(std::string_view bytes) {
  std::uint32_t crc = ~0u;
  std::size_t i = 0;
  const auto byte = [&](std::size_t at) { return static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[at])); };
  for (; i + 8 <= bytes.size(); i += 8) {
    crc ^= byte(i) | byte(i + 1) << 8 | byte(i + 2) << 16 | byte(i + 3) << 24;
    crc = kTables[7][crc & 0xff] ^ kTables[6][crc >> 8 & 0xff] ^ kTables[5][crc >> 16 & 0xff] ^ kTables[4][crc >> 24] ^ kTables[3][byte(i + 4)] ^ kTables[2][byte(i + 5)] ^ kTables[1][byte(i + 6)] ^
          kTables[0][byte(i + 7)];
  }
  for (; i < bytes.size(); ++i) crc = (crc >> 8) ^ kTables[0][(crc ^ byte(i)) & 0xff];
  return ~crc;
}

void Writer::append(std::string bytes) {
  position_ += bytes.size();
  owned_.push_back(std::move(bytes));
  pieces_.push_back(owned_.back());
}

void Writer::add_copy(const std::string& name, std::string content) {
  owned_.push_back(std::move(content));
  add(name, owned_.back());
}

void Writer::add(const std::string& name, std::string_view content) {
  const Entry entry{name, position_, content.size(), crc32(content)};
  const bool zip64 = large(entry.size);
  std::string extra;
  if (zip64) {
    put(extra, kZip64Extra, 2);
    put(extra, 16, 2);
    put(extra, entry.size, 8);
    put(extra, entry.size, 8);
  }
  constexpr std::uint64_t kHeader = 30, kExtraHeader = 4;
  const std::uint64_t unpadded = position_ + kHeader + name.size() + extra.size() + kExtraHeader;
  const std::uint64_t padding = (kAlignment - unpadded % kAlignment) % kAlignment;
  put(extra, kPaddingExtra, 2);
  put(extra, padding, 2);
  extra.append(padding, 'Z');
  std::string header = "PK\3\4";
  put(header, zip64 ? kZip64Version : kPlainVersion, 2);
  put(header, kUtf8Names, 2);
  put(header, 0, 2);  // stored
  put(header, 0, 2);
  put(header, kNewYear1980, 2);
  put(header, entry.crc, 4);
  put(header, zip64 ? kIn64 : entry.size, 4);
  put(header, zip64 ? kIn64 : entry.size, 4);
  put(header, name.size(), 2);
  put(header, extra.size(), 2);
  append(header + name + extra);
  pieces_.push_back(content);
  position_ += content.size();
  entries_.push_back(entry);
}

const std::vector<std::string_view>& Writer::finish() {
  const std::uint64_t begin = position_;
  std::string directory;
  for (const Entry& entry : entries_) {
    const bool large_size = large(entry.size), large_offset = large(entry.header);
    std::string extra;
    if (large_size || large_offset) {
      put(extra, kZip64Extra, 2);
      put(extra, (large_size ? 16 : 0) + (large_offset ? 8 : 0), 2);
      if (large_size) put(extra, entry.size, 8);
      if (large_size) put(extra, entry.size, 8);
      if (large_offset) put(extra, entry.header, 8);
    }
    directory += "PK\1\2";
    put(directory, extra.empty() ? kPlainVersion : kZip64Version, 2);
    put(directory, extra.empty() ? kPlainVersion : kZip64Version, 2);
    put(directory, kUtf8Names, 2);
    put(directory, 0, 2);
    put(directory, 0, 2);
    put(directory, kNewYear1980, 2);
    put(directory, entry.crc, 4);
    put(directory, large_size ? kIn64 : entry.size, 4);
    put(directory, large_size ? kIn64 : entry.size, 4);
    put(directory, entry.name.size(), 2);
    put(directory, extra.size(), 2);
    put(directory, 0, 2);  // comment
    put(directory, 0, 2);  // disk
    put(directory, 0, 2);  // attributes
    put(directory, 0, 4);
    put(directory, large_offset ? kIn64 : entry.header, 4);
    directory += entry.name + extra;
  }
  const std::uint64_t size = directory.size(), count = entries_.size();
  const bool zip64 = large(begin) || large(size) || count >= 0xffff;
  if (zip64) {
    const std::uint64_t end64 = begin + size;
    directory += "PK\6\6";
    put(directory, 44, 8);  // of what follows
    put(directory, kZip64Version, 2);
    put(directory, kZip64Version, 2);
    put(directory, 0, 4);
    put(directory, 0, 4);
    put(directory, count, 8);
    put(directory, count, 8);
    put(directory, size, 8);
    put(directory, begin, 8);
    directory += "PK\6\7";
    put(directory, 0, 4);
    put(directory, end64, 8);
    put(directory, 1, 4);
  }
  directory += "PK\5\6";
  put(directory, 0, 4);
  put(directory, zip64 ? 0xffff : count, 2);
  put(directory, zip64 ? 0xffff : count, 2);
  put(directory, zip64 ? kIn64 : size, 4);
  put(directory, zip64 ? kIn64 : begin, 4);
  put(directory, 0, 2);
  append(std::move(directory));
  return pieces_;
}

}  // namespace fgvl::zip
