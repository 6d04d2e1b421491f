#include "core/mapped_file.hpp"

#include <cerrno>
#include <cstring>

#include <absl/strings/str_cat.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace fgvl {
namespace {

absl::Status open_error(const std::string& path, int error) {
  const std::string message = absl::StrCat(path, ": cannot open: ", std::strerror(error));
  const absl::Status status = error == ENOENT || error == ENOTDIR ? absl::NotFoundError(message) : error == EACCES || error == EPERM ? absl::PermissionDeniedError(message) : absl::UnavailableError(message);
  return with_exit_code(status, ExitCode::kCheckpoint);
}

}  // namespace

absl::StatusOr<std::shared_ptr<const MappedFile>> MappedFile::open(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // O_NONBLOCK: a named pipe must not wait for a writer
  if (file < 0) return open_error(path, errno);
  struct stat info {};
  if (::fstat(file, &info) != 0) {
    const int error = errno;
    ::close(file);
    return open_error(path, error);
  }
  if (!S_ISREG(info.st_mode)) {
    ::close(file);
    return with_exit_code(absl::InvalidArgumentError(absl::StrCat(path, ": not a regular file")), ExitCode::kCheckpoint);
  }
  const auto size = static_cast<std::size_t>(info.st_size);
  if (size == 0) {
    ::close(file);
    return std::shared_ptr<const MappedFile>(new MappedFile(nullptr, 0));
  }
  // Writable, since nothing stops a user from writing to a tensor, and private, so that the file never changes. NORESERVE: pages that are not written need no swap space.
  void* data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, file, 0);
  const int error = errno;
  ::close(file);
  if (data == MAP_FAILED) return open_error(path, error);
  return std::shared_ptr<const MappedFile>(new MappedFile(static_cast<char*>(data), size));
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

void MappedFile::release(const void* begin, std::size_t size) const {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto first = reinterpret_cast<std::uintptr_t>(begin), own = reinterpret_cast<std::uintptr_t>(data_);
  if (first < own || first - own > size_ || size > size_ - (first - own)) return;
  const std::uintptr_t from = (first + page - 1) / page * page, to = (first + size) / page * page;
  if (from < to) ::madvise(reinterpret_cast<void*>(from), to - from, MADV_DONTNEED);
}

}  // namespace fgvl
