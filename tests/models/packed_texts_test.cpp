// Texts without their padding: what is computed of them, and every gradient, must be as if each text stood alone.
#include <torch/torch.h>

#include "models/attention.hpp"
#include "models/bundles.hpp"
#include "models/packed_texts.hpp"
#include "support/catch.hpp"

namespace fgvl::models {
namespace {

constexpr std::int64_t kTokenWidth = 6, kLength = 5;
const std::vector<std::int64_t> kLengths{3, 5, 1, 4};

Tensor mask_of(const std::vector<std::int64_t>& lengths) {
  return torch::arange(kLength).unsqueeze(0) < torch::tensor(lengths).unsqueeze(1);
}

Tensor gradient(const Tensor& output, const Tensor& of) {
  const Tensor weights = torch::arange(output.numel(), output.options()).view(output.sizes()).cos();
  return torch::autograd::grad({(output * weights).sum()}, {of}, /*grad_outputs=*/{}, /*retain_graph=*/true)[0];
}

TEST_CASE("packed texts hold the real tokens in order, and give them back with zeros behind them", "[models]") {
  const Tensor mask = mask_of(kLengths), padded = torch::randn({4, kLength, kTokenWidth}, at::kDouble).requires_grad_();
  const PackedTexts texts(mask);
  const Tensor packed = texts.pack(padded), expected = padded.index({mask});
  CHECK(at::equal(packed, expected));
  CHECK(at::equal(gradient(packed, padded), gradient(expected, padded)));
  CHECK(at::equal(texts.place_in_text(), torch::tensor({0, 1, 2, 0, 1, 2, 3, 4, 0, 0, 1, 2, 3})));
  CHECK(at::equal(texts.spread(packed), padded * mask.unsqueeze(2)));
  CHECK(at::equal(gradient(texts.spread(packed), padded), gradient(padded * mask.unsqueeze(2), padded)));
  CHECK(at::equal(texts.pad(packed).index({mask}), packed));
  const Tensor positions = torch::tensor({0, 0, 4, 1, 0, 0, 3, 3}).view({4, 2});  // repeated ones too
  const Tensor chosen = padded.gather(1, positions.unsqueeze(2).expand({-1, -1, kTokenWidth})).flatten(0, 1);
  CHECK(at::equal(texts.at_positions(packed, positions), chosen));
  CHECK(at::allclose(gradient(texts.at_positions(packed, positions), padded), gradient(chosen, padded)));
}

TEST_CASE("texts without padding are only seen in another shape", "[models]") {
  const Tensor padded = torch::randn({3, kLength, kTokenWidth}, at::kDouble);
  const PackedTexts texts(mask_of({5, 5, 5}));
  CHECK(texts.pack(padded).data_ptr() == padded.data_ptr());
  CHECK(texts.pad(texts.pack(padded)).data_ptr() == padded.data_ptr());
  CHECK(at::equal(texts.place_in_text(), torch::arange(kLength).repeat({3})));
}

TEST_CASE("heads of packed texts stand where padding, splitting and joining put them, with the same gradients", "[models]") {
  for (const std::vector<std::int64_t>& lengths : {kLengths, {5, 5, 5}}) {
    const Tensor mask = mask_of(lengths);
    const PackedTexts texts(mask);
    for (const at::ScalarType type : {at::kDouble, at::kFloat}) {
      const Tensor rows = torch::randn({mask.sum().item<std::int64_t>(), kTokenWidth}, type).requires_grad_();
      const Tensor ours = texts.pad_heads(rows, 3), expected = split_heads(texts.pad(rows), 3);
      CHECK(at::equal(ours, expected));
      // Gradients at padding are dropped.
      const Tensor real = mask.view({mask.size(0), 1, kLength, 1});
      CHECK(at::equal(gradient(ours * real, rows), gradient(expected * real, rows)));
      CHECK(at::equal(gradient(ours, rows), gradient(expected, rows)));

      const Tensor heads = torch::randn({mask.size(0), 3, kLength, kTokenWidth / 3}, type).requires_grad_();
      const Tensor as_fused_kernels_leave_them = heads.transpose(1, 2).contiguous().transpose(1, 2);
      CHECK(at::equal(texts.pack_heads(heads), texts.pack(merge_heads(heads))));
      CHECK(at::equal(texts.pack_heads(heads), texts.pack_heads(as_fused_kernels_leave_them)));
      CHECK(at::equal(gradient(texts.pack_heads(heads), heads), gradient(texts.pack(merge_heads(heads)), heads)));
    }
  }
}

TEST_CASE("attention of packed texts a bundle at a time equals that of every text alone, with its gradients", "[models]") {
  const Tensor mask = mask_of(kLengths), sequence_index = torch::tensor({1, 0, 1, 1});
  const PackedTexts texts(mask);
  const Bundles bundles = make_bundles(sequence_index);
  REQUIRE(bundles.size > 1);
  REQUIRE(bundles.sequence.size(0) * bundles.size > 4);  // an empty slot, whose output must be dropped
  const Tensor query = torch::randn({13, kTokenWidth}, at::kDouble).requires_grad_(), key = torch::randn({2, 7, kTokenWidth}, at::kDouble).requires_grad_(), value = torch::randn({2, 7, kTokenWidth}, at::kDouble).requires_grad_();
  const PackedTexts in_bundles = texts.bundled(bundles);
  const auto heads = [&](const Tensor& visual) { return split_heads(visual.index_select(0, bundles.sequence), 2); };
  const Tensor ours = in_bundles.pack_heads(attend_heads(in_bundles.pad_heads(query, 2), heads(key), heads(value), {}));
  std::vector<Tensor> alone;
  std::int64_t first = 0;
  for (std::size_t n = 0; n < kLengths.size(); ++n) {
    const std::int64_t own = sequence_index[static_cast<std::int64_t>(n)].item<std::int64_t>();
    alone.push_back(attend(query.slice(0, first, first + kLengths[n]).unsqueeze(0), key.slice(0, own, own + 1), value.slice(0, own, own + 1), 2, {})[0]);
    first += kLengths[n];
  }
  const Tensor expected = at::cat(alone);
  CHECK(at::allclose(ours, expected));
  for (const Tensor& of : {query, key, value}) CHECK(at::allclose(gradient(ours, of), gradient(expected, of)));
}

}  // namespace
}  // namespace fgvl::models
