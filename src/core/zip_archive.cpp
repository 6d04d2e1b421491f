#include "core/zip_archive.hpp"

#include <algorithm>
#include <set>

#include <absl/strings/str_cat.h>

#include "core/stored_tensor.hpp"

namespace fgvl::zip {
namespace {

constexpr std::uint32_t kLocalSignature = 0x04034b50, kCentralSignature = 0x02014b50, kEndSignature = 0x06054b50, kEnd64Signature = 0x06064b50, kLocator64Signature = 0x07064b50;
constexpr std::size_t kLocalSize = 30, kCentralSize = 46, kEndSize = 22, kEnd64Size = 56, kLocator64Size = 20;
constexpr std::uint16_t kZip64Extra = 1, kEncrypted = 1;
constexpr std::uint32_t kIn64 = 0xffffffff;
constexpr std::size_t kLongestComment = 0xffff;

std::uint64_t number(std::string_view bytes, std::size_t at, std::size_t count) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < count; ++i) value |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[at + i])) << (8 * i);
  return value;
}

absl::Status wrong(std::uint64_t at, const std::string& what) { return absl::InvalidArgumentError(absl::StrCat("zip archive, byte ", at, ": ", what)); }

/// Where the directory lies and how many members it has.
struct Directory {
  std::uint64_t begin = 0, size = 0, count = 0;
  std::uint64_t end = 0;  ///< first byte behind it: of the end records
};

absl::StatusOr<Directory> find_directory(std::string_view file) {
  if (file.size() < kEndSize) return wrong(0, absl::StrCat("only ", file.size(), " bytes"));
  const std::size_t lowest = file.size() - kEndSize - std::min(file.size() - kEndSize, kLongestComment);
  for (std::size_t at = file.size() - kEndSize + 1; at-- > lowest;) {
    if (number(file, at, 4) != kEndSignature || at + kEndSize + number(file, at + 20, 2) != file.size()) continue;
    if (number(file, at + 4, 2) != 0 || number(file, at + 6, 2) != 0) return wrong(at, "an archive of several disks is not read");
    Directory directory{number(file, at + 16, 4), number(file, at + 12, 4), number(file, at + 10, 2), at};
    if (number(file, at + 8, 2) != directory.count) return wrong(at, "the counts of members differ");
    if (at >= kLocator64Size && number(file, at - kLocator64Size, 4) == kLocator64Signature) {
      const std::uint64_t end64 = number(file, at - kLocator64Size + 8, 8);
      if (end64 > at - kLocator64Size || at - kLocator64Size - end64 < kEnd64Size || number(file, end64, 4) != kEnd64Signature) return wrong(at - kLocator64Size, absl::StrCat("the zip64 end record is not at ", end64));
      directory = {number(file, end64 + 48, 8), number(file, end64 + 40, 8), number(file, end64 + 32, 8), end64};
    }
    if (directory.begin > directory.end || directory.size != directory.end - directory.begin) {
      return wrong(at, absl::StrCat("the directory should be ", directory.size, " bytes from ", directory.begin, " and end at ", directory.end));
    }
    if (directory.count > directory.size / kCentralSize) return wrong(at, absl::StrCat(directory.count, " members in a directory of ", directory.size, " bytes"));
    return directory;
  }
  return wrong(file.size() - kEndSize, "no end record; the file is truncated or no zip archive");
}

absl::Status check_name(std::uint64_t at, std::string_view name) {
  const auto refused = [&](const char* why) { return wrong(at, absl::StrCat("member \"", shown(name), "\": ", why)); };
  if (name.empty() || name.front() == '/') return refused("names must be relative");
  for (const char character : name) {
    if (static_cast<unsigned char>(character) < ' ' || character == '\\' || character == 0x7f) return refused("a backslash or control character in a name");
  }
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('/', begin), name.size());
    if (name.substr(begin, end - begin) == "..") return refused("`..` in a name");
    begin = end + 1;
  }
  return absl::OkStatus();
}

struct Entry {
  Member member{};
  std::uint64_t header = 0;  ///< of its local header
};

/// One entry of the directory at `at`, which is moved behind it.
absl::StatusOr<Entry> read_entry(std::string_view file, const Directory& directory, std::uint64_t& at) {
  if (directory.end - at < kCentralSize || number(file, at, 4) != kCentralSignature) return wrong(at, "not an entry of the directory");
  const std::uint64_t name_size = number(file, at + 28, 2), extra_size = number(file, at + 30, 2), comment_size = number(file, at + 32, 2);
  if (directory.end - at - kCentralSize < name_size + extra_size + comment_size) return wrong(at, "an entry that leaves the directory");
  Entry entry;
  const std::string name(file.substr(at + kCentralSize, name_size));
  if (absl::Status status = check_name(at, name); !status.ok()) return status;
  entry.member.name = name;
  const auto refused = [&](const std::string& why) { return wrong(at, absl::StrCat("member \"", shown(name), "\": ", why)); };
  if ((number(file, at + 8, 2) & kEncrypted) != 0) return refused("it is encrypted");
  const std::uint64_t method = number(file, at + 10, 2);
  entry.member.compressed = method != 0;
  std::uint64_t compressed = number(file, at + 20, 4);
  entry.member.size = number(file, at + 24, 4);
  entry.header = number(file, at + 42, 4);
  // Sizes of 4 GB and more stand in the zip64 field, in this order, only those that do not fit.
  const std::uint64_t extra_end = at + kCentralSize + name_size + extra_size;
  for (std::uint64_t field = at + kCentralSize + name_size; extra_end - field >= 4;) {
    const std::uint64_t id = number(file, field, 2), size = number(file, field + 2, 2);
    if (extra_end - field - 4 < size) return refused("an extra field that leaves its entry");
    if (id == kZip64Extra) {
      std::uint64_t value = field + 4;
      for (std::uint64_t* target : {&entry.member.size, &compressed, &entry.header}) {
        if (*target != kIn64) continue;
        if (field + 4 + size - value < 8) return refused("a zip64 field that is too short");
        *target = number(file, value, 8);
        value += 8;
      }
    }
    field += 4 + size;
  }
  if (!entry.member.compressed && compressed != entry.member.size) return refused(absl::StrCat(compressed, " bytes stored for ", entry.member.size));
  entry.member.size = compressed;
  if (entry.header >= directory.begin || directory.begin - entry.header < kLocalSize || number(file, entry.header, 4) != kLocalSignature) return refused(absl::StrCat("its header is not at ", entry.header));
  const std::uint64_t local_name = number(file, entry.header + 26, 2), local_extra = number(file, entry.header + 28, 2);
  if (number(file, entry.header + 8, 2) != method) return refused("its own header names another compression");
  const std::uint64_t room = directory.begin - entry.header - kLocalSize;
  if (room < local_name + local_extra || room - local_name - local_extra < entry.member.size) {
    return refused(absl::StrCat(entry.member.size, " bytes from ", entry.header, " do not fit before the directory at ", directory.begin));
  }
  if (file.substr(entry.header + kLocalSize, local_name) != name) return refused("its own header has another name");
  entry.member.begin = entry.header + kLocalSize + local_name + local_extra;
  at += kCentralSize + name_size + extra_size + comment_size;
  return entry;
}

}  // namespace

absl::StatusOr<std::vector<Member>> read_directory(std::string_view file) {
  absl::StatusOr<Directory> directory = find_directory(file);
  if (!directory.ok()) return directory.status();
  std::vector<Entry> entries;
  std::set<std::string_view> names;
  entries.reserve(directory->count);
  std::uint64_t at = directory->begin;
  for (std::uint64_t i = 0; i < directory->count; ++i) {
    absl::StatusOr<Entry> entry = read_entry(file, *directory, at);
    if (!entry.ok()) return entry.status();
    entries.push_back(std::move(*entry));
    if (!names.insert(entries.back().member.name).second) return wrong(entries.back().header, absl::StrCat("two members are named \"", shown(entries.back().member.name), "\""));
  }
  if (at != directory->end) return wrong(at, "bytes between the directory and its end record");
  std::vector<const Entry*> in_order;
  for (const Entry& entry : entries) in_order.push_back(&entry);
  std::sort(in_order.begin(), in_order.end(), [](const Entry* a, const Entry* b) { return a->header < b->header; });
  for (std::size_t i = 1; i < in_order.size(); ++i) {
    const Member& before = in_order[i - 1]->member;
    if (in_order[i]->header < before.begin + before.size) return wrong(in_order[i]->header, absl::StrCat("members \"", shown(before.name), "\" and \"", shown(in_order[i]->member.name), "\" overlap"));
  }
  std::vector<Member> members;
  members.reserve(entries.size());
  for (Entry& entry : entries) members.push_back(std::move(entry.member));
  return members;
}

}  // namespace fgvl::zip
