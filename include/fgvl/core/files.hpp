#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "fgvl/core/status.hpp"

namespace fgvl {

/// The whole file. Messages name the path and the system's reason.
absl::StatusOr<std::string> read_file(const std::string& path);

/// Writes beside `path`, syncs file and folder, then renames: readers see the old content or the new, never a part.
/// A full disk is ResourceExhausted. FGVL_FAULT=enospc:SUBSTRING in the environment makes writes to paths that contain SUBSTRING
/// fail as on a full disk, so that programs can be tested without one; kill:SUBSTRING ends the process in the middle of such a write.
absl::Status write_file_atomically(const std::string& path, std::string_view content);
/// The pieces one after another.
absl::Status write_file_atomically(const std::string& path, const std::vector<std::string_view>& pieces);

/// Adds to the end of a file, making it where there is none. Fails, and obeys FGVL_FAULT, as write_file_atomically does.
absl::Status append_to_file(const std::string& path, std::string_view text);

/// 16 hexadecimal digits, XXH64 of the bytes.
std::string hash_bytes(std::string_view bytes);

}  // namespace fgvl
