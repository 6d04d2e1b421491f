// Position tables for another size, against zengyan-97/X-VLM cb4fff1 (interpolate_pos_embed, interpolate_relative_pos_embed).
#include <fstream>
#include <map>

#include <nlohmann/json.hpp>
#include <torch/torch.h>

#include "fgvl/core/safetensors.hpp"
#include "fgvl/models/interpolate.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

namespace fgvl {
namespace {

TEST_CASE("position tables are interpolated as the official code does", "[golden]") {
  const std::filesystem::path folder = test::golden_dir() / "interp";
  FGVL_SKIP_UNLESS(!test::golden_dir().empty() && std::filesystem::exists(folder), "golden values");
  std::ifstream stream(folder / "position_interpolation.json");
  const nlohmann::json cases = nlohmann::json::parse(stream)["cases"];
  auto read = read_safetensors((folder / "position_interpolation.safetensors").string());
  REQUIRE(read.ok());
  const std::map<std::string, Tensor> tensors(read->begin(), read->end());
  REQUIRE(cases.size() > 0);
  for (const auto& one : cases) {
    const std::string name = one["name"];
    INFO(name);
    const Tensor &in = tensors.at("in." + name), &expected = tensors.at("out." + name);
    const Tensor ours = one["kind"] == "pos_embed" ? models::interpolate_position_embedding(in, one["dst_grid"]) : models::interpolate_relative_position_bias(in, one["dst_window"]);
    REQUIRE(ours.sizes() == expected.sizes());
    CHECK(ours.scalar_type() == at::kFloat);
    CHECK((ours - expected).abs().max().item<double>() <= 1e-6);  // values reach 3.4, float32
  }
}

}  // namespace
}  // namespace fgvl
