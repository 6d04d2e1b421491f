// golden/xvlm, albef, blip and pevl: official weights there and back; X-VLM's as files that the official code saves, in zip and legacy form.
#include <algorithm>
#include <cstring>
#include <fstream>
#include <map>

#include <nlohmann/json.hpp>
#include <torch/torch.h>

#include "fgvl/core/checkpoint_file.hpp"
#include "fgvl/core/glob.hpp"
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

/// Golden weights under the names of an official checkpoint.
NamedTensors without_prefix(const CheckpointFile& golden) {
  NamedTensors tensors;
  for (const auto& [name, tensor] : golden.tensors) tensors.emplace_back(name.substr(std::string("model.").size()), tensor);
  return tensors;
}

/// Official weights as ours, in a safetensors file, and from that as official ones, in a .th file, which is returned. `left_out`: what ours do not have.
CheckpointFile there_and_back(const NamedTensors& official, const std::string& config_json, const models::NameMap& family, std::vector<std::string>* left_out = nullptr) {
  const fs::path folder = fs::temp_directory_path() / "fgvl_golden_checkpoint_test";
  fs::create_directories(folder);
  const models::NameMap& fgvl = *models::find_name_map("fgvl");
  REQUIRE(models::recognise(models::names_of(official)) == &family);
  const models::Translated ours = models::translate(official, family, fgvl);
  INFO(Json(ours.problems).dump());
  REQUIRE(ours.problems.empty());
  if (left_out != nullptr) *left_out = ours.left_out;
  const std::string between = (folder / "model.safetensors").string(), back = (folder / "back.th").string();
  REQUIRE(write_safetensors(between, ours.tensors, {{"config", config_json}}).ok());
  const CheckpointFile middle = opened(between);
  const models::Translated returned = models::translate(middle.tensors, fgvl, family);
  REQUIRE(returned.problems.empty());
  REQUIRE(write_torch_file(back, returned.tensors, {.config_json = middle.config_json}).ok());
  return opened(back);
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
    const NamedTensors expected = without_prefix(golden);
    check_same_bytes(file.tensors, {expected.begin(), expected.end()});
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
  int files = 0;
  for (const fs::path& path : official_files()) {
    INFO(path);
    const CheckpointFile original = opened(path);
    const CheckpointFile returned = there_and_back(original.tensors, original.config_json, *models::find_name_map("xvlm"));
    check_same_bytes(returned.tensors, {original.tensors.begin(), original.tensors.end()});
    CHECK(Json::parse(returned.config_json) == Json::parse(original.config_json));
    ++files;
  }
  std::cout << "official checkpoints: " << files << " files there and back" << std::endl;
  CHECK(files > 0);
}

TEST_CASE("ALBEF's, BLIP's and PEVL's weights come back byte for byte, all but the named state of their objective", "[golden]") {
  FGVL_SKIP_UNLESS(!test::golden_dir().empty(), "golden values");
  int files = 0;
  for (const std::string family : {"albef", "blip", "pevl"}) {
    const models::NameMap& names = *models::find_name_map(family);
    for (const auto& entry : fs::directory_iterator(test::golden_dir() / family)) {
      if (entry.path().string().find(".weights.safetensors") == std::string::npos) continue;
      INFO(entry.path());
      const CheckpointFile golden = opened(entry.path());
      const NamedTensors official = without_prefix(golden);
      std::vector<std::string> left_out;
      const CheckpointFile returned = there_and_back(official, "{}", names, &left_out);
      Tensors kept(official.begin(), official.end());
      for (const std::string& name : left_out) {
        INFO(name);
        CHECK(matches_any(names.objective_state, name));
        CHECK(kept.erase(name) == 1);
      }
      for (const auto& [name, tensor] : kept) CHECK_FALSE(matches_any(names.objective_state, name));
      check_same_bytes(returned.tensors, kept);
      ++files;
    }
  }
  std::cout << "ALBEF and PEVL: " << files << " files there and back" << std::endl;
  CHECK(files > 0);
}

}  // namespace
}  // namespace fgvl
