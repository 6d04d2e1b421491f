#include <map>

#include <torch/csrc/autograd/profiler.h>
#include <torch/torch.h>

#include "fgvl/losses/box_regression.hpp"
#include "fgvl/losses/contrastive.hpp"
#include "fgvl/losses/criterion.hpp"
#include "fgvl/losses/foil_matching.hpp"
#include "fgvl/losses/masked_language.hpp"
#include "fgvl/losses/matching.hpp"
#include "fgvl/models/bert.hpp"
#include "fgvl/models/clip_vit.hpp"
#include "fgvl/models/pretrained.hpp"
#include "fgvl/models/region_vlm.hpp"
#include "fgvl/models/vit.hpp"
#include "support/catch.hpp"

namespace fgvl::models {
namespace {

constexpr std::int64_t kImage = 32, kPatch = 8, kGrid = 4, kWidth = 16, kVocabulary = 40;

ModelPtr make(bool clip, double dropout = 0) {
  const VisionEncoderPtr vision = clip ? make_vision_encoder(ClipVitOptions{.image_size = kImage, .patch_size = kPatch, .width = kWidth, .layers = 2, .heads = 2, .mlp_width = 32, .local_attn_depth = 1})
                                       : make_vision_encoder(VitOptions{.image_size = kImage, .patch_size = kPatch, .width = kWidth, .layers = 1, .heads = 2, .mlp_ratio = 2});
  return make_region_vlm({vision, make_text_encoder(BertOptions{.width = kWidth, .layers = 1, .heads = 2, .mlp_width = 32, .max_tokens = 8, .dropout = dropout}, {.vocab_size = kVocabulary}),
                          make_fusion_encoder(BertFusionOptions{.layers = 2, .heads = 2, .mlp_width = 32, .dropout = dropout}, {.text_width = kWidth, .vision_width = kWidth})},
                         {.embed_dim = 8, .initializer_range = std::nullopt}, /*seed=*/3);
}

/// `regions` boxes over each of two images, one caption each, one foil.
RegionBatch batch_with(std::int64_t regions) {
  at::Generator generator = Generator({.seed = 4}).torch_generator(at::kCPU);
  RegionBatch batch;
  const std::int64_t texts = 2 * (1 + regions);
  batch.images = torch::empty({2, 3, kImage, kImage}).normal_(0, 1, generator);
  batch.text_to_image = torch::arange(2).repeat_interleave(1 + regions);
  batch.is_region = torch::arange(texts).remainder(1 + regions) > 0;
  batch.boxes = torch::tensor({0.5f, 0.5f, 1.f, 1.f}).repeat({texts, 1});
  for (std::int64_t row = 0; row < texts; ++row) {
    if (batch.is_region[row].item<bool>()) batch.boxes[row] = torch::tensor({0.25f + 0.1f * static_cast<float>(row % 5), 0.3f, 0.25f, 0.25f});
  }
  batch.is_unambiguous = torch::ones({texts}, torch::kBool);
  batch.text_ids = torch::randint(5, kVocabulary, {texts, 5}, generator);
  batch.text_ids.select(1, 0).fill_(2);
  batch.text_mask = torch::ones({texts, 5}, torch::kBool);
  batch.masked_ids = batch.text_ids.clone();
  batch.masked_ids.select(1, 2).fill_(4);
  batch.masked_positions = torch::full({texts, 1}, 2, torch::kLong);
  batch.masked_labels = batch.text_ids.select(1, 2).unsqueeze(1).clone();
  batch.text_key = torch::arange(texts);
  batch.foil_ids = batch.text_ids.slice(0, 0, 1).flip(1).contiguous();
  batch.foil_ids.select(1, 0).fill_(2);
  batch.foil_mask = torch::ones({1, 5}, torch::kBool);
  batch.foil_to_text = torch::zeros({1}, torch::kLong);
  batch.validate();
  return batch;
}

losses::Criterion& add_terms(losses::Criterion& criterion, const std::string& without = "") {
  if (without != "itc") criterion.add("itc", losses::ContrastiveOptions{});
  if (without != "itm") criterion.add("itm", losses::MatchingOptions{});
  if (without != "mlm") criterion.add("mlm", losses::MaskedLanguageOptions{});
  if (without != "box") criterion.add("box", losses::BoxRegressionOptions{});
  if (without != "foils" && without != "itm") criterion.add("foils", losses::FoilMatchingOptions{});
  return criterion;
}

/// How often PyTorch's own profiler saw each operator in a forward pass.
std::map<std::string, int> operators(Model& model, losses::Criterion& criterion, const RegionBatch& batch) {
  using namespace torch::autograd::profiler;
  model.train();
  enableProfilerLegacy(ProfilerConfig(ProfilerState::CPU, false, false));
  const auto pass = model.begin(batch);
  criterion.forward(*pass);
  std::map<std::string, int> counts;
  for (const auto& thread : disableProfilerLegacy()) {
    for (const LegacyEvent& event : thread) {
      if (event.kindStr() == "push") ++counts[event.name()];
    }
  }
  return counts;
}

int count_of(const std::map<std::string, int>& counts, const std::string& name) { return counts.count(name) > 0 ? counts.at(name) : 0; }

TEST_CASE("the image encoder runs once, and keys and values are projected once, however many regions an image has", "[models]") {
  for (const bool clip : {false, true}) {
    INFO((clip ? "clip_vit" : "vit"));
    const ModelPtr model = make(clip);
    losses::Criterion criterion(model->spec());
    add_terms(criterion);
    const auto few = operators(*model, criterion, batch_with(1)), many = operators(*model, criterion, batch_with(6));
    CHECK(count_of(few, "aten::conv2d") == 1);
    CHECK(count_of(many, "aten::conv2d") == 1);
    CHECK(count_of(many, "aten::linear") == count_of(few, "aten::linear"));
  }
}

TEST_CASE("a removed term removes its operators", "[models]") {
  const ModelPtr model = make(false);
  const RegionBatch batch = batch_with(2);
  losses::Criterion all(model->spec());
  const auto full = operators(*model, add_terms(all), batch);
  // Linear maps of one fusion pass over two layers: self-attention 4, cross-attention 2 (keys and values are shared), MLP 2.
  constexpr int kFusionPass = 2 * (4 + 2 + 2), kTextPass = 4 + 2;
  const auto without = [&](const char* name) {
    losses::Criterion criterion(model->spec());
    return count_of(operators(*model, add_terms(criterion, name), batch), "aten::linear");
  };
  CHECK(count_of(full, "aten::linear") - without("box") == kFusionPass + 2);                 // and the two linear maps of the box head
  CHECK(count_of(full, "aten::linear") - without("mlm") == kTextPass + kFusionPass + 2);     // masked text, fusion, transform and decoder
  CHECK(count_of(full, "aten::linear") - without("foils") == kTextPass + kFusionPass + 2);   // foil text, fusion, one use of the ITM head
}

TEST_CASE("removing a term does not change the values of the others, also with dropout", "[models]") {
  const ModelPtr model = make(false, /*dropout=*/0.2);
  model->train();
  const RegionBatch batch = batch_with(2);
  losses::Criterion all(model->spec()), fewer(model->spec());
  add_terms(all);
  add_terms(fewer, "box");
  torch::NoGradGuard guard;
  for (const auto& [name, source] : named_state(all, "")) {
    for (auto& [other, target] : named_state(fewer, "")) {
      if (name == other) target.copy_(source);
    }
  }
  const PassOptions options{.seed = 1, .step = 5};
  const auto a = all.forward(*model->begin(batch, options)), b = fewer.forward(*model->begin(batch, options));
  for (const char* name : {"itc", "itm", "mlm", "foils"}) CHECK(a.mean(name).value() == b.mean(name).value());
  const auto again = all.forward(*model->begin(batch, options)), other = all.forward(*model->begin(batch, {.seed = 1, .step = 6}));
  CHECK(a.total.item<double>() == again.total.item<double>());
  CHECK(a.total.item<double>() != other.total.item<double>());
}

TEST_CASE("a region is restricted to its patches: clip_vit's tokens inside do not change with pixels outside, vit's fusion does not look there", "[models]") {
  torch::NoGradGuard guard;
  RegionBatch batch = batch_with(1);
  batch.boxes[1] = torch::tensor({0.125f, 0.125f, 0.25f, 0.25f});  // the first patch
  const ModelPtr model = make(true);
  model->eval();
  const auto pass = model->begin(batch);
  const RegionFeatures& regions = pass->regions();
  CHECK(regions.mask[1].sum().item<std::int64_t>() == 2);  // [CLS] and one patch
  CHECK(regions.mask[0].all().item<bool>());
  // Fusion sees a masked patch nowhere: setting the masked tokens' positions in the query to other images changes nothing is implied by equal masks,
  // so the property is tested on the outcome: two boxes that touch the same patch give the same match score.
  RegionBatch same = batch;
  same.boxes = batch.boxes.clone();
  same.boxes[1] = torch::tensor({0.1f, 0.1f, 0.12f, 0.12f});
  CHECK(at::equal(pass->matched()[1], model->begin(same)->matched()[1]));
  same.boxes[1] = torch::tensor({0.4f, 0.1f, 0.12f, 0.12f});
  CHECK_FALSE(at::allclose(pass->matched()[1], model->begin(same)->matched()[1]));
}

TEST_CASE("positions: the last layer at some positions equals all positions", "[models]") {
  torch::NoGradGuard guard;
  const ModelPtr model = make(false);
  model->eval();
  const auto pass = model->begin(batch_with(2));
  const Tensor all = torch::arange(6), positions = torch::tensor({{0, 3}}, torch::kLong).expand({6, 2});
  const Tensor full = pass->fuse({.text_index = all, .visual_index = all}), some = pass->fuse({.text_index = all, .visual_index = all, .positions = positions});
  CHECK(at::allclose(full.index_select(1, torch::tensor({0, 3})), some, 1e-5, 1e-6));
  CHECK(at::allclose(pass->matched(), full.select(1, 0), 1e-5, 1e-6));
}

TEST_CASE("weights are a pure function of the seed, and another model's are refused by name", "[models]") {
  const ModelPtr a = make(false), b = make(false), other = make(true);
  for (const auto& entry : a->named_parameters()) CHECK(at::equal(entry.value(), b->named_parameters()[entry.key()]));
  const auto state = named_state(*other, "model.");
  CHECK_THROWS_WITH(load_tensors(*a, "model.", {state.begin(), state.end()}), Catch::Contains("another model") && Catch::Contains("not in the checkpoint"));
  CHECK_THROWS_WITH(a->begin([] {
    RegionBatch batch = batch_with(1);
    batch.images = torch::zeros({2, 3, 16, 16});
    return batch;
  }()), Catch::Contains("expected [B, 3, 32, 32]"));
}

TEST_CASE("a bf16 pass stays near the fp32 one, with features in fp32", "[models]") {
  torch::NoGradGuard guard;
  const ModelPtr model = make(false);
  model->eval();
  const RegionBatch batch = batch_with(2);
  const auto single = model->begin(batch), half = model->begin(batch, {.bf16 = true});
  CHECK(half->regions().features.scalar_type() == torch::kFloat);
  CHECK((half->matched() - single->matched()).abs().max().item<double>() < 0.1);
  CHECK((half->regions().features - single->regions().features).abs().max().item<double>() < 0.05);
}

}  // namespace
}  // namespace fgvl::models
