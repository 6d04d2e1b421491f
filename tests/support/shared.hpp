#pragma once
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <string>

namespace fgvl::test {

/// The folder with golden values and real data: $FGVL_SHARED, default `../shared` beside the project; empty where nobody named one and there is none.
inline std::filesystem::path shared_dir() {
  const char* given = std::getenv("FGVL_SHARED");
  if (given != nullptr) return given;  // named but absent is a failure of the tests that need it, not a reason to skip them
  const std::filesystem::path path = std::filesystem::path(FGVL_SOURCE_DIR).parent_path() / "shared";
  return std::filesystem::exists(path) ? path : std::filesystem::path();
}

/// $FGVL_GOLDEN, default $FGVL_SHARED/golden; empty where there is none.
inline std::filesystem::path golden_dir() {
  if (const char* given = std::getenv("FGVL_GOLDEN")) return given;
  const std::filesystem::path shared = shared_dir();
  return shared.empty() ? shared : shared / "golden";
}

}  // namespace fgvl::test

/// Ends a test case, with a message, where the shared folder is absent.
#define FGVL_SKIP_UNLESS(condition, what)                                      \
  if (!(condition)) {                                                          \
    std::cout << "SKIPPED: " << (what) << " (set FGVL_SHARED)" << std::endl;   \
    SUCCEED("skipped");                                                        \
    return;                                                                    \
  }                                                                            \
  static_assert(true)
