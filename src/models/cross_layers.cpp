#include "models/cross_layers.hpp"

#include "models/attention.hpp"
#include "models/bundles.hpp"
#include "models/recompute.hpp"

namespace fgvl::models {
namespace {

Tensor text_mask_of(const FusionPairs& pairs) { return additive_mask(pairs.text_mask, pairs.text.scalar_type()); }
Tensor visual_mask_of(const FusionPairs& pairs) { return pairs.visual_mask.defined() ? additive_mask(pairs.visual_mask, pairs.text.scalar_type()) : Tensor(); }

/// [N, 1, 1, S] -> [C, 1, size * length, S]: each slot's tokens see what its pair's do.
Tensor in_slots(const Tensor& mask, const Bundles& bundles, std::int64_t length) {
  if (!mask.defined()) return Tensor();
  return bundles.gather(mask.flatten(1)).unsqueeze(2).expand({-1, -1, length, -1}).flatten(1, 2).unsqueeze(1);
}

}  // namespace

ProjectedVisuals CrossLayers::project(const Tensor& sequences) {
  ProjectedVisuals projected;
  for (const auto& layer : layers_) {
    const BertAttention::Projected one = layer->project_visuals(sequences);
    projected.keys.push_back(one.key);
    projected.values.push_back(one.value);
  }
  return projected;
}

Tensor CrossLayers::prepare(const Tensor& text, const Tensor& mask, Dropout& dropout) {
  const PackedTexts texts(mask, at_padding());
  return prepared(texts.pack(text), texts, additive_mask(mask, text.scalar_type()), layers_, dropout);
}

Tensor CrossLayers::fuse(const FusionPairs& pairs, const ProjectedVisuals& visuals, Dropout& dropout) {
  return finished(run_to(layers_.size() - 1, layers_, text_mask_of(pairs), pairs, visuals, /*with_visuals=*/true, dropout));
}

Tensor CrossLayers::cross_attention(const FusionPairs& pairs, const ProjectedVisuals& visuals, std::int64_t layer, Dropout& dropout) {
  const auto count = static_cast<std::int64_t>(layers_.size());
  TORCH_CHECK(layer >= -count && layer < count, "[FusionEncoder::cross_attention] layer: expected one of ", count, " (-", count, " to ", count - 1, "), got ", layer);
  const auto index = static_cast<std::size_t>(layer < 0 ? layer + count : layer);
  const Stream stream = run_to(index, layers_, text_mask_of(pairs), pairs, visuals, /*with_visuals=*/false, dropout);
  return layers_[index]->visual_weights(stream.tokens, stream.texts, visuals.keys[index].index_select(0, pairs.sequence_index), visual_mask_of(pairs));
}

double CrossLayers::flops_per_pair(std::int64_t tokens, std::int64_t visual_tokens) const {
  const double n = static_cast<double>(tokens), d = static_cast<double>(context_.text_width), s = static_cast<double>(visual_tokens);
  return static_cast<double>(layers_.size()) * (bert_layer_flops(n, d, static_cast<double>(layers_.front()->options().mlp_width)) + 4 * n * d * d + 4 * n * s * d);
}

double CrossLayers::flops_per_sequence(std::int64_t visual_tokens) const {
  return static_cast<double>(layers_.size()) * 4 * static_cast<double>(visual_tokens * context_.vision_width * context_.text_width);
}

Tensor CrossLayers::prepared(const Tensor& tokens, const PackedTexts& texts, const Tensor& text_mask, const BertLayers& layers, Dropout& dropout) const {
  return texts.spread(recompute(gradient_checkpointing(), layers.front(), {tokens}, dropout, [layer = layers.front(), texts, text_mask](const std::vector<Tensor>& in, Dropout& drops) {
    return layer->attend_to_text(in[0], texts, text_mask, {}, drops);
  }));
}

CrossLayers::Stream CrossLayers::run_to(std::size_t last, const BertLayers& layers, const Tensor& text_mask, const FusionPairs& pairs, const ProjectedVisuals& visuals, bool with_visuals, Dropout& dropout) const {
  const Bundles bundles = make_bundles(pairs.sequence_index);
  const Tensor visual_mask = visual_mask_of(pairs);
  PackedTexts texts(pairs.text_mask, at_padding()), in_bundles = texts.bundled(bundles);
  Tensor bundle_mask = in_slots(visual_mask, bundles, texts.length()), tokens = texts.pack(pairs.text);
  for (std::size_t i = 0; i <= last; ++i) {
    const PackedTexts before = texts;
    const Tensor positions = i == last ? pairs.positions : Tensor();
    if (positions.defined()) {
      texts = PackedTexts::of_positions(positions);
      in_bundles = texts.bundled(bundles);
      bundle_mask = in_slots(visual_mask, bundles, texts.length());
    }
    const bool prepared = i == 0, looks = i < last || with_visuals;
    tokens = recompute(gradient_checkpointing(), layers[i], {tokens, visuals.keys[i], visuals.values[i]}, dropout,
                       [layer = layers[i], before, in_bundles, positions, prepared, looks, text_mask, bundle_mask, bundles](const std::vector<Tensor>& in, Dropout& drops) {
                         const Tensor stream = !prepared ? layer->attend_to_text(in[0], before, text_mask, positions, drops) : positions.defined() ? before.at_positions(in[0], positions) : in[0];
                         if (!looks) return stream;
                         const BertAttention::Projected own{bundles.of_bundles(in[1]), bundles.of_bundles(in[2])};
                         return layer->think(layer->attend_to_visuals(stream, in_bundles, own, bundle_mask, drops), drops);
                       });
  }
  return {tokens, texts};
}

}  // namespace fgvl::models
