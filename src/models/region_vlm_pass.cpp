#include "models/region_vlm_pass.hpp"

#include <array>
#include <optional>

#include "core/torch_compat.hpp"
#include "fgvl/core/boxes.hpp"
#include "models/dropout.hpp"

namespace fgvl::models {
namespace {

Tensor unit_rows(const Tensor& rows) { return rows / rows.norm(2, 1, /*keepdim=*/true).clamp_min(1e-12); }

bool asks_for_same(const FusionQuery& a, const FusionQuery& b) {
  const auto same = [](const Tensor& one, const Tensor& other) { return one.defined() == other.defined() && (!one.defined() || (one.sizes() == other.sizes() && at::equal(one, other))); };
  return a.text == b.text && a.visual == b.visual && same(a.text_index, b.text_index) && same(a.visual_index, b.visual_index) && same(a.positions, b.positions);
}

/// Losses and heads compute in full precision, whatever the encoders did.
Tensor full(const Tensor& value) { return value.scalar_type() == at::kBFloat16 ? value.to(at::kFloat) : value; }

class RegionVlmPass final : public ForwardPass {
 public:
  RegionVlmPass(RegionVlm& model, const RegionBatch& batch, const PassOptions& options, PassRole role)
      : model_(model), batch_(batch), options_(options), role_(std::move(role)), collective_(options.collective ? options.collective : make_single_process()), device_(batch.text_ids.device()) {
    const ImageFeatures& image = options_.given.image;
    const TextFeatures& text = options_.given.text;
    if (image.embeds.defined()) {
      TORCH_CHECK(image.embeds.dim() == 3 && image.embeds.size(1) == image_tokens() && image.features.defined() && image.features.size(0) == image.embeds.size(0),
                  "[RegionVlm::begin] given.image: expected embeds [B, ", image_tokens(), ", Dv] and features [B, E], got embeds ", image.embeds.sizes());
      image_ = image;
    }
    if (text.embeds.defined()) {
      TORCH_CHECK(text.embeds.dim() == 3 && text.embeds.size(0) == batch_.text_count() && batch_.text_mask.sizes() == text.embeds.sizes().slice(0, 2) && text.features.defined(),
                  "[RegionVlm::begin] given.text: expected embeds [T, L, D] and features [T, E] of batch.text_mask ", batch_.text_mask.sizes(), ", got embeds ", text.embeds.sizes());
      text_embeds_ = text.embeds;
      text_ = text;
    }
  }

  const RegionBatch& batch() const override { return batch_; }

  const ImageFeatures& image() override {
    if (!image_) {
      const VisualTokens& visual = visual_tokens();
      const Tensor embeds = visual.sequences.slice(0, 0, batch_.image_count()).slice(1, 0, image_tokens());
      image_ = ImageFeatures{embeds, unit_rows(model_.vision_proj(full(embeds.select(1, 0))))};
    }
    return *image_;
  }

  const RegionFeatures& regions() override {
    if (!regions_) {
      const VisualTokens& visual = visual_tokens();
      regions_ = RegionFeatures{visual.sequences, visual.sequence_index, unit_rows(model_.vision_proj(full(visual.first_token))), visual.mask};
    }
    return *regions_;
  }

  const TextFeatures& text() override {
    if (!text_) {
      const Tensor& embeds = text_embeds();
      text_ = TextFeatures{embeds, features_of(embeds, batch_.text_mask), batch_.text_mask};
    }
    return *text_;
  }

  const TextFeatures& masked_text() override {
    if (!masked_text_) {
      TORCH_CHECK(batch_.masked_ids.defined(), "[ForwardPass::masked_text] batch.masked_ids is undefined");
      masked_text_ = TextFeatures{encode("masked_text", batch_.masked_ids, batch_.text_mask), {}, batch_.text_mask};
    }
    return *masked_text_;
  }

  const TextFeatures& foil_text() override {
    if (!foil_text_) {
      TORCH_CHECK(batch_.foil_ids.defined(), "[ForwardPass::foil_text] batch.foil_ids is undefined");
      foil_text_ = TextFeatures{encode("foil_text", batch_.foil_ids, batch_.foil_mask), {}, batch_.foil_mask};
    }
    return *foil_text_;
  }

  const Tensor& foil_features() override {
    if (!foil_features_.defined()) foil_features_ = features_of(foil_text().embeds, batch_.foil_mask);
    return foil_features_;
  }

  const TextFeatures& label_text() override {
    if (!label_text_) {
      TORCH_CHECK(batch_.label_ids.defined(), "[ForwardPass::label_text] batch.label_ids is undefined");
      const Tensor embeds = encode("label_text", batch_.label_ids, batch_.label_mask);
      label_text_ = TextFeatures{embeds, features_of(embeds, batch_.label_mask), batch_.label_mask};
    }
    return *label_text_;
  }

  ForwardPass& momentum() override {
    if (!model_.momentum) return ForwardPass::momentum();
    if (!momentum_) {
      PassOptions options = options_;
      options.given = {};
      // No parameter of the copies requires a gradient, so that nothing is recorded.
      momentum_ = make_pass(*model_.momentum, batch_, options, {.stages = "momentum.", .dropout = model_.options().momentum->dropout});
    }
    return *momentum_;
  }

  Tensor fuse(const FusionQuery& query) override {
    // Masked words and position tokens ask for the same texts.
    const bool masked = query.text == TextInput::kMasked;
    if (masked && masked_fused_.defined() && asks_for_same(query, masked_query_)) return masked_fused_;
    const Fusion fusion = fusion_of(query, prepared(query.text));
    // Keyed by the kind of input, not by the number of calls before: a removed term must not change the dropout of the others.
    Dropout dropout = stage_dropout("fuse", dropout_kind(query));
    const Tensor tokens = fused(fusion.pairs, fusion.keys, dropout);
    if (masked) {
      masked_query_ = query;
      masked_fused_ = tokens;
    }
    return tokens;
  }

  Tensor decoded(const FusionQuery& query) override {
    TORCH_CHECK(model_.fusion->has_decoder(), "[ForwardPass::decoded] this model has no decoder");
    const Fusion fusion = fusion_of(query, prepared_for_decoder(query.text));
    Dropout dropout = stage_dropout("decode", dropout_kind(query));
    return fused(fusion.pairs, fusion.keys, dropout, &FusionEncoder::decode);
  }

  Tensor cross_attention(const FusionQuery& query, std::int64_t layer) override {
    const Fusion fusion = fusion_of(query, prepared(query.text));
    Dropout dropout = stage_dropout("fuse", dropout_kind(query));
    const auto scope = autocast();
    return full(model_.fusion->cross_attention(fusion.pairs, fusion.keys, layer, dropout));
  }

  const Tensor& matched() override {
    if (!matched_.defined()) {
      const Tensor all = at::arange(batch_.text_count(), batch_.text_to_image.options());
      Dropout dropout = stage_dropout("matched");
      const VisualTokens& visual = visual_tokens();
      const ProjectedVisuals& keys = projected();
      const FusionPairs pairs{prepared(TextInput::kText), batch_.text_mask, visual.sequence_index, visual.mask, at::zeros({all.size(0), 1}, all.options())};
      matched_ = fused(pairs, keys, dropout).select(1, 0);
    }
    return matched_;
  }

  Tensor predicted_boxes(const Tensor& text_index) override {
    TORCH_CHECK(model_.bbox_head, "[ForwardPass::predicted_boxes] this model has no box head (RegionVlmOptions::box_head)");
    const Tensor image_index = batch_.text_to_image.index_select(0, text_index);
    const FusionPairs pairs{prepared(TextInput::kText).index_select(0, text_index), batch_.text_mask.index_select(0, text_index), image_index, {},
                            at::zeros({text_index.size(0), 1}, text_index.options())};
    const ProjectedVisuals keys = projected_images();
    Dropout dropout = stage_dropout("boxes");
    return at::sigmoid(model_.bbox_head->forward(fused(pairs, keys, dropout).select(1, 0)));
  }

  const Tensor& word_embedding() const override { return model_.text->word_embedding(); }
  bool training() const override { return model_.is_training(); }
  std::int64_t step() const override { return options_.optimizer_step; }
  Generator generator(std::string_view purpose) const override { return Generator({.seed = options_.seed, .epoch = options_.step, .purpose = purpose}); }
  Collective& collective() const override { return *collective_; }

 private:
  /// What a query asks the fusion encoder for.
  struct Fusion {
    FusionPairs pairs;
    ProjectedVisuals keys;
  };
  /// `text`: the prepared texts of the kind that it asks for.
  Fusion fusion_of(const FusionQuery& query, const Tensor& text) {
    TORCH_CHECK(query.text_index.defined() && query.visual_index.defined() && query.text_index.sizes() == query.visual_index.sizes() && query.text_index.dim() == 1,
                "[ForwardPass::fuse] text_index, visual_index: expected two [N]");
    TORCH_CHECK(!query.positions.defined() || (query.positions.dim() == 2 && query.positions.size(0) == query.text_index.size(0)),
                "[ForwardPass::fuse] positions: expected [N, M] with N = ", query.text_index.size(0), ", got ", query.positions.sizes());
    // Tokens only: what projects them to the common space runs when a term asks for features.
    const VisualTokens& visual = visual_tokens();
    const ProjectedVisuals keys = query.visual == VisualInput::kRegion ? projected() : projected_images();
    FusionPairs pairs{text.index_select(0, query.text_index), mask_of(query.text).index_select(0, query.text_index), query.visual_index, {}, query.positions};
    if (query.visual == VisualInput::kRegion) {
      pairs.sequence_index = visual.sequence_index.index_select(0, query.visual_index);
      pairs.visual_mask = visual.mask.index_select(0, query.visual_index);
    }
    return {std::move(pairs), keys};
  }
  static std::uint64_t dropout_kind(const FusionQuery& query) { return static_cast<std::uint64_t>(query.text) * 2 + static_cast<std::uint64_t>(query.visual); }

  Dropout stage_dropout(const char* stage, std::uint64_t kind = 0) const {
    if (!model_.is_training() || !role_.dropout) return {};
    const std::string purpose = role_.stages + stage;
    return Dropout({.seed = options_.seed, .epoch = options_.step, .sample = (static_cast<std::uint64_t>(collective_->rank()) << 32) + kind, .purpose = purpose}, device_);
  }

  compat::Autocast autocast() const { return {device_, options_.bf16}; }

  using Run = Tensor (FusionEncoder::*)(const FusionPairs&, const ProjectedVisuals&, Dropout&);  ///< fuse or decode
  Tensor fused(const FusionPairs& pairs, const ProjectedVisuals& keys, Dropout& dropout, Run run = &FusionEncoder::fuse) {
    const auto scope = autocast();
    return full((*model_.fusion.*run)(pairs, keys, dropout));
  }

  /// [T, L, D] text embeds -> [T, E] unit rows.
  Tensor features_of(const Tensor& embeds, const Tensor& mask) { return unit_rows(model_.text_proj(full(model_.text->feature_token(embeds, mask)))); }

  Tensor encode(const char* stage, const Tensor& ids, const Tensor& mask) {
    Dropout dropout = stage_dropout(stage);
    const auto scope = autocast();
    return full(model_.text->encode(ids, mask, dropout));
  }

  const VisualTokens& visual_tokens() {
    if (!visual_ && options_.given.image.embeds.defined()) {
      TORCH_CHECK(!batch_.is_region.any().item<bool>(), "[ForwardPass] batch.is_region: the images were given encoded, without their regions; give batch.images instead");
      const Tensor& embeds = options_.given.image.embeds;
      visual_ = VisualTokens{embeds, batch_.text_to_image, embeds.select(1, 0).index_select(0, batch_.text_to_image), at::ones({batch_.text_count(), image_tokens()}, batch_.is_region.options())};
    }
    if (!visual_) {
      TORCH_CHECK(batch_.images.defined(), "[ForwardPass] batch.images: undefined, and no encoded images were given");
      const Tensor mask = patch_mask(batch_.boxes, model_.vision->grid(), model_.vision->grid());
      // A text about the whole image sees all of it, whatever its box says.
      const Tensor visible = mask.logical_or(batch_.is_region.logical_not().unsqueeze(1));
      Dropout dropout = stage_dropout("vision");
      const auto scope = autocast();
      visual_ = model_.vision->encode(batch_.images, {batch_.text_to_image, batch_.is_region, visible}, dropout);
    }
    return *visual_;
  }

  const Tensor& text_embeds() {
    if (!text_embeds_.defined()) text_embeds_ = encode("text", batch_.text_ids, batch_.text_mask);
    return text_embeds_;
  }

  const Tensor& embeds_of(TextInput input) { return input == TextInput::kText ? text_embeds() : input == TextInput::kMasked ? masked_text().embeds : foil_text().embeds; }
  const Tensor& mask_of(TextInput input) const { return input == TextInput::kFoil ? batch_.foil_mask : input == TextInput::kAllRanks ? mask_of_all_ranks_ : batch_.text_mask; }

  const Tensor& ids_of(TextInput input) const {
    const Tensor& ids = input == TextInput::kText ? batch_.text_ids : input == TextInput::kMasked ? batch_.masked_ids : batch_.foil_ids;
    TORCH_CHECK(ids.defined(), "[ForwardPass] batch.", input == TextInput::kText ? "text_ids" : input == TextInput::kMasked ? "masked_ids" : "foil_ids",
                ": undefined, but this model's fusion encoder reads texts from their token ids, also where their embeds were given");
    return ids;
  }

  /// What FusionEncoder::prepare or prepare_decoder makes of all texts of a kind.
  using Prepare = Tensor (FusionEncoder::*)(const Tensor&, const Tensor&, Dropout&);
  Tensor prepared_by(Prepare prepare, const char* stage, TextInput input, const Tensor& text) {
    Dropout dropout = stage_dropout(stage, static_cast<std::uint64_t>(input));
    const auto scope = autocast();
    return (*model_.fusion.*prepare)(text, mask_of(input), dropout);
  }

  const Tensor& prepared(TextInput input) {
    Tensor& kept = prepared_[static_cast<std::size_t>(input)];
    if (!kept.defined() && input == TextInput::kAllRanks) gather_texts();
    if (!kept.defined()) kept = prepared_by(&FusionEncoder::prepare, "prepare", input, model_.fusion->shared_text() != nullptr ? ids_of(input) : embeds_of(input));
    return kept;
  }

  /// Texts are gathered as prepared: what each rank computes of its own, with its own dropout, for all pairs with them. Padded to the longest of all ranks with zeros, as texts are.
  void gather_texts() {
    const Tensor& own = prepared(TextInput::kText);
    const std::int64_t longest = collective_->all_gather_rows(torch::tensor({own.size(1)}, batch_.text_to_image.options())).max().item<std::int64_t>(), missing = longest - own.size(1);
    prepared_[static_cast<std::size_t>(TextInput::kAllRanks)] = collective_->all_gather_rows(at::constant_pad_nd(own, {0, 0, 0, missing}));
    mask_of_all_ranks_ = collective_->all_gather_rows(at::constant_pad_nd(batch_.text_mask, {0, missing}));
  }

  const Tensor& prepared_for_decoder(TextInput input) {
    TORCH_CHECK(input != TextInput::kAllRanks, "[ForwardPass::decoded] text: texts of other ranks are fused, not decoded");
    Tensor& kept = prepared_for_decoder_[static_cast<std::size_t>(input)];
    if (!kept.defined()) kept = prepared_by(&FusionEncoder::prepare_decoder, "prepare_decoder", input, ids_of(input));
    return kept;
  }

  const ProjectedVisuals& projected() {
    if (!projected_) {
      const VisualTokens& visual = visual_tokens();
      const auto scope = autocast();
      projected_ = model_.fusion->project(visual.sequences);
    }
    return *projected_;
  }

  std::int64_t image_tokens() const { return 1 + model_.vision->grid() * model_.vision->grid(); }

  /// Without the [CLS] tokens of regions, which a text about a whole image must not see.
  ProjectedVisuals projected_images() {
    ProjectedVisuals images = projected();
    for (auto* layers : {&images.keys, &images.values}) {
      for (Tensor& layer : *layers) layer = layer.slice(-2, 0, image_tokens());
    }
    return images;
  }

  RegionVlm& model_;
  RegionBatch batch_;
  PassOptions options_;
  PassRole role_;
  CollectivePtr collective_;
  at::Device device_;
  std::optional<VisualTokens> visual_;
  std::optional<ImageFeatures> image_;
  std::optional<RegionFeatures> regions_;
  Tensor text_embeds_;
  std::optional<TextFeatures> text_, masked_text_, foil_text_, label_text_;
  std::optional<ProjectedVisuals> projected_;
  std::array<Tensor, 4> prepared_{}, prepared_for_decoder_{};  ///< by TextInput
  Tensor matched_, foil_features_, mask_of_all_ranks_, masked_fused_;
  FusionQuery masked_query_{};  ///< that masked_fused_ answers
  std::unique_ptr<ForwardPass> momentum_;
};

}  // namespace

std::unique_ptr<ForwardPass> make_pass(RegionVlm& model, const RegionBatch& batch, const PassOptions& options, PassRole role) {
  return std::make_unique<RegionVlmPass>(model, batch, options, std::move(role));
}

}  // namespace fgvl::models
