#include "models/name_tables.hpp"

namespace fgvl::models {
namespace {

const char kVision[] = "model.vision_encoder.", kText[] = "model.text_encoder.text_model.";

/// Transformer blocks, in which PyTorch's MultiheadAttention keeps queries, keys and values in one tensor.
void add_blocks(std::vector<NameRule>& rules, const std::string& tower, const std::string& official_tower) {
  const std::string ours = tower + "encoder.layers.#.", official = official_tower + "transformer.resblocks.#.";
  std::int64_t part = 0;
  for (const char* of : {"q_proj", "k_proj", "v_proj"}) {
    for (const char* kind : {"weight", "bias"}) {
      rules.push_back({.ours = ours + "self_attn." + of + "." + kind, .official = official + "attn.in_proj_" + kind, .part = part, .parts = 3});
    }
    ++part;
  }
  rules.push_back({ours + "self_attn.out_proj.", official + "attn.out_proj."});
  rules.push_back({ours + "layer_norm1.", official + "ln_1."});
  rules.push_back({ours + "layer_norm2.", official + "ln_2."});
  rules.push_back({ours + "mlp.fc1.", official + "mlp.c_fc."});
  rules.push_back({ours + "mlp.fc2.", official + "mlp.c_proj."});
}

/// `text`: what stands before the names of the text tower.
std::vector<NameRule> rules(const std::string& text) {
  std::vector<NameRule> all;
  const std::string vision = kVision, ours_text = kText;
  add_blocks(all, vision, "visual.");
  add_blocks(all, ours_text, text);
  all.insert(all.end(), {{vision + "class_embedding", "visual.class_embedding"},
                         {vision + "patch_embed.weight", "visual.conv1.weight"},
                         {vision + "pos_embed.weight", "visual.positional_embedding"},
                         {vision + "pre_layrnorm.", "visual.ln_pre."},
                         {vision + "post_layernorm.", "visual.ln_post."},
                         {vision + "input_resolution", "input_resolution"},
                         {ours_text + "embeddings.token_embedding.weight", text + "token_embedding.weight"},
                         {ours_text + "embeddings.position_embedding.weight", text + "positional_embedding"},
                         {ours_text + "final_layer_norm.", text + "ln_final."},
                         {ours_text + "context_length", "context_length"},
                         {ours_text + "vocab_size", "vocab_size"},
                         {.ours = "model.vision_proj.weight", .official = "visual.proj", .transposed = true},
                         {.ours = "model.text_proj.weight", .official = text + "text_projection", .transposed = true},
                         {"losses.*.temperature.logit_scale", "logit_scale", "itc"}});
  return all;
}

/// Sizes that OpenAI's archives carry as tensors.
std::vector<std::string> derived() {
  std::vector<std::string> names = kDerivedNames;
  names.insert(names.end(), {"attn_mask", "input_resolution", "context_length", "vocab_size"});
  return names;
}

}  // namespace

/// openai/CLIP a9b1bf5, clip/model.py, and OpenCLIP's models of the same form.
NameMap clip_names() {
  return {.family = "clip", .title = "CLIP (OpenAI)", .required = {"visual.*", "transformer.resblocks.*", "logit_scale"}, .rules = rules(""), .derived = derived()};
}

/// OpenCLIP 3.3.0, open_clip/model.py CustomTextCLIP: the text tower is a module of its own.
NameMap open_clip_names() {
  return {.family = "open_clip", .title = "CLIP (OpenCLIP, separate text tower)", .required = {"visual.*", "text.transformer.resblocks.*", "logit_scale"}, .rules = rules("text."), .derived = derived()};
}

/// transformers 4.57.1, models/clip/modeling_clip.py, CLIPModel.
NameMap clip_transformers_names() {
  const std::string vision = kVision;
  return {.family = "clip_transformers",
          .title = "CLIP (transformers)",
          .required = {"vision_model.*", "text_model.*", "logit_scale"},
          .rules = {{vision + "class_embedding", "vision_model.embeddings.class_embedding"},
                    {vision + "patch_embed.", "vision_model.embeddings.patch_embedding."},
                    {vision + "pos_embed.", "vision_model.embeddings.position_embedding."},
                    {vision + "position_ids", "vision_model.embeddings.position_ids"},
                    {vision, "vision_model."},
                    {kText, "text_model."},
                    {"model.vision_proj.", "visual_projection."},
                    {"model.text_proj.", "text_projection."},
                    {"losses.*.temperature.logit_scale", "logit_scale", "itc"}},
          .derived = kDerivedNames};
}

}  // namespace fgvl::models
