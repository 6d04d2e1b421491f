#pragma once
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace fgvl::zip {

/// CRC-32 of IEEE 802.3, as zip uses it.
std::uint32_t crc32(std::string_view bytes);

/// A zip archive of stored members, as pieces to be written one after another. What is added by view must outlive the writer.
class Writer {
 public:
  /// `force_64`: use zip64 fields also where sizes would fit without (for tests; otherwise a test would need 4 GB).
  explicit Writer(bool force_64 = false) : force_64_(force_64) {}

  /// The content begins at a multiple of 64 bytes, as in PyTorch's own files, so that tensors can be mapped.
  void add(const std::string& name, std::string_view content);
  void add_copy(const std::string& name, std::string content);
  /// Writes the directory; call once, at the end.
  const std::vector<std::string_view>& finish();

 private:
  struct Entry {
    std::string name{};
    std::uint64_t header = 0, size = 0;
    std::uint32_t crc = 0;
  };
  void append(std::string bytes);
  bool large(std::uint64_t value) const { return force_64_ || value >= 0xffffffff; }

  bool force_64_;
  std::uint64_t position_ = 0;
  std::vector<Entry> entries_{};
  std::deque<std::string> owned_{};  // a deque: views of its elements stay valid
  std::vector<std::string_view> pieces_{};
};

}  // namespace fgvl::zip
