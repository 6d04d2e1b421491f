#pragma once
#include <filesystem>
#include <string>

#include <absl/strings/str_cat.h>

#include "fgvl/core/status.hpp"

namespace fgvl::data {

/// An error when `path` is not a folder; `what` says whose folder it is and which key names it.
inline absl::Status check_folder(const std::filesystem::path& path, const std::string& what) {
  if (path.empty()) return with_exit_code(absl::NotFoundError(absl::StrCat(what, ": none was given; set this key in the configuration, or behind it on the command line (key=FOLDER)")), ExitCode::kData);
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return absl::OkStatus();
  return with_exit_code(absl::NotFoundError(absl::StrCat(path.string(), ": ", what, std::filesystem::exists(path, error) ? " is not a folder" : " does not exist")), ExitCode::kData);
}

inline absl::Status data_error(const std::string& place, const std::string& what) {
  return with_exit_code(absl::DataLossError(absl::StrCat(place, ": ", what)), ExitCode::kData);
}

}  // namespace fgvl::data
