#pragma once
#include <algorithm>
#include <fstream>
#include <vector>

#include <nlohmann/json.hpp>

#include "support/shared.hpp"

namespace fgvl::test {

/// One JSON file of golden values.
struct Fixture {
  std::filesystem::path path;
  nlohmann::json json;
};

/// Files below the golden folder with this extension, sorted. Fixtures are found by what they hold, so that a file dropped there is tested without a change of code.
inline std::vector<std::filesystem::path> golden_files(const std::string& extension) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(golden_dir())) {
    if (entry.path().extension() == extension) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

/// Every JSON object below the golden folder that has `key`.
inline std::vector<Fixture> golden_json(const std::string& key) {
  std::vector<Fixture> fixtures;
  for (const auto& path : golden_files(".json")) {
    std::ifstream stream(path);
    nlohmann::json json = nlohmann::json::parse(stream);
    if (json.is_object() && json.contains(key)) fixtures.push_back({path, std::move(json)});
  }
  return fixtures;
}

/// Every file of JSON lines whose first line has all of `keys`.
inline std::vector<std::filesystem::path> golden_lines(const std::vector<std::string>& keys) {
  std::vector<std::filesystem::path> found;
  for (const auto& path : golden_files(".jsonl")) {
    std::ifstream stream(path);
    std::string line;
    if (!std::getline(stream, line)) continue;
    const auto first = nlohmann::json::parse(line);
    if (std::all_of(keys.begin(), keys.end(), [&](const std::string& key) { return first.contains(key); })) found.push_back(path);
  }
  return found;
}

}  // namespace fgvl::test

/// Skips where nobody has golden values. A folder that somebody names but that is not there is a failure.
#define FGVL_NEEDS_GOLDEN()                                                       \
  if (std::getenv("FGVL_GOLDEN") != nullptr || std::getenv("FGVL_SHARED") != nullptr) { \
    INFO("FGVL_GOLDEN or FGVL_SHARED names " << fgvl::test::golden_dir());        \
    REQUIRE(std::filesystem::is_directory(fgvl::test::golden_dir()));             \
  }                                                                               \
  FGVL_SKIP_UNLESS(!fgvl::test::golden_dir().empty(), "golden values")
