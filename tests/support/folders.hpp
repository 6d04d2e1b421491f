#pragma once
#include <filesystem>
#include <string>

#include <unistd.h>

namespace fgvl::test {

/// This process's own folder below the system's temporary one, so that two builds or two users never meet; removed at the end.
class ScratchFolder {
 public:
  ScratchFolder() : owner_(getpid()), path_(std::filesystem::temp_directory_path() / ("fgvl_test_" + std::to_string(owner_))) { std::filesystem::create_directories(path_); }
  ~ScratchFolder() {
    std::error_code error;
    if (getpid() == owner_) std::filesystem::remove_all(path_, error);  // not in a forked child
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  pid_t owner_;
  std::filesystem::path path_;
};

/// A path in it, with nothing there.
inline std::filesystem::path fresh_path(const std::string& name) {
  static const ScratchFolder scratch;
  const auto path = scratch.path() / name;
  std::filesystem::remove_all(path);
  return path;
}

/// An empty folder in it.
inline std::filesystem::path fresh_folder(const std::string& name) {
  const auto path = fresh_path(name);
  std::filesystem::create_directories(path);
  return path;
}

}  // namespace fgvl::test
