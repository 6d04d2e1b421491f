#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

namespace fgvl::zip {

/// A member of a zip archive: bytes [begin, begin + size) of the file.
struct Member {
  std::string name{};
  std::uint64_t begin = 0, size = 0;
  bool compressed = false;  ///< its bytes are not its content, and nothing here decompresses them
};

/// The members of an archive (PKWARE APPNOTE 6.3.10, with zip64). Refused: encrypted members, members that overlap one another or the directory, lie
/// outside the file or have two names, and names that are absolute, hold `..`, a backslash or a control character. InvalidArgument names member and byte.
/// Members are mapped, not unpacked: a reader of our own gives their places, which archive libraries hide behind streams and copies, and needs no decompressor.
/// Checksums are not computed: that would read every weight once more, and PyTorch's own reader does not either.
absl::StatusOr<std::vector<Member>> read_directory(std::string_view file);

}  // namespace fgvl::zip
