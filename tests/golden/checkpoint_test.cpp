// golden/xvlm: the files as the official code saves them, in zip and legacy form.
#include <algorithm>
#include <cstring>
#include <fstream>
#include <map>

#include <nlohmann/json.hpp>
#include <torch/torch.h>

#include "fgvl/core/checkpoint_file.hpp"
#include "fgvl/models/pretrained.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

namespace fgvl {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using Tensors = std::map<std::string, Tensor>;

std::vector<fs::path> official_files() {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(test::golden_dir() / "xvlm")) {
    if (entry.path().extension() == ".th") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

CheckpointFile opened(const fs::path& path) {
  auto file = open_checkpoint(path.string());
  INFO(file.status());
  REQUIRE(file.ok());
  return std::move(*file);
}

/// Shape, dtype and every byte.
void check_same_bytes(const NamedTensors& ours, const Tensors& expected) {
  REQUIRE(ours.size() == expected.size());
  for (const auto& [name, tensor] : ours) {
    INFO(name);
    REQUIRE(expected.count(name) == 1);
    const Tensor a = tensor.contiguous(), b = expected.at(name).contiguous();
    REQUIRE(a.sizes() == b.sizes());
    REQUIRE(a.scalar_type() == b.scalar_type());
    CHECK(std::memcmp(a.const_data_ptr(), b.const_data_ptr(), a.nbytes()) == 0);
  }
}

/// "xvlm_clip_l1" of "xvlm_clip_l1.legacy.th".
std::string fixture_name(const fs::path& path) { return path.filename().string().substr(0, path.filename().string().find('.')); }

TEST_CASE("official checkpoints: zip and legacy files hold the golden weights and the configuration", "[golden]") {
  FGVL_SKIP_UNLESS(!test::golden_dir().empty(), "golden values");
  int files = 0, tensors = 0;
  for (const fs::path& path : official_files()) {
    INFO(path);
    const CheckpointFile file = opened(path);
    CHECK(file.format == (path.string().find(".legacy.") != std::string::npos ? CheckpointFormat::kTorchLegacy : CheckpointFormat::kTorchZip));
    CHECK(file.section == "model");
    const CheckpointFile golden = opened(path.parent_path() / (fixture_name(path) + ".weights.safetensors"));
    Tensors expected;
    for (const auto& [name, tensor] : golden.tensors) expected[name.substr(std::string("model.").size())] = tensor;
    check_same_bytes(file.tensors, expected);
    std::ifstream stream(path.parent_path() / (fixture_name(path) + ".json"));
    CHECK(Json::parse(file.config_json) == Json::parse(stream)["checkpoint_config"]);
    ++files;
    tensors += static_cast<int>(file.tensors.size());
  }
  std::cout << "official checkpoints: " << files << " files, " << tensors << " tensors compared" << std::endl;
  CHECK(files > 0);
}

TEST_CASE("official -> fgvl -> official gives every tensor back byte for byte, through safetensors and .th", "[golden]") {
  FGVL_SKIP_UNLESS(!test::golden_dir().empty(), "golden values");
  const models::NameMap &xvlm = *models::find_name_map("xvlm"), &fgvl = *models::find_name_map("fgvl");
  const fs::path folder = fs::temp_directory_path() / "fgvl_golden_checkpoint_test";
  fs::create_directories(folder);
  int files = 0;
  for (const fs::path& path : official_files()) {
    INFO(path);
    const CheckpointFile original = opened(path);
    std::vector<std::string> names;
    for (const auto& [name, tensor] : original.tensors) names.push_back(name);
    REQUIRE(models::recognise(names) == &xvlm);
    const models::Translated ours = models::translate(original.tensors, xvlm, fgvl);
    INFO(Json(ours.problems).dump());
    REQUIRE(ours.problems.empty());
    const std::string between = (folder / "model.safetensors").string(), back = (folder / "back.th").string();
    REQUIRE(write_safetensors(between, ours.tensors, {{"config", original.config_json}}).ok());
    const CheckpointFile middle = opened(between);
    const models::Translated official = models::translate(middle.tensors, fgvl, xvlm);
    REQUIRE(official.problems.empty());
    REQUIRE(write_torch_file(back, official.tensors, {.config_json = middle.config_json}).ok());
    const CheckpointFile returned = opened(back);
    check_same_bytes(returned.tensors, {original.tensors.begin(), original.tensors.end()});
    CHECK(Json::parse(returned.config_json) == Json::parse(original.config_json));
    ++files;
  }
  std::cout << "official checkpoints: " << files << " files there and back" << std::endl;
  CHECK(files > 0);
}

}  // namespace
}  // namespace fgvl
