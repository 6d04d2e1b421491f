// BEiT-2 against X2-VLM's (zengyan-97/X2-VLM 21ed5a5, models/beit2.py), whose values lie below tests/reference/beit; tests/reference/beit.py made them.
#include <filesystem>
#include <fstream>
#include <map>

#include <nlohmann/json.hpp>
#include <torch/torch.h>

#include "fgvl/core/safetensors.hpp"
#include "fgvl/models/beit.hpp"
#include "fgvl/models/interpolate.hpp"
#include "fgvl/models/pretrained.hpp"
#include "golden/visual_rows.hpp"
#include "models/dropout.hpp"
#include "support/catch.hpp"

namespace fgvl {
namespace {

using Json = nlohmann::json;
using Tensors = std::map<std::string, Tensor>;

std::filesystem::path fixture_path(const std::string& name) { return std::filesystem::path(FGVL_SOURCE_DIR) / "tests" / "reference" / "beit" / name; }

Json description() {
  std::ifstream stream(fixture_path("beit.json"));
  return Json::parse(stream);
}

Tensors read(const std::string& name) {
  const auto tensors = read_safetensors(fixture_path(name).string());
  INFO(tensors.status().ToString());
  REQUIRE(tensors.ok());
  return {tensors->begin(), tensors->end()};
}

models::BeitOptions options_of(const Json& json) {
  return {.image_size = json["img_size"], .patch_size = json["patch_size"], .width = json["embed_dim"], .layers = json["depth"], .heads = json["num_heads"], .mlp_ratio = json["mlp_ratio"],
          .init_values = json["init_values"], .relative_positions = json["use_shared_rel_pos_bias"].get<bool>() ? models::RelativePositions::kShared : models::RelativePositions::kBlock, .drop_path = 0};
}

/// The official weights in an encoder of ours: nothing missing, nothing unexpected, and tables of indices that follow from the sizes.
models::VisionEncoderPtr load(const models::BeitOptions& options, const Tensors& fixture) {
  models::VisionEncoderPtr vision = make_vision_encoder(options);
  std::vector<std::pair<std::string, Tensor>> official;
  for (const auto& [name, value] : fixture) {
    if (name.rfind("model.", 0) == 0) official.emplace_back("vision_encoder." + name.substr(6), value);
  }
  const models::LoadReport report = models::load_named(models::named_state(*vision, "model.vision_encoder."), official, {.names = models::find_name_map("xvlm")});
  INFO(report.table());
  REQUIRE(report.ok());
  const auto derived = models::derived_tensors(options);
  CHECK(report.count(models::LoadOutcome::kDerived) == static_cast<std::int64_t>(derived.size()));
  for (const auto& [name, value] : derived) {
    INFO(name);
    REQUIRE(fixture.count("model." + name) == 1);
    CHECK(at::equal(value, fixture.at("model." + name)));
  }
  return vision;
}

struct Outputs {
  Tensor region_embeds, image_embeds, loss;
};

Outputs run(models::VisionEncoder& vision, const Tensors& fixture, at::ScalarType dtype) {
  vision.to(dtype);
  const auto in = [&](const std::string& name) { return fixture.at("in." + name); };
  const std::int64_t patches = vision.grid() * vision.grid();
  models::Dropout none;
  const models::VisualTokens visual = vision.encode(in("image").to(dtype), {in("idx_to_group_img"), in("is_image") == 0, in("image_atts").slice(1, 1).to(at::kBool)}, none);
  Outputs out{test::visual_rows(visual, patches), visual.sequences.slice(0, 0, 2).slice(1, 0, 1 + patches), {}};
  CHECK(at::allclose(visual.first_token, out.region_embeds.select(1, 0), 1e-5, 1e-6));
  out.loss = (out.region_embeds * in("region_weight").to(dtype)).sum() + (out.image_embeds * in("image_weight").to(dtype)).sum();
  return out;
}

double difference(const Tensor& ours, const Tensor& expected) {
  REQUIRE(ours.sizes() == expected.sizes());
  return (ours - expected).abs().max().item<double>();
}

TEST_CASE("BEiT-2: outputs of images and regions and all gradients equal the official implementation's", "[golden]") {
  const Json described = description();
  for (const auto& [name, sizes] : described["models"].items()) {
    INFO(name);
    const Tensors fixture = read(name + ".safetensors");
    const models::VisionEncoderPtr vision = load(options_of(sizes), fixture);
    const Outputs out = run(*vision, fixture, at::kFloat);
    CHECK(difference(out.region_embeds, fixture.at("out.region_embeds")) <= 2e-5);
    CHECK(difference(out.image_embeds, fixture.at("out.image_embeds")) <= 2e-5);
    CHECK(difference(out.image_embeds, fixture.at("out.image_only_embeds")) <= 2e-5);
    out.loss.backward();
    for (const auto& parameter : vision->named_parameters()) {
      INFO(parameter.key());
      const Tensor& expected = fixture.at("grad." + parameter.key());
      CHECK((parameter.value().grad() - expected).norm().item<double>() <= 2e-4 * expected.norm().item<double>() + 1e-5);
    }
  }
}

TEST_CASE("BEiT-2 in float64 equals the official implementation to 1e-9", "[golden]") {
  torch::NoGradGuard guard;
  const Json described = description();
  for (const auto& [name, sizes] : described["models"].items()) {
    INFO(name);
    const Tensors fixture = read(name + ".safetensors");
    const Outputs out = run(*load(options_of(sizes), fixture), fixture, at::kDouble);
    for (const auto& [what, ours] : {std::pair<const char*, Tensor>{"region_embeds", out.region_embeds}, {"image_embeds", out.image_embeds}, {"loss", out.loss}}) {
      INFO(what);
      const Tensor& expected = fixture.at(std::string("out64.") + what);
      REQUIRE(expected.scalar_type() == at::kDouble);
      CHECK(difference(ours, expected) <= 1e-9 * expected.abs().max().item<double>());
    }
  }
}

TEST_CASE("BEiT-2: tables of relative positions are interpolated as the official code does, and the rows of [CLS] are kept", "[golden]") {
  const Tensors tensors = read("interpolation.safetensors");
  const Json described = description();
  for (const Json& sides : described["interpolated"]) {
    const std::string name = std::to_string(sides[0].get<int>()) + "_to_" + std::to_string(sides[1].get<int>());
    INFO(name);
    const Tensor &in = tensors.at("in." + name), &expected = tensors.at("out." + name);
    CHECK(difference(models::interpolate_relative_position_bias(in, sides[1], /*extra_rows=*/3), expected) <= 1e-6);
    const Tensor fitted = models::fit_position_table("model.vision_encoder.blocks.0.attn.relative_position_bias_table", in, expected.sizes());
    REQUIRE(fitted.defined());
    CHECK(difference(fitted, expected) <= 1e-6);
    CHECK(at::equal(fitted.slice(0, fitted.size(0) - 3), in.slice(0, in.size(0) - 3)));
  }
}

}  // namespace
}  // namespace fgvl
