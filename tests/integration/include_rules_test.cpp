// The modules' dependency direction and the cost rules of public headers, read from the #include lines.
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>

#include "support/catch.hpp"

namespace {

namespace fs = std::filesystem;

/// What each module may include of fgvl.
const std::map<std::string, std::set<std::string>> kMayInclude = {
    {"core", {"core"}},
    {"losses", {"core", "losses"}},
    {"models", {"core", "models"}},
    {"data", {"core", "data"}},
    {"train", {"core", "data", "models", "losses", "train"}},
    {"eval", {"core", "data", "models", "losses", "train", "eval"}},
};
/// Only what is read here may know YAML, Abseil or files.
const std::set<std::string> kConfigHeaders = {"core/checkpoint_file.hpp", "core/config.hpp", "core/files.hpp", "core/safetensors.hpp", "core/status.hpp"};

struct Include {
  fs::path file;
  std::string what;
};

std::vector<Include> includes_below(const fs::path& folder) {
  std::vector<Include> includes;
  static const std::regex kInclude("^\\s*#\\s*include\\s*[<\"]([^>\"]+)[>\"]");
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream stream(entry.path());
    std::smatch match;
    for (std::string line; std::getline(stream, line);) {
      if (std::regex_search(line, match, kInclude)) includes.push_back({entry.path(), match[1]});
    }
  }
  return includes;
}

TEST_CASE("modules include only what stands below them", "[rules]") {
  const fs::path root = FGVL_SOURCE_DIR;
  int checked = 0;
  for (const auto& [module, allowed] : kMayInclude) {
    for (const fs::path& folder : {root / "include" / "fgvl" / module, root / "src" / module}) {
      for (const Include& include : includes_below(folder)) {
        INFO(include.file.string() << " includes " << include.what);
        const std::string what = include.what.rfind("fgvl/", 0) == 0 ? include.what.substr(5) : include.what;
        const std::string other = what.substr(0, what.find('/'));
        if (kMayInclude.count(other) == 0 || what == other) continue;
        CHECK(allowed.count(other) == 1);
        if (module == "losses" || module == "models") CHECK(kConfigHeaders.count(what) == 0);
        ++checked;
      }
    }
  }
  CHECK(checked > 100);
}

TEST_CASE("public headers stay cheap and keep other people's types private", "[rules]") {
  int checked = 0;
  for (const Include& include : includes_below(fs::path(FGVL_SOURCE_DIR) / "include")) {
    INFO(include.file.string() << " includes " << include.what);
    CHECK(include.what != "torch/torch.h");
    for (const char* foreign : {"opencv2/", "yaml-cpp/", "nlohmann/", "simdjson", "pugixml", "turbojpeg", "unicode/", "CLI/", "torch/csrc/distributed"}) CHECK(include.what.rfind(foreign, 0) != 0);
    ++checked;
  }
  CHECK(checked > 50);
}

}  // namespace
