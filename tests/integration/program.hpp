#pragma once
/// The program, run as a user runs it.
#include <string>
#include <vector>

#include <sys/types.h>

#include "support/folders.hpp"

namespace fgvl::test {

namespace fs = std::filesystem;
using Arguments = std::vector<std::string>;

std::string read(const fs::path& path);

/// What a program meets beside its arguments.
struct Surroundings {
  std::string fault{};            ///< FGVL_FAULT
  std::uint64_t memory_bytes = 0; ///< address space; 0: all
  bool terminal = false;          ///< standard error is a terminal, whose output goes to the file
};

/// A started program in `folder`; its output goes to a file.
struct Process {
  pid_t pid = 0;
  fs::path output;
  int terminal = -1;

  Process(const fs::path& folder, const Arguments& arguments, const Surroundings& surroundings = {});
  /// Its exit code, or the negative number of the signal that ended it.
  int wait() const;
};

struct Outcome {
  int code;
  std::string output;
};
Outcome fgvl(const fs::path& folder, const Arguments& arguments, const Surroundings& surroundings = {});

/// A folder with config.yaml and a VOC dataset of 16 small pictures.
fs::path project(const std::string& name);

}  // namespace fgvl::test
