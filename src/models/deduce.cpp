#include "fgvl/models/deduce.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <optional>
#include <set>
#include <sstream>

namespace fgvl::models {
namespace {

constexpr std::int64_t kHeadWidth = 64;  // of every published BERT, ViT, DeiT and CLIP

/// What shapes cannot tell of a family's published models.
struct Published {
  const char* family;
  std::int64_t local_attn_depth;  ///< X-VLM: config_clipvitB.json and build_vision_encoder in models/xvlm.py; families that are not here know no regions: 0
};
constexpr Published kPublished[] = {{"xvlm", 4}, {"xvlm_finetuned", 4}, {"fgvl", 4}, {"fgvl_dual", 4}};

std::int64_t square_side(std::int64_t area) {
  const std::int64_t root = std::llround(std::sqrt(static_cast<double>(area)));
  return root * root == area ? root : 0;
}

std::string list_text(const std::vector<std::int64_t>& numbers) {
  std::string text;
  for (const std::int64_t number : numbers) text += (text.empty() ? "[" : ", ") + std::to_string(number);
  return text + "]";
}

/// The shapes of a checkpoint by our names, and the settings that are read off them.
class Reader {
 public:
  Reader(const std::vector<std::pair<std::string, Tensor>>& tensors, const std::string& family, const SavedConfiguration& saved) : family_(family), saved_(saved) {
    for (const auto& [name, tensor] : tensors) shapes_[name] = tensor.sizes().vec();
  }

  Deduced deduced{};

  const std::string& family() const { return family_; }
  bool has(const std::string& name) const { return shapes_.count(name) > 0; }
  bool has_below(const std::string& prefix) const {
    const auto found = shapes_.lower_bound(prefix);
    return found != shapes_.end() && found->first.rfind(prefix, 0) == 0;
  }
  /// 0 where there is no such tensor or dimension.
  std::int64_t size(const std::string& name, std::size_t dimension) const {
    const auto found = shapes_.find(name);
    return found != shapes_.end() && found->second.size() > dimension ? found->second[dimension] : 0;
  }
  /// Modules in the list below `prefix`: one more than the largest number.
  std::int64_t count(const std::string& prefix) const {
    constexpr std::size_t kMostDigits = 6;
    std::int64_t most = 0;
    for (auto entry = shapes_.lower_bound(prefix); entry != shapes_.end() && entry->first.rfind(prefix, 0) == 0; ++entry) {
      const std::string number = entry->first.substr(prefix.size(), entry->first.find('.', prefix.size()) - prefix.size());
      if (number.empty() || number.size() > kMostDigits || !std::all_of(number.begin(), number.end(), [](unsigned char c) { return std::isdigit(c); })) continue;
      most = std::max<std::int64_t>(most, std::stoll(number) + 1);
    }
    return most;
  }
  const std::map<std::string, std::vector<std::int64_t>>& shapes() const { return shapes_; }

  void add(const std::string& key, const std::string& value, SettingSource source = SettingSource::kTensors, const std::string& note = {}) { deduced.settings.push_back({key, value, source, note}); }
  void unknown(const std::string& key, const std::string& why) { add(key, "", SettingSource::kUnknown, why); }
  /// A size that must be positive; `where` is the tensor that it is read off.
  void add_size(const std::string& key, std::int64_t value, const std::string& where) { value > 0 ? add(key, std::to_string(value)) : unknown(key, "there is no " + where + " of the expected shape"); }
  void add_ratio(const std::string& key, std::int64_t wide, std::int64_t width, const std::string& where) {
    if (wide > 0 && width > 0 && wide % width != 0) return unknown(key, where + " has " + std::to_string(wide) + " rows, no multiple of the width " + std::to_string(width));
    add_size(key, width > 0 ? wide / width : 0, where);
  }

  std::optional<std::string> saved(const std::string& key) const {
    const auto found = saved_.find(key);
    return found == saved_.end() ? std::nullopt : std::optional(found->second);
  }
  /// A positive whole number of the saved configuration; 0: none.
  std::int64_t saved_number(const std::string& key) const {
    constexpr std::size_t kMostDigits = 9;
    const std::string text = saved(key).value_or("");
    return !text.empty() && text.size() <= kMostDigits && std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c); }) ? std::stoll(text) : 0;
  }

  void add_heads(const std::string& key, std::int64_t width) {
    if (width > 0 && width % kHeadWidth == 0) return add(key, std::to_string(width / kHeadWidth), SettingSource::kPublished, std::to_string(kHeadWidth) + " channels a head, as in every published model");
    unknown(key, "no tensor shows the number of heads, and the width " + std::to_string(width) + " is no multiple of " + std::to_string(kHeadWidth));
  }

  void add_activation(const std::string& options) {
    if (family_.rfind("clip", 0) != 0 && family_ != "open_clip") return;
    add(options + "activation", "quick_gelu", SettingSource::kPublished, "OpenAI's CLIP; most of OpenCLIP's own models have gelu");
  }

  void add_local_attn_depth(std::int64_t layers) {
    const auto* found = std::find_if(std::begin(kPublished), std::end(kPublished), [&](const Published& one) { return one.family == family_; });
    const std::int64_t depth = found == std::end(kPublished) ? 0 : found->local_attn_depth;
    add("model.vision.options.local_attn_depth", std::to_string(std::min(depth, layers)), SettingSource::kPublished, "last blocks that regions pass on their own; pictures do not depend on it");
  }

  /// `image_size` as tensors show it; 0: they do not. `otherwise` is assumed where the saved configuration does not say it either.
  void add_image_size(std::int64_t shown, std::int64_t otherwise, const std::string& note) {
    const std::string key = "model.vision.options.image_size";
    const std::int64_t written = saved_number("image_res");
    if (shown > 0 && written > 0 && shown != written) {
      unknown(key, "the tensors are of pictures of " + std::to_string(shown) + " pixels, the configuration beside them says " + std::to_string(written));
    } else if (shown > 0) {
      add(key, std::to_string(shown));
    } else if (written > 0) {
      add(key, std::to_string(written), SettingSource::kConfiguration);
    } else if (otherwise > 0) {
      add(key, std::to_string(otherwise), SettingSource::kPublished, note);
    } else {
      unknown(key, "no tensor shows it");
    }
  }

 private:
  std::string family_;
  const SavedConfiguration& saved_;
  std::map<std::string, std::vector<std::int64_t>> shapes_;
};

const std::string kVision = "model.vision_encoder.", kText = "model.text_encoder.", kFusion = "model.fusion_encoder.";
const std::string kVisionOptions = "model.vision.options.";

/// Patches a side of a position table of `rows`, of which the first `extra` are no patches.
std::int64_t picture_side(std::int64_t rows, std::int64_t extra, std::int64_t patch) { return rows > extra ? square_side(rows - extra) * patch : 0; }

/// Of a vision transformer with a class token. `patches`: name of its first weights; `positions`: rows of its position table; `layer`: what its blocks' names begin with.
struct VitSizes {
  std::int64_t width = 0, layers = 0;
};
VitSizes read_vit_sizes(Reader& reader, const std::string& patches, std::int64_t positions, const std::string& layer) {
  const std::int64_t width = reader.size(patches, 0), patch = reader.size(patches, 2), layers = reader.count(layer);
  reader.add_image_size(picture_side(positions, 1, patch), 0, "");
  reader.add_size(kVisionOptions + "patch_size", patch, patches);
  reader.add_size(kVisionOptions + "width", width, patches);
  reader.add_size(kVisionOptions + "layers", layers, layer + "*");
  reader.add_heads(kVisionOptions + "heads", width);
  return {width, layers};
}

void read_clip_vit(Reader& reader) {
  const std::string layer = kVision + "encoder.layers.", mlp = layer + "0.mlp.fc1.weight";
  const VitSizes sizes = read_vit_sizes(reader, kVision + "patch_embed.weight", reader.size(kVision + "pos_embed.weight", 0), layer);
  reader.add_size(kVisionOptions + "mlp_width", reader.size(mlp, 0), mlp);
  reader.add_activation(kVisionOptions);
  reader.add_local_attn_depth(sizes.layers);
}

void read_deit(Reader& reader) {
  const std::string layer = kVision + "blocks.", mlp = layer + "0.mlp.fc1.weight";
  const VitSizes sizes = read_vit_sizes(reader, kVision + "patch_embed.proj.weight", reader.size(kVision + "pos_embed", 1), layer);
  reader.add_ratio(kVisionOptions + "mlp_ratio", reader.size(mlp, 0), sizes.width, mlp);
  reader.add_local_attn_depth(sizes.layers);
}

void read_vit(Reader& reader) {
  const std::string stem = kVision + "stem.", layer = kVision + "layers.", positions = kVision + "pos_embed", mlp = layer + "0.mlp.fc1.weight";
  const std::int64_t width = reader.size(positions, 2), layers = reader.count(layer);
  std::vector<std::int64_t> channels;
  for (std::int64_t i = 0; i < reader.count(stem); ++i) {
    const std::string convolution = stem + std::to_string(i) + ".weight";
    if (reader.size(convolution, 3) > 0) channels.push_back(reader.size(convolution, 0));
  }
  const bool linear = channels.size() == 1 && !reader.has_below(stem + "1.");
  // A conv stem of one layer and a linear one of patches of 3 have the same tensors; the latter has never been published.
  const std::int64_t kernel = reader.size(stem + "0.weight", 2), patch = linear && kernel != 3 ? kernel : std::int64_t{1} << std::min<std::size_t>(channels.size(), 16);
  reader.add_image_size(picture_side(reader.size(positions, 1), 0, patch), 0, "");
  reader.add_size(kVisionOptions + "patch_size", channels.empty() ? 0 : patch, stem + "0.weight");
  reader.add_size(kVisionOptions + "width", width, positions);
  reader.add(kVisionOptions + "layers", std::to_string(layers));
  reader.add_heads(kVisionOptions + "heads", width);
  if (layers > 0) reader.add_ratio(kVisionOptions + "mlp_ratio", reader.size(mlp, 0), width, mlp);
  reader.add(kVisionOptions + "stem", linear && kernel != 3 ? "linear" : "conv");
  if (channels.size() > 1) reader.add(kVisionOptions + "stem_channels", list_text({channels.begin(), channels.end() - 1}));
  reader.add(kVisionOptions + "position", "learned", SettingSource::kPublished, "the table is read from the file either way; sincos would only keep it from training");
}

void read_swin(Reader& reader) {
  const std::string patches = kVision + "patch_embed.proj.weight", mlp = kVision + "layers.0.blocks.0.mlp.fc1.weight";
  const std::int64_t width = reader.size(patches, 0), patch = reader.size(patches, 2), stages = reader.count(kVision + "layers.");
  std::vector<std::int64_t> depths, heads, windows;
  std::set<std::int64_t> shown;  // what the stages say the picture's side is
  for (std::int64_t stage = 0; stage < stages; ++stage) {
    const std::string blocks = kVision + "layers." + std::to_string(stage) + ".blocks.", table = blocks + "0.attn.relative_position_bias_table", mask = blocks + "1.attn_mask";
    depths.push_back(reader.count(blocks));
    heads.push_back(reader.size(table, 1));
    windows.push_back((square_side(reader.size(table, 0)) + 1) / 2);
    // An official file has a mask for every shifted block, and blocks are shifted where a stage is larger than its window.
    std::int64_t side = square_side(reader.size(mask, 0)) * windows.back();
    const bool has_masks = reader.has(blocks + "0.attn.relative_position_index");
    if (side == 0 && ((has_masks && depths.back() > 1) || windows.back() < windows.front())) side = windows.back();
    if (side > 0 && patch > 0) shown.insert(side * (patch << stage));
  }
  const std::int64_t window = windows.empty() ? 0 : *std::max_element(windows.begin(), windows.end());
  if (shown.size() > 1) {
    reader.unknown(kVisionOptions + "image_size", "its stages contradict one another: " + list_text({shown.begin(), shown.end()}) + " pixels");
  } else {
    reader.add_image_size(shown.empty() ? 0 : *shown.begin(), stages > 0 ? window * (patch << (stages - 1)) : 0, "no tensor shows it; the last stage is one window, as in every published Swin");
  }
  reader.add_size(kVisionOptions + "patch_size", patch, patches);
  reader.add_size(kVisionOptions + "width", width, patches);
  reader.add(kVisionOptions + "depths", list_text(depths));
  reader.add(kVisionOptions + "heads", list_text(heads));
  reader.add_size(kVisionOptions + "window", window, "relative_position_bias_table");
  reader.add_ratio(kVisionOptions + "mlp_ratio", reader.size(mlp, 0), width, mlp);
}

void read_beit(Reader& reader) {
  const std::string block = kVision + "blocks.", patches = kVision + "patch_embed.proj.weight", mlp = block + "0.mlp.fc1.weight", table = ".relative_position_bias_table";
  const std::string own = block + "0.attn" + table, shared = kVision + "rel_pos_bias" + table;
  const bool is_shared = reader.has(shared);
  const std::int64_t width = reader.size(patches, 0), patch = reader.size(patches, 2), rows = reader.size(is_shared ? shared : own, 0);
  constexpr std::int64_t kClassRows = 3;  // to, from and of [CLS]
  const std::int64_t grid = rows > kClassRows ? (square_side(rows - kClassRows) + 1) / 2 : 0;
  reader.add_image_size(grid * patch, 0, "");
  reader.add_size(kVisionOptions + "patch_size", patch, patches);
  reader.add_size(kVisionOptions + "width", width, patches);
  reader.add_size(kVisionOptions + "layers", reader.count(block), block + "*");
  reader.add_size(kVisionOptions + "heads", reader.size(is_shared ? shared : own, 1), own);
  reader.add_ratio(kVisionOptions + "mlp_ratio", reader.size(mlp, 0), width, mlp);
  reader.add(kVisionOptions + "relative_positions", is_shared ? "shared" : "block");
  if (!reader.has(block + "0.gamma_1")) reader.add(kVisionOptions + "init_values", "0");
}

/// A vision encoder is known by one tensor. Another encoder is one more line; where two have it, the more particular stands first.
struct VisionKind {
  const char *type, *known_by;
  void (*read)(Reader&);
};
constexpr VisionKind kVisionKinds[] = {{"clip_vit", "class_embedding", read_clip_vit},
                                       {"swin", "layers.0.blocks.0.attn.relative_position_bias_table", read_swin},
                                       {"beit", "blocks.0.attn.q_bias", read_beit},
                                       {"deit", "cls_token", read_deit},
                                       {"vit", "stem.0.weight", read_vit}};

void read_vision(Reader& reader) {
  for (const VisionKind& kind : kVisionKinds) {
    if (!reader.has(kVision + kind.known_by)) continue;
    reader.add("model.vision.type", kind.type);
    return kind.read(reader);
  }
  reader.deduced.problems.push_back(reader.has_below(kVision) ? "its vision encoder is of a kind that this version does not know" : "it has no vision encoder");
}

/// What text and fusion encoder share: layers of BERT below `prefix`, options below `options`.
void read_bert_layers(Reader& reader, const std::string& prefix, const std::string& options, std::int64_t width) {
  const std::string layer = prefix + "layer.", mlp = "0.intermediate.dense.weight";
  const std::int64_t layers = reader.count(layer);
  reader.add(options + "layers", std::to_string(layers));
  if (const std::int64_t heads = reader.saved_number("num_attention_heads"); heads > 0) {
    reader.add(options + "heads", std::to_string(heads), SettingSource::kConfiguration);
  } else {
    reader.add_heads(options + "heads", width);
  }
  if (layers > 0) reader.add_size(options + "mlp_width", reader.size(layer + mlp, 0), layer + mlp);
  if (const auto eps = reader.saved("layer_norm_eps")) {
    reader.add(options + "layer_norm_eps", *eps, SettingSource::kConfiguration);
  } else {
    reader.add(options + "layer_norm_eps", "1e-12", SettingSource::kPublished, "BERT's");
  }
  reader.add(options + "norm", reader.has(prefix + "norm.weight") ? "pre" : "post");
}

void read_clip_text(Reader& reader) {
  const std::string model = kText + "text_model.", words = model + "embeddings.token_embedding.weight", positions = model + "embeddings.position_embedding.weight", layer = model + "encoder.layers.",
                    mlp = layer + "0.mlp.fc1.weight", options = "model.text.options.";
  reader.deduced.vocab_size = reader.size(words, 0);
  reader.deduced.max_tokens = reader.size(positions, 0);
  reader.add("model.text.type", "clip_text");
  reader.add_size(options + "width", reader.size(words, 1), words);
  reader.add_size(options + "layers", reader.count(layer), layer + "*");
  reader.add_heads(options + "heads", reader.size(words, 1));
  reader.add_size(options + "mlp_width", reader.size(mlp, 0), mlp);
  reader.add_size(options + "max_tokens", reader.deduced.max_tokens, positions);
  reader.add_activation(options);
}

void read_text(Reader& reader) {
  if (reader.has(kText + "text_model.embeddings.token_embedding.weight")) return read_clip_text(reader);
  const std::string embeddings = kText + "embeddings.", words = embeddings + "word_embeddings.weight", positions = embeddings + "position_embeddings.weight", options = "model.text.options.";
  if (!reader.has(words)) {
    reader.deduced.problems.push_back(reader.has_below(kText) ? "its text encoder is of a kind that this version does not know" : "it has no text encoder");
    return;
  }
  reader.deduced.vocab_size = reader.size(words, 0);
  reader.deduced.max_tokens = reader.size(positions, 0);
  reader.add("model.text.type", "bert");
  reader.add_size(options + "width", reader.size(words, 1), words);
  reader.add_size(options + "max_tokens", reader.deduced.max_tokens, positions);
  reader.add(options + "token_types", std::to_string(reader.size(embeddings + "token_type_embeddings.weight", 0)));
  reader.add(options + "embedding_norm", reader.has(embeddings + "LayerNorm.weight") ? "true" : "false");
  read_bert_layers(reader, kText, options, reader.size(words, 1));
}

void read_fusion(Reader& reader) {
  const std::string query = kFusion + "layer.0.crossattention.self.query.weight";
  if (!reader.has_below(kFusion) && reader.has_below(kText + "text_model.")) {
    reader.add("model.fusion.type", "none");  // CLIP
    return;
  }
  if (!reader.has_below(kFusion)) {
    reader.deduced.problems.emplace_back("it has no fusion encoder");
    return;
  }
  if (reader.has(kFusion + "layer.0.decoder_attention.self.query.weight")) {
    reader.add("model.fusion.type", "blip");  // its sizes are the text encoder's
    return;
  }
  reader.add("model.fusion.type", "bert");
  read_bert_layers(reader, kFusion, "model.fusion.options.", reader.size(query, 0));
}

/// Names of terms with a tensor below "losses.<term>.<part>", in alphabetical order.
std::vector<std::string> terms_with(const Reader& reader, const std::string& part) {
  std::vector<std::string> terms;
  for (const auto& [name, shape] : reader.shapes()) {
    const std::string start = "losses.";
    const std::size_t dot = name.rfind(start, 0) == 0 ? name.find('.', start.size()) : std::string::npos;
    if (dot == std::string::npos || name.compare(dot + 1, part.size(), part) != 0) continue;
    const std::string term = name.substr(start.size(), dot - start.size());
    if (terms.empty() || terms.back() != term) terms.push_back(term);
  }
  return terms;
}

/// Terms are known by what they hold. Another kind of term is one more block.
void read_losses(Reader& reader) {
  std::set<std::string> known;
  const auto add_term = [&](const std::string& term, const char* type) {
    known.insert(term);
    reader.add("losses." + term + ".type", type);
  };
  std::string contrast;
  for (const std::string& term : terms_with(reader, "temperature.temp")) {
    add_term(term, "contrastive");
    if (contrast.empty()) contrast = term;
  }
  for (const std::string& term : terms_with(reader, "temperature.logit_scale")) {
    if (reader.has("losses." + term + ".logit_bias")) {
      add_term(term, "sigmoid_contrastive");
    } else {
      add_term(term, "contrastive");
      reader.add("losses." + term + ".options.temperature.kind", "log_scale");
    }
    if (contrast.empty()) contrast = term;
  }
  for (const std::string& term : terms_with(reader, "itm_head.")) {
    add_term(term, "matching");
    if (!contrast.empty()) reader.add("losses." + term + ".options.temperature", contrast);
    if (reader.has("losses." + term + ".itm_head.weight")) reader.add("losses." + term + ".options.head", "linear");
  }
  for (const std::string& term : terms_with(reader, "dense.weight")) {
    add_term(term, "masked_language");
    if (reader.has("losses." + term + ".decoder.weight")) reader.add("losses." + term + ".options.decoder", "own");
    if (reader.family() == "pevl") {
      // The head that reads words reads places, too; the loss has no tensors of its own.
      reader.add("losses.position.type", "position_tokens", SettingSource::kPublished, "PEVL's second loss of masked words");
      reader.add("losses.position.options.masked_language", term, SettingSource::kPublished, "the head that predicts words");
    }
  }
  for (const std::string& term : terms_with(reader, "lm_head.")) add_term(term, "language_model");
  for (const std::string& term : terms_with(reader, "")) {
    if (known.count(term) == 0) reader.deduced.problems.push_back("its loss '" + term + "' is of a kind that this version does not know by its tensors");
  }
  if (reader.has_below("model.bbox_head.")) {
    reader.add("losses.box.type", "box_regression");
  } else {
    reader.add("model.box_head", "false");
  }
}

}  // namespace

const Setting* Deduced::find(const std::string& key) const {
  const auto found = std::find_if(settings.begin(), settings.end(), [&](const Setting& setting) { return setting.key == key; });
  return found == settings.end() ? nullptr : &*found;
}

Deduced deduce(const std::vector<std::pair<std::string, Tensor>>& tensors, const std::string& family, const SavedConfiguration& saved) {
  Reader reader(tensors, family, saved);
  read_vision(reader);
  read_text(reader);
  read_fusion(reader);
  reader.add_size("model.embed_dim", reader.size("model.vision_proj.weight", 0), "vision_proj.weight");
  if (reader.has("model.vision_proj.weight") && !reader.has("model.vision_proj.bias")) reader.add("model.projection_bias", "false");
  read_losses(reader);
  return std::move(reader.deduced);
}

}  // namespace fgvl::models
