#include "fgvl/core/files.hpp"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

namespace fgvl {
namespace {

absl::Status system_error(const std::string& path, const char* action, int error) {
  const std::string message = absl::StrCat(path, ": cannot ", action, ": ", std::strerror(error));
  switch (error) {
    case ENOENT: return absl::NotFoundError(message);
    case ENOSPC:
    case EDQUOT: return absl::ResourceExhaustedError(absl::StrCat(message, " (free some space, or choose another folder)"));
    case EACCES:
    case EPERM:
    case EROFS: return absl::PermissionDeniedError(message);
    default: return absl::UnavailableError(message);
  }
}

/// Closes on every way out.
struct File {
  int descriptor;
  ~File() {
    if (descriptor >= 0) ::close(descriptor);
  }
};

/// Whether FGVL_FAULT asks for `kind` ("enospc:", "kill:") at this path.
bool fault_injected(std::string_view kind, const std::string& path) {
  const char* fault = std::getenv("FGVL_FAULT");
  return fault != nullptr && std::string_view(fault).starts_with(kind) && path.find(fault + kind.size()) != std::string::npos;
}

int sync_folder(const std::string& path) {
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  File folder{::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  return folder.descriptor < 0 || ::fsync(folder.descriptor) != 0 ? errno : 0;
}

/// All of `content`; false with errno set where that fails.
bool write_whole(int descriptor, std::string_view content) {
  while (!content.empty()) {
    const ssize_t count = ::write(descriptor, content.data(), content.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return false;
    content.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

}  // namespace

absl::StatusOr<std::string> read_file(const std::string& path) {
  File file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.descriptor < 0) return system_error(path, "open", errno);
  struct stat info {};
  if (::fstat(file.descriptor, &info) != 0) return system_error(path, "read", errno);
  if (S_ISDIR(info.st_mode)) return system_error(path, "read", EISDIR);
  std::string content;
  content.reserve(static_cast<std::size_t>(info.st_size));
  char buffer[1 << 16];
  for (;;) {
    const ssize_t count = ::read(file.descriptor, buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return system_error(path, "read", errno);
    if (count == 0) return content;
    content.append(buffer, static_cast<std::size_t>(count));
  }
}

absl::Status append_to_file(const std::string& path, std::string_view text) {
  if (fault_injected("enospc:", path)) return system_error(path, "write", ENOSPC);
  File file{::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)};
  if (file.descriptor < 0) return system_error(path, "open", errno);
  return write_whole(file.descriptor, text) ? absl::OkStatus() : system_error(path, "write", errno);
}

absl::Status write_file_atomically(const std::string& path, std::string_view content) { return write_file_atomically(path, std::vector<std::string_view>{content}); }

absl::Status write_file_atomically(const std::string& path, const std::vector<std::string_view>& pieces) {
  if (fault_injected("enospc:", path)) return system_error(path, "write", ENOSPC);
  const std::string beside = absl::StrCat(path, ".tmp-", ::getpid());
  const auto failed = [&](const char* action) {
    const int error = errno;
    ::unlink(beside.c_str());
    return system_error(path, action, error);
  };
  File file{::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)};
  if (file.descriptor < 0) return system_error(path, "create", errno);
  const bool killed = fault_injected("kill:", path);
  for (const std::string_view content : pieces) {
    if (killed) {
      write_whole(file.descriptor, content.substr(0, content.size() / 2));
      std::raise(SIGKILL);
    }
    if (!write_whole(file.descriptor, content)) return failed("write");
  }
  if (::fsync(file.descriptor) != 0) return failed("sync");
  if (::rename(beside.c_str(), path.c_str()) != 0) return failed("rename into place");
  if (const int error = sync_folder(path)) return system_error(path, "sync the folder of", error);
  return absl::OkStatus();
}

std::string hash_bytes(std::string_view bytes) { return absl::StrFormat("%016x", XXH64(bytes.data(), bytes.size(), 0)); }

}  // namespace fgvl
