// CLIP's and SigLIP's losses as OpenCLIP computes them (tests/reference/open_clip_losses.py), through configs/reference/clip.yaml and siglip.yaml.
#include <map>

#include <torch/torch.h>

#include "fgvl/core/safetensors.hpp"
#include "fgvl/losses/contrastive.hpp"
#include "fgvl/losses/sigmoid_contrastive.hpp"
#include "fgvl/train/run_config.hpp"
#include "losses/fake_pass.hpp"
#include "support/catch.hpp"

namespace fgvl {
namespace {

using Tensors = std::map<std::string, Tensor>;

Tensors golden() {
  const auto read = read_safetensors(std::string(FGVL_SOURCE_DIR) + "/tests/reference/open_clip/open_clip_losses.safetensors");
  REQUIRE(read.ok());
  return {read->begin(), read->end()};
}

double distance(const Tensor& ours, const Tensor& expected) { return (ours.to(at::kDouble) - expected).abs().max().item<double>(); }

train::RunConfig reference(const std::string& kind) {
  auto document = config::Document::load(std::string(FGVL_SOURCE_DIR) + "/configs/reference/" + kind + ".yaml");
  REQUIRE(document.ok());
  // The sizes are the published ones; a test builds small encoders.
  REQUIRE(document->override_with({"model.embed_dim=6", "model.vision.options={image_size: 32, patch_size: 16, width: 32, layers: 1, heads: 2, mlp_width: 32, local_attn_depth: 0}",
                                   "model.text.options={width: 32, layers: 1, heads: 2, mlp_width: 32, max_tokens: 8}"})
              .ok());
  auto config = config::read(*document, train::RunConfig(train::RunRegistries{}));
  INFO(config.status());
  REQUIRE(config.ok());
  return *config;
}

TEST_CASE("CLIP and SigLIP: the loss of configs/reference/ and its gradients equal OpenCLIP's", "[golden]") {
  const Tensors expected = golden();
  for (const std::string kind : {"clip", "siglip"}) {
    for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
      INFO(kind << " " << dtype);
      const train::RunConfig config = reference(kind);
      const models::ModelPtr model = models::make_model(config.model, {.vocab_size = 20, .pad_id = 0, .token_id = [](const std::string&) { return std::int64_t{-1}; }}, 1);
      const auto criterion = losses::make_criterion(config.losses, model->spec());
      criterion->to(dtype);
      // float32 parameters of the start are not those of float64.
      for (const auto& parameter : criterion->named_parameters()) {
        torch::NoGradGuard guard;
        const std::string name = parameter.key().substr(parameter.key().rfind('.') + 1);
        REQUIRE(expected.count("in." + kind + "." + name) == 1);
        CHECK(distance(parameter.value(), expected.at("in." + kind + "." + name)) <= 1e-6);
        parameter.value().copy_(expected.at("in." + kind + "." + name));
      }
      const Tensor image = expected.at("in.image").to(dtype, /*non_blocking=*/false, /*copy=*/true).set_requires_grad(true), text = expected.at("in.text").to(dtype, false, true).set_requires_grad(true);
      RegionBatch batch = test::batch_of({0, 1, 2, 3, 4, 5, 6, 7, 8}, {0, 1, 2, 3, 4, 4, 4, 7, 8});  // equal texts are negatives, as OpenCLIP has it
      test::FakePass pass(batch, image, text);
      const losses::LossReport report = criterion->forward(pass);
      const double tolerance = dtype == at::kDouble ? 1e-9 : 1e-5;
      CHECK(distance(report.total, expected.at("out." + kind)) <= tolerance);
      report.total.backward();
      CHECK(distance(image.grad(), expected.at("grad." + kind + ".image")) <= tolerance);
      CHECK(distance(text.grad(), expected.at("grad." + kind + ".text")) <= tolerance);
      for (const auto& parameter : criterion->named_parameters()) {
        CHECK(distance(parameter.value().grad(), expected.at("grad." + kind + "." + parameter.key().substr(parameter.key().rfind('.') + 1))) <= tolerance);
      }
    }
  }
}

TEST_CASE("CLIP and SigLIP: the pure functions equal OpenCLIP's losses", "[golden]") {
  const Tensors expected = golden();
  const Tensor &image = expected.at("in.image"), &text = expected.at("in.text");
  CHECK(distance(losses::contrastive(image, text, (-expected.at("in.clip.logit_scale")).exp()), expected.at("out.clip")) <= 1e-12);
  CHECK(distance(losses::sigmoid_contrastive(image, text, expected.at("in.siglip.logit_scale").exp(), expected.at("in.siglip.logit_bias")), expected.at("out.siglip")) <= 1e-12);
}

}  // namespace
}  // namespace fgvl
