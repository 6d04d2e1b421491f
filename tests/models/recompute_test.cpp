// Gradient checkpointing: less memory, the same numbers.
#include <map>
#include <string>

#include <torch/torch.h>

#include "core/live_bytes.hpp"
#include "models/recompute.hpp"
#include "models/small_model.hpp"
#include "support/catch.hpp"

namespace fgvl::models {
namespace {

constexpr double kDropout = 0.2, kDropPath = 0.4;
constexpr double kNoise = 0.01;  // norm of gradients that are 0 but for rounding, such as those of key biases

/// Gradients by name after `batches` batches, and the losses of the last.
struct Result {
  std::vector<double> losses;
  std::map<std::string, Tensor> gradients;
};

struct Setting {
  Norm norm = Norm::kPost;
  at::ScalarType dtype = at::kFloat;
  bool bf16 = false;
  std::vector<std::string> frozen{};  ///< beginnings of names
  int batches = 1;                    ///< whose gradients are added up
};

Result result_of(const VisionEncoderPtr& vision, bool checkpointed, const Setting& setting) {
  const ModelPtr model = make(vision, kDropout, setting.norm, checkpointed);
  losses::Criterion criterion(model->spec());
  add_terms(criterion);
  model->train();
  criterion.train();
  model->to(setting.dtype);
  criterion.to(setting.dtype);
  for (auto& parameter : model->named_parameters()) {
    for (const std::string& beginning : setting.frozen) {
      if (parameter.key().rfind(beginning, 0) == 0) parameter.value().set_requires_grad(false);
    }
  }
  RegionBatch batch = batch_with(3);
  batch.images = batch.images.to(setting.dtype);
  batch.boxes = batch.boxes.to(setting.dtype);
  batch.text_mask.slice(0, 0, 4).slice(1, 3).fill_(false);  // texts of two lengths
  Result result;
  for (int step = 0; step < setting.batches; ++step) {
    const auto pass = model->begin(batch, {.seed = 5, .step = static_cast<std::uint64_t>(step), .bf16 = setting.bf16});
    const losses::LossReport report = criterion.forward(*pass);
    report.total.backward();
    result.losses.clear();
    for (const auto& value : report.values) result.losses.push_back(value.mean.item<double>());
  }
  for (const auto& parameter : model->named_parameters()) result.gradients["model." + parameter.key()] = parameter.value().grad();
  for (const auto& parameter : criterion.named_parameters()) result.gradients["losses." + parameter.key()] = parameter.value().grad();
  return result;
}

/// Losses are equal to the bit; a gradient differs from the other by at most `tolerance` of its norm, or of kNoise where it is that small.
void check_equal(const Result& with, const Result& without, double tolerance) {
  CHECK(with.losses == without.losses);
  int compared = 0;
  for (const auto& [name, expected] : without.gradients) {
    INFO(name);
    const Tensor& ours = with.gradients.at(name);
    REQUIRE(ours.defined() == expected.defined());
    if (!expected.defined()) continue;
    CHECK((ours - expected).norm().item<double>() <= tolerance * (expected.norm().item<double>() + kNoise));
    ++compared;
  }
  CHECK(compared > 0);
}

void compare_every_vision(const Setting& setting, double tolerance) {
  const auto plain = every_vision(kDropPath), checkpointed = every_vision(kDropPath);
  for (std::size_t kind = 0; kind < plain.size(); ++kind) {
    INFO(plain[kind].first);
    check_equal(result_of(checkpointed[kind].second, true, setting), result_of(plain[kind].second, false, setting), tolerance);
  }
}

TEST_CASE("gradient checkpointing: losses and gradients are the same to the bit, with dropout and stochastic depth", "[recompute]") {
  compare_every_vision({}, 0);
  compare_every_vision({.norm = Norm::kPre, .dtype = at::kDouble}, 0);
}

TEST_CASE("gradient checkpointing: the same over accumulated batches", "[recompute]") { compare_every_vision({.batches = 2}, 0); }

TEST_CASE("gradient checkpointing: blocks run again under the autocast that they ran under", "[recompute]") {
  // A weight that serves texts and masked texts is cast once without checkpointing, so that their gradients are added in bfloat16, whose steps are 2^-8; with it each is cast and added in float32.
  compare_every_vision({.bf16 = true}, 1.0 / 64);
}

TEST_CASE("gradient checkpointing: blocks behind frozen ones train, and frozen ones get no gradient", "[recompute]") {
  // Nothing that goes into the first block that trains needs a gradient.
  const Setting setting{.frozen = {"vision_encoder.stem", "vision_encoder.patch_embed", "vision_encoder.class_embedding", "vision_encoder.cls_token", "vision_encoder.pos", "vision_encoder.pre",
                                   "vision_encoder.rel_pos_bias", "text_encoder.embeddings", "fusion_encoder.layer.0.attention"}};
  compare_every_vision(setting, 0);
  const Result result = result_of(every_vision()[2].second, true, setting);
  CHECK_FALSE(result.gradients.at("model.vision_encoder.cls_token").defined());
  CHECK_FALSE(result.gradients.at("model.fusion_encoder.layer.0.attention.self.query.weight").defined());
  CHECK(result.gradients.at("model.vision_encoder.blocks.0.norm1.weight").defined());
  CHECK(result.gradients.at("model.text_encoder.layer.0.attention.self.query.weight").defined());
}

TEST_CASE("gradient checkpointing: what is kept for backward shrinks to what goes into each block", "[recompute]") {
  constexpr std::int64_t kLayers = 6, kImages = 4, kWide = 64, kTokens = 1 + kGrid * kGrid;
  const auto kept = [&](bool checkpointed) {
    const auto vision = make_vision_encoder(DeitOptions{.image_size = kImage, .patch_size = kPatch, .width = kWide, .layers = kLayers, .heads = 4, .local_attn_depth = 0, .drop_path = 0});
    vision->set_gradient_checkpointing(checkpointed);
    const Tensor images = torch::randn({kImages, 3, kImage, kImage});
    const RegionRows rows{torch::arange(kImages), torch::zeros({kImages}, torch::kBool), torch::ones({kImages, kTokens - 1}, torch::kBool)};
    Dropout dropout({.seed = 1, .purpose = "test"}, at::kCPU);
    const auto bytes = std::make_shared<LiveBytes>();
    const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, bytes);
    const VisualTokens visual = vision->encode(images, rows, dropout);
    return bytes->live();
  };
  const std::int64_t activation = kImages * kTokens * kWide * 4, without = kept(false), with = kept(true);
  // A block keeps at least two normed inputs, queries, keys and values, what attention gives, and the MLP's width of 4 before and after its GELU: 14 activations. With checkpointing, one.
  CHECK(without > kLayers * 14 * activation);
  // What stays around the blocks (patches, tokens, the last norm) is below 8 activations, a generator's state 8 KB.
  CHECK(with < (kLayers + 8) * activation + kLayers * 8192);
}

TEST_CASE("gradient checkpointing: a graph that is kept can be run backward again", "[recompute]") {
  const auto layer = std::make_shared<torch::nn::LinearImpl>(4, 4);
  const Tensor input = torch::randn({3, 4}).set_requires_grad(true);
  Dropout dropout({.seed = 1, .purpose = "test"}, at::kCPU), same({.seed = 1, .purpose = "test"}, at::kCPU);
  const Piece piece = [layer](const std::vector<Tensor>& in, Dropout& drops) { return drops(layer->forward(drops(in[0], 0.5)).tanh(), 0.5); };
  const Tensor with = recompute(true, layer, {input}, dropout, piece), without = piece({input}, same);
  CHECK(at::equal(with, without));
  // What is drawn next is what would be drawn without checkpointing, before and after backward.
  CHECK(at::equal(dropout(torch::ones({20}), 0.5), same(torch::ones({20}), 0.5)));
  const auto gradients = [&](const Tensor& output) { return torch::autograd::grad({output.sum()}, {input, layer->weight}, {}, /*retain_graph=*/true); };
  const auto first = gradients(with), second = gradients(with), expected = gradients(without);
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(at::equal(first[i], expected[i]));
    CHECK(at::equal(second[i], expected[i]));
  }
  CHECK(at::equal(dropout(torch::ones({20}), 0.5), same(torch::ones({20}), 0.5)));
  CHECK_THROWS_WITH(torch::autograd::grad({with.sum()}, {input}, {}, true, /*create_graph=*/true), Catch::Contains("gradients of gradients are not supported"));
}

}  // namespace
}  // namespace fgvl::models
