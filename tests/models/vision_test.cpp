// Swin's windows, regions that share a sequence, and stochastic depth.
#include <string>
#include <tuple>
#include <vector>

#include <torch/torch.h>

#include "fgvl/core/config.hpp"
#include "models/dropout.hpp"
#include "models/small_model.hpp"
#include "models/swin_windows.hpp"
#include "models/vit_blocks.hpp"
#include "support/catch.hpp"

namespace fgvl::models {
namespace {

/// [side^2, side^2] bool: which tokens of a map see which, read off the windows and the mask. Every token must be in one window.
Tensor seen_by(const WindowGrid& grid) {
  const std::int64_t tokens = grid.side * grid.side;
  const Tensor map = torch::arange(1, tokens + 1, torch::kDouble).view({1, grid.side, grid.side, 1});  // 0: filling
  const Tensor windows = to_windows(fill_and_roll(map, grid).expand({-1, -1, -1, 3}).contiguous(), grid, 1)[0].view({grid.windows(), grid.tokens()}).to(torch::kLong);
  const Tensor mask = window_mask(grid);
  Tensor seen = torch::zeros({tokens + 1, tokens + 1}, torch::kLong);
  for (std::int64_t w = 0; w < grid.windows(); ++w) {
    const Tensor open = mask.defined() ? (mask[w] == 0).to(torch::kLong) : torch::ones({grid.tokens(), grid.tokens()}, torch::kLong);
    seen.view(-1).index_add_(0, (windows[w].unsqueeze(1) * (tokens + 1) + windows[w].unsqueeze(0)).flatten(), open.flatten());
  }
  REQUIRE(seen.slice(1, 0, 1).slice(0, 1).sum().item<std::int64_t>() == 0);  // nobody sees the filling
  seen = seen.slice(0, 1).slice(1, 1);
  REQUIRE(seen.max().item<std::int64_t>() == 1);
  return seen.to(torch::kBool);
}

TEST_CASE("swin: a token sees exactly the tokens between the same borders, which every other block shifts by half a window", "[models]") {
  for (const auto& [side, window, shifted] : std::vector<std::tuple<int, int, bool>>{{8, 4, false}, {8, 4, true}, {8, 3, false}, {8, 3, true}, {6, 3, true}, {7, 5, true}, {9, 2, true}}) {
    INFO("side " << side << ", window " << window << (shifted ? ", shifted" : ""));
    const WindowGrid grid = make_window_grid(side, window, shifted);
    const std::int64_t shift = shifted ? window / 2 : 0;
    REQUIRE(grid.shift == shift);
    // Borders stand at shift, shift + window, ...; what lies before the first is a window of its own.
    const Tensor axis = torch::div(torch::arange(side) - shift + window, window, "floor");
    const Tensor window_of = (100 * axis.unsqueeze(1) + axis.unsqueeze(0)).flatten();
    CHECK(at::equal(seen_by(grid), window_of.unsqueeze(1) == window_of.unsqueeze(0)));
  }
}

TEST_CASE("swin: a map no larger than a window is one window without a shift", "[models]") {
  for (const std::int64_t side : {3, 4}) {
    const WindowGrid grid = make_window_grid(side, 4, /*shifted=*/true);
    CHECK(grid.shift == 0);
    CHECK(grid.window == side);
    CHECK(grid.windows() == 1);
    CHECK_FALSE(window_mask(grid).defined());
  }
}

TEST_CASE("swin: cutting a map into windows and putting it together changes nothing", "[models]") {
  for (const std::int64_t window : {2, 3, 4, 8}) {
    const WindowGrid grid = make_window_grid(8, window, true);
    const Tensor map = torch::arange(2 * 8 * 8 * 6, torch::kDouble).view({2, 8, 8, 6});
    const Tensor qkv = at::cat({map, -map, map + 0.5}, 3).requires_grad_();
    const std::vector<Tensor> windows = to_windows(fill_and_roll(qkv, grid), grid, /*heads=*/2);
    REQUIRE(windows.size() == 3);
    for (const Tensor& each : windows) CHECK(each.is_contiguous());
    for (const Tensor& each : windows) CHECK(each.sizes() == at::IntArrayRef{2, grid.windows(), 2, window * window, 3});
    CHECK(at::equal(from_windows(windows[0], grid), map));
    CHECK(at::equal(from_windows(windows[1], grid), -map));
    // A gradient goes back to where its value came from, and a part that nothing reads gets zeros.
    (windows[0].square() + 3 * windows[2].square()).sum().backward();
    CHECK(at::equal(qkv.grad(), at::cat({2 * map, 0 * map, 6 * (map + 0.5)}, 3)));
  }
}

TEST_CASE("swin: the bias of a pair is the table's row of their offset, query minus key", "[models]") {
  constexpr std::int64_t kWindow = 3, kSide = 2 * kWindow - 1;
  const Tensor table = torch::arange(kSide * kSide * 2, torch::kDouble).view({kSide * kSide, 2});
  const Tensor bias = relative_position_bias(table, kWindow), index = relative_position_index(kWindow);
  for (std::int64_t query = 0; query < kWindow * kWindow; ++query) {
    for (std::int64_t key = 0; key < kWindow * kWindow; ++key) {
      const std::int64_t row = (query / kWindow - key / kWindow + kWindow - 1) * kSide + query % kWindow - key % kWindow + kWindow - 1;
      CHECK(index[query][key].item<std::int64_t>() == row);
      CHECK(at::equal(bias.select(1, query).select(1, key), table[row]));
    }
  }
}

TEST_CASE("a region's numbers do not depend on the other regions of its picture", "[models]") {
  torch::NoGradGuard guard;
  for (const auto& [kind, vision] : every_vision()) {
    INFO(kind);
    const ModelPtr model = make(vision);
    model->eval();
    const RegionBatch batch = batch_with(3);  // rows 4 to 7 are about image 1
    RegionBatch fewer = batch;
    const Tensor rows = torch::tensor({4, 6});
    for (Tensor RegionBatch::*field : {&RegionBatch::text_to_image, &RegionBatch::is_region, &RegionBatch::boxes, &RegionBatch::text_ids, &RegionBatch::text_mask, &RegionBatch::text_key}) {
      fewer.*field = (batch.*field).index_select(0, rows);
    }
    for (Tensor RegionBatch::*field : {&RegionBatch::is_unambiguous, &RegionBatch::masked_ids, &RegionBatch::masked_positions, &RegionBatch::masked_labels, &RegionBatch::foil_ids,
                                       &RegionBatch::foil_mask, &RegionBatch::foil_to_text}) {
      fewer.*field = Tensor();
    }
    const auto all = model->begin(batch), some = model->begin(fewer);
    CHECK(at::allclose(all->regions().features.index_select(0, rows), some->regions().features, 1e-5, 1e-6));
    CHECK(at::allclose(all->matched().index_select(0, rows), some->matched(), 1e-5, 1e-6));
    CHECK(at::allclose(all->predicted_boxes(rows), some->predicted_boxes(torch::arange(2)), 1e-5, 1e-6));
    CHECK(at::allclose(all->image().embeds, some->image().embeds, 1e-5, 1e-6));
    CHECK(all->image().embeds.sizes() == at::IntArrayRef{2, 1 + kGrid * kGrid, kWidth});
  }
}

TEST_CASE("a swin's or a beit's region is fused with the mean of its patches as [CLS], and its image's tokens are projected once", "[models]") {
  torch::NoGradGuard guard;
  constexpr std::int64_t kPatches = kGrid * kGrid;
  for (const auto& [kind, vision] : every_vision()) {
    if (kind != "swin" && kind.rfind("beit", 0) != 0) continue;
    INFO(kind);
    const ModelPtr model = make(vision);
    model->eval();
    const RegionBatch batch = batch_with(3);
    const auto pass = model->begin(batch);
    const RegionFeatures& regions = pass->regions();
    CHECK(regions.sequences.sizes() == at::IntArrayRef{2, 1 + kPatches + 3, kWidth});
    for (std::int64_t row = 0; row < batch.text_count(); ++row) {
      const Tensor shown = regions.sequences[row / 4].index({regions.mask[row]});
      const Tensor patches = regions.sequences[row / 4].slice(0, 1, 1 + kPatches).index({regions.mask[row].slice(0, 1, 1 + kPatches)});
      const Tensor cls = row % 4 == 0 ? shown[0] : shown[shown.size(0) - 1];
      CHECK(shown.size(0) == 1 + patches.size(0));
      CHECK(at::allclose(cls, patches.mean(0), 1e-5, 1e-6));
    }
  }
}

TEST_CASE("with local_attn_depth 0 regions share their image's sequence", "[models]") {
  torch::NoGradGuard guard;
  const VisionEncoderPtr clip = make_vision_encoder(ClipVitOptions{.image_size = kImage, .patch_size = kPatch, .width = kWidth, .layers = 2, .heads = 2, .mlp_width = 32, .local_attn_depth = 0});
  const VisionEncoderPtr deit = make_vision_encoder(DeitOptions{.image_size = kImage, .patch_size = kPatch, .width = kWidth, .layers = 2, .heads = 2, .local_attn_depth = 0});
  for (const VisionEncoderPtr& vision : {clip, deit}) {
    const ModelPtr model = make(vision);
    model->eval();
    const auto pass = model->begin(batch_with(3));
    CHECK(pass->regions().sequences.sizes() == at::IntArrayRef{2, 1 + kGrid * kGrid, kWidth});
    CHECK(at::equal(pass->regions().sequence_index, torch::arange(2).repeat_interleave(4)));
    CHECK(at::equal(pass->regions().features, pass->image().features.repeat_interleave(4, 0)));
  }
}

TEST_CASE("stochastic depth drops whole rows, keeps the mean, and rises linearly over the blocks", "[models]") {
  Dropout dropout({.seed = 3, .purpose = "test"}, at::kCPU);
  const Tensor kept = dropout.add_branch(torch::zeros({4000, 3}), 0.2, [](const Tensor& stream, const Dropout::Rows&) { return torch::ones_like(stream); });
  CHECK(at::equal(kept, kept.slice(1, 0, 1).expand({-1, 3})));
  CHECK(((kept == 0).logical_or((kept - 1.25).abs() < 1e-6)).all().item<bool>());
  CHECK((kept.select(1, 0) == 0).to(torch::kDouble).mean().item<double>() == Approx(0.2).margin(0.02));  // three standard deviations
  CHECK(path_probability(0.3, 0, 4) == 0.0);
  CHECK(path_probability(0.3, 1, 4) == Approx(0.1));
  CHECK(path_probability(0.3, 3, 4) == 0.3);
  CHECK(path_probability(0.3, 0, 1) == 0.0);
}

TEST_CASE("stochastic depth is a function of the step in training, and absent in evaluation", "[models]") {
  torch::NoGradGuard guard;
  const auto with = every_vision(/*drop_path=*/0.5), without = every_vision();
  for (std::size_t kind = 2; kind < with.size(); ++kind) {
    INFO(with[kind].first);
    const ModelPtr model = make(with[kind].second), plain = make(without[kind].second);
    const RegionBatch batch = batch_with(4);
    const auto features = [&](Model& of, std::uint64_t step) { return of.begin(batch, {.seed = 1, .step = step})->regions().features; };
    model->train();
    CHECK(at::equal(features(*model, 5), features(*model, 5)));
    CHECK_FALSE(at::allclose(features(*model, 5), features(*model, 6)));
    model->eval();
    plain->train();
    CHECK(at::equal(features(*model, 5), features(*plain, 6)));
  }
}

TEST_CASE("swin: sizes that do not fit are refused with what would", "[models]") {
  CHECK_THROWS_WITH(make_vision_encoder(SwinOptions{.image_size = 232}), Catch::Contains("expected a multiple of patch_size * 2^(stages - 1) = 32, got 232"));
  CHECK_THROWS_WITH(make_vision_encoder(SwinOptions{.heads = {4, 8}}), Catch::Contains("heads: expected one number a stage of depths, that is 4, got 2"));
  CHECK_THROWS_WITH(make_vision_encoder(SwinOptions{.heads = {4, 8, 7, 32}}), Catch::Contains("expected a divisor of the width 512 of stage 2, got 7"));
  CHECK_THROWS_WITH(make_vision_encoder(DeitOptions{.layers = 3, .local_attn_depth = 4}), Catch::Contains("local_attn_depth: expected at most layers = 3, got 4"));
}

TEST_CASE("swin: compute is what the layers' sizes say", "[models]") {
  const VisionEncoderPtr swin = make_vision_encoder(SwinOptions{.image_size = 16, .patch_size = 4, .width = 8, .depths = {1, 1}, .heads = {1, 1}, .window = 2, .mlp_ratio = 2});
  const double patches = 2.0 * 16 * 8 * 3 * 4 * 4;
  // 16 tokens of width 8 in windows of 4: qkv and output, scores and their use, MLP of 16; then 4 tokens 32 -> 16; then 4 tokens of width 16 in one window.
  const double first = 2.0 * 16 * 4 * 8 * 8 + 4.0 * 16 * 4 * 8 + 2.0 * 16 * 2 * 8 * 16, merging = 2.0 * 4 * 32 * 16;
  const double second = 2.0 * 4 * 4 * 16 * 16 + 4.0 * 4 * 4 * 16 + 2.0 * 4 * 2 * 16 * 32;
  CHECK(swin->flops_per_image() == patches + first + merging + second);
  CHECK(swin->grid() == 2);
  CHECK(swin->width() == 16);
}

/// The message of a configuration that makes a model with this vision encoder.
std::string refusal(const std::string& vision) {
  const auto document = config::Document::parse("vision: {" + vision + "}", "model.yaml");
  REQUIRE(document.ok());
  const auto read = config::read(*document, ModelConfig{});
  return read.ok() ? "" : std::string(read.status().message());
}

TEST_CASE("sizes that do not fit are a mistake of the configuration, with file and line", "[models]") {
  const auto refused = [](const std::string& options, const std::string& message) {
    INFO(options);
    CHECK_THAT(refusal(options), Catch::Contains("model.yaml:1: vision.options: " + message));
  };
  for (const std::string& kind : std::vector<std::string>{"clip_vit", "deit", "beit", "vit"}) {
    refused("type: " + kind + ", options: {image_size: 100}", "image_size: expected a multiple of patch_size 16, got 100");
    refused("type: " + kind + ", options: {heads: 7}", "width: expected a multiple of heads 7, got 768");
  }
  for (const std::string& kind : std::vector<std::string>{"clip_vit", "deit"}) refused("type: " + kind + ", options: {layers: 3}", "local_attn_depth: expected at most layers = 3, got 4");
  refused("type: vit, options: {width: 18, heads: 3}", "width: expected a multiple of 4, got 18");
  refused("type: vit, options: {image_size: 24, patch_size: 12, stem: conv}", "patch_size: expected a power of two above 1, as a conv stem needs, got 12");
  refused("type: vit, options: {stem: conv, stem_channels: [8]}", "stem_channels: expected 3 numbers for a patch of 16, got 1");
  refused("type: swin, options: {image_size: 232}", "image_size: expected a multiple of patch_size * 2^(stages - 1) = 32, got 232");
  refused("type: swin, options: {heads: [4, 8]}", "heads: expected one number a stage of depths, that is 4, got 2");
  refused("type: swin, options: {heads: [4, 8, 7, 32]}", "heads: expected a divisor of the width 512 of stage 2, got 7");
  CHECK(refusal("type: beit, options: {image_size: 384, relative_positions: shared}") == "");
}

/// Parameters of a vision encoder with `layers` blocks, from those with one and two: every block has the same number, and two are quickly made.
template <class Options>
std::int64_t parameter_count(Options options, std::int64_t layers) {
  const auto count = [&](std::int64_t blocks) {
    options.layers = blocks;
    std::int64_t numbers = 0;
    for (const Tensor& parameter : make_vision_encoder(options)->parameters()) numbers += parameter.numel();
    return numbers;
  };
  const std::int64_t one = count(1);
  return one + (layers - 1) * (count(2) - one);
}

TEST_CASE("CLIP's and X2-VLM's vision towers have the published numbers of parameters", "[models]") {
  // OpenAI's visual towers: 87,849,216 (B/32), 86,192,640 (B/16) and 303,966,208 (L/14) with the projection of width x embed_dim that is our vision_proj. By layers, for width w, m = 4 w, patch p, P patches:
  // 3 p^2 w + w + (1 + P) w + 2 * 2 w, and a block 4 (w^2 + w) + 2 w m + m + w + 2 * 2 w.
  CHECK(parameter_count(ClipVitOptions{.patch_size = 32, .local_attn_depth = 0}, 12) == 87'849'216 - 768 * 512);
  CHECK(parameter_count(ClipVitOptions{.patch_size = 16, .local_attn_depth = 0}, 12) == 86'192'640 - 768 * 512);
  CHECK(parameter_count(ClipVitOptions{.patch_size = 14, .width = 1024, .heads = 16, .mlp_width = 4096, .local_attn_depth = 0}, 24) == 303'966'208 - 1024 * 768);
  // BEiT-2 base, 14 x 14 patches: class token, patch map, fc_norm; a block has two norms, queries, keys and values with two biases, their output, the MLP, two scales, and 27^2 + 3 offsets of 12 heads.
  constexpr std::int64_t w = 768, m = 4 * w;
  CHECK(parameter_count(BeitOptions{}, 12) == w + 3 * 16 * 16 * w + w + 2 * w + 12 * (2 * 2 * w + 3 * w * w + 2 * w + w * w + w + 2 * w * m + m + w + 2 * w + (27 * 27 + 3) * 12));
}

}  // namespace
}  // namespace fgvl::models
