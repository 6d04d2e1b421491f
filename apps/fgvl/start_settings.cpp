#include <array>
#include <cstddef>
#include <cstring>

#include <unistd.h>

// Note [Settings that are read at the start]
// OpenMP and the C library read settings of theirs when a process starts, so that the program sets them and starts itself once more.
// Threads that wait for one another must soon sleep, not spin: where anything else runs on the machine, spinning makes a step many times slower. Some tens of microseconds of spinning are worth it, since most
// waits are that short.
// Memory that was freed stays with the process, in huge pages where the system has them: a training step frees and takes the same large tensors again, and glibc's defaults give each above 32 MB back to the
// system, which fills it with zeros page by page the next time. That was 10 to 15 % of a step on a CPU (docs/benchmarks.md). Settings of the user's own win.
// This comes before the constructors of shared libraries, which in LibTorch take most of a start and would run twice. Nothing but the plainest functions of the C library works so early.
namespace {

struct Setting {
  const char* name;
  const char* decides_too;  ///< a variable that says as much where the user sets it
  const char* assignment;
};
constexpr std::array kSettings = {
    Setting{"OMP_WAIT_POLICY", "OMP_WAIT_POLICY", "OMP_WAIT_POLICY=passive"},
    Setting{"GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT=10000"},
    Setting{"GLIBC_TUNABLES", "GLIBC_TUNABLES", "GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184:glibc.malloc.top_pad=67108864"},
};

bool is_set(const char* name, char** environment) {
  const std::size_t length = std::strlen(name);
  for (; *environment != nullptr; ++environment) {
    if (std::strncmp(*environment, name, length) == 0 && (*environment)[length] == '=') return true;
  }
  return false;
}

void start_with_settings(int, char** argv, char** environment) {
  constexpr std::size_t kMostVariables = 8192;  // there is no heap yet
  static std::array<char*, kMostVariables + 1> extended;
  std::size_t count = 0;
  bool complete = true;
  for (const Setting& setting : kSettings) {
    if (is_set(setting.name, environment) || is_set(setting.decides_too, environment)) continue;
    complete = false;
    extended[count++] = const_cast<char*>(setting.assignment);
  }
  if (complete) return;
  for (; *environment != nullptr; ++environment) {
    if (count == kMostVariables) return;
    extended[count++] = *environment;
  }
  execve("/proc/self/exe", argv, extended.data());  // returns only where that is not possible; then the program goes on as it is
}

using AtStart = void (*)(int, char**, char**);
[[gnu::section(".preinit_array"), gnu::used]] const AtStart at_start = start_with_settings;

}  // namespace
