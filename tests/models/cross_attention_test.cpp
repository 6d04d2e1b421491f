// Where texts look: the weights must be those that fusion uses, which the fused kernels never show.
#include <cmath>
#include <map>

#include <torch/torch.h>

#include "models/dropout.hpp"
#include "models/small_model.hpp"
#include "support/catch.hpp"

namespace fgvl::models {
namespace {

constexpr std::int64_t kHeads = 2, kLayers = 2;

/// Fusion as its papers write it, one head at a time, from the parameters by name.
struct ByHand {
  std::map<std::string, Tensor> parameters{};
  Norm norm = Norm::kPost;
  Tensor output{};
  std::vector<Tensor> weights{};  ///< of cross-attention, a layer: [N, heads, L, S]

  Tensor linear(const std::string& name, const Tensor& x) const { return at::matmul(x, parameters.at(name + ".weight").t()) + parameters.at(name + ".bias"); }
  Tensor normed(const std::string& name, const Tensor& x) const {
    const Tensor centred = x - x.mean(-1, true);
    return centred / (centred.square().mean(-1, true) + 1e-12).sqrt() * parameters.at(name + ".weight") + parameters.at(name + ".bias");
  }
  /// `source` undefined: the tokens themselves.
  Tensor attend(const std::string& name, const Tensor& stream, const Tensor& source, const Tensor& mask, Tensor* kept = nullptr) const {
    const std::string own_norm = name + ".output.LayerNorm";
    const Tensor tokens = norm == Norm::kPre ? normed(own_norm, stream) : stream, from = source.defined() ? source : tokens;
    const Tensor query = linear(name + ".self.query", tokens), key = linear(name + ".self.key", from), value = linear(name + ".self.value", from);
    const std::int64_t d = query.size(2) / kHeads;
    std::vector<Tensor> seen, weights;
    for (std::int64_t head = 0; head < kHeads; ++head) {
      const auto part = [&](const Tensor& x) { return x.slice(2, head * d, (head + 1) * d); };
      const Tensor scores = at::matmul(part(query), part(key).transpose(1, 2)) / std::sqrt(static_cast<double>(d));
      weights.push_back(scores.masked_fill(mask.logical_not().unsqueeze(1), -INFINITY).softmax(2));
      seen.push_back(at::matmul(weights.back(), part(value)));
    }
    if (kept != nullptr) *kept = at::stack(weights, 1);
    const Tensor sum = stream + linear(name + ".output.dense", at::cat(seen, 2));
    return norm == Norm::kPre ? sum : normed(own_norm, sum);
  }

  void run(const Tensor& text, const Tensor& text_mask, const Tensor& visual, const Tensor& visual_mask) {
    Tensor stream = text;
    for (std::int64_t i = 0; i < kLayers; ++i) {
      const std::string layer = "layer." + std::to_string(i);
      stream = attend(layer + ".attention", stream, {}, text_mask);
      weights.emplace_back();
      stream = attend(layer + ".crossattention", stream, visual, visual_mask, &weights.back());
      const Tensor wide = at::gelu(linear(layer + ".intermediate.dense", norm == Norm::kPre ? normed(layer + ".output.LayerNorm", stream) : stream));
      const Tensor sum = stream + linear(layer + ".output.dense", wide);
      stream = norm == Norm::kPre ? sum : normed(layer + ".output.LayerNorm", sum);
    }
    output = norm == Norm::kPre ? normed("norm", stream) : stream;
  }
};

TEST_CASE("cross-attention weights are softmax(q k^T / sqrt(d)) of their layer: written out by hand, they also give the fused tokens", "[models]") {
  torch::NoGradGuard guard;
  at::Generator generator = Generator({.seed = 8}).torch_generator(at::kCPU);
  const auto drawn = [&](at::IntArrayRef shape) { return torch::empty(shape, torch::kDouble).normal_(0, 1, generator); };
  for (const Norm norm : {Norm::kPost, Norm::kPre}) {
    INFO((norm == Norm::kPost ? "post" : "pre"));
    const FusionEncoderPtr fusion = make_fusion_encoder(BertFusionOptions{.layers = kLayers, .heads = kHeads, .mlp_width = 24, .norm = norm}, {.text_width = 12, .vision_width = 10});
    fusion->to(torch::kDouble);
    ByHand by_hand{.norm = norm};
    for (auto& entry : fusion->named_parameters()) {
      entry.value().copy_(drawn(entry.value().sizes()) * 0.5);
      by_hand.parameters[entry.key()] = entry.value();
    }
    // Four pairs of two pictures, texts of different lengths, and for one pair a hidden part of its picture.
    const Tensor text = drawn({4, 5, 12}), pictures = drawn({2, 7, 10}), index = torch::tensor({1, 0, 1, 1});
    const Tensor text_mask = torch::arange(5).unsqueeze(0) < torch::tensor({5, 3, 2, 4}).unsqueeze(1);
    const Tensor visual_mask = torch::ones({4, 7}, torch::kBool);
    visual_mask[2].slice(0, 3).fill_(false);
    by_hand.run(text, text_mask, pictures.index_select(0, index), visual_mask);

    Dropout none;
    const ProjectedVisuals visuals = fusion->project(pictures);
    const FusionPairs pairs{fusion->prepare(text, text_mask, none), text_mask, index, visual_mask, {}};
    const Tensor real = text_mask.unsqueeze(1).unsqueeze(3);  // what stands at padding means nothing
    CHECK(at::allclose(fusion->fuse(pairs, visuals, none).index({text_mask}), by_hand.output.index({text_mask}), 1e-11, 1e-11));
    for (std::int64_t layer = 0; layer < kLayers; ++layer) {
      const Tensor weights = fusion->cross_attention(pairs, visuals, layer, none);
      CHECK(weights.sizes() == at::IntArrayRef{4, kHeads, 5, 7});
      CHECK(at::allclose(weights * real, by_hand.weights[static_cast<std::size_t>(layer)] * real, 1e-11, 1e-12));
      CHECK(at::allclose(weights.sum(3), torch::ones({4, kHeads, 5}, torch::kDouble), 1e-12, 1e-12));
      CHECK(weights[2].slice(2, 3).abs().max().item<double>() == 0.0);
      CHECK(at::equal(fusion->cross_attention(pairs, visuals, layer - kLayers, none), weights));
      // At some positions, the same numbers.
      FusionPairs some = pairs;
      some.positions = torch::tensor({{2, 0}}, torch::kLong).expand({4, 2});
      CHECK(at::allclose(fusion->cross_attention(some, visuals, layer, none), weights.index_select(2, torch::tensor({2, 0})), 1e-12, 1e-12));
    }
    CHECK_FALSE(at::allclose(by_hand.weights[0], by_hand.weights[1], 1e-3, 1e-3));
    CHECK_THROWS_WITH(fusion->cross_attention(pairs, visuals, 2, none), Catch::Contains("expected one of 2 (-2 to 1), got 2"));
  }
}

TEST_CASE("a pass says where texts look: in every encoder a row sums to 1 over the picture's tokens, and a region's text sees its region only", "[models]") {
  torch::NoGradGuard guard;
  for (const auto& [kind, vision] : every_vision()) {
    INFO(kind);
    const ModelPtr model = make(vision);
    model->eval();
    const auto pass = model->begin(batch_with(1));
    const Tensor rows = torch::arange(4), images = torch::tensor({0, 0, 1, 1});
    const Tensor whole = pass->cross_attention({.text_index = rows, .visual = VisualInput::kImage, .visual_index = images}, -1);
    CHECK(whole.sizes() == at::IntArrayRef{4, 2, 5, 1 + kGrid * kGrid});
    CHECK(at::allclose(whole.sum(3), torch::ones({4, 2, 5}), 1e-5, 1e-6));
    const Tensor own = pass->cross_attention({.text_index = rows, .visual_index = rows}, 0);
    const Tensor hidden = pass->regions().mask.logical_not().unsqueeze(1).unsqueeze(1).expand_as(own);
    CHECK(hidden.any().item<bool>());
    CHECK(own.masked_select(hidden).abs().max().item<double>() == 0.0);
    CHECK(at::allclose(own.sum(3), torch::ones({4, 2, 5}), 1e-5, 1e-6));
  }
}

}  // namespace
}  // namespace fgvl::models
