#include "fgvl/models/name_map.hpp"

#include <algorithm>
#include <cctype>
#include <map>

#include "fgvl/core/glob.hpp"

namespace fgvl::models {
namespace {

const std::vector<std::string> kDerived = {"*.position_ids", "*.relative_position_index", "*.attn_mask"};

NameMap fgvl_map() {
  return {.family = "fgvl",
          .title = "fgvl",
          .required = {"model.vision_encoder.*", "model.text_encoder.*", "model.fusion_encoder.*", "model.vision_proj.weight"},
          .rules = {{"model.", "model."}, {"losses.", "losses."}},
          .derived = kDerived};
}

/// zengyan-97/X-VLM cb4fff1, models/xvlm.py and model_pretrain.py. Vision encoders have the official names on both sides.
NameMap xvlm_map() {
  return {.family = "xvlm",
          .title = "X-VLM",
          .required = {"vision_encoder.*", "text_encoder.bert.encoder.layer.*.crossattention.*", "vision_proj.weight"},
          .rules = {{"model.fusion_encoder.layer.#.", "text_encoder.bert.encoder.layer.#.", "", /*after_text_layers=*/true},
                    {"model.text_encoder.layer.#.", "text_encoder.bert.encoder.layer.#."},
                    {"model.text_encoder.", "text_encoder.bert."},
                    {"model.vision_encoder.", "vision_encoder."},
                    {"model.vision_proj.", "vision_proj."},
                    {"model.text_proj.", "text_proj."},
                    {"model.bbox_head.", "bbox_head."},
                    // Terms are found by what they hold, because their names are the user's.
                    {"losses.*.itm_head.", "itm_head.", "itm"},
                    {"losses.*.temperature.temp", "temp", "itc"},
                    {"losses.*.dense.", "text_encoder.cls.predictions.transform.dense.", "mlm"},
                    {"losses.*.LayerNorm.", "text_encoder.cls.predictions.transform.LayerNorm.", "mlm"},
                    {"losses.*.bias", "text_encoder.cls.predictions.bias", "mlm"}},
          .ties = {{"text_encoder.cls.predictions.decoder.weight", "text_encoder.bert.embeddings.word_embeddings.weight"},
                   {"text_encoder.cls.predictions.decoder.bias", "text_encoder.cls.predictions.bias"}},
          .derived = kDerived};
}

// Families whose models come later: they are recognised, so that `info` can say what a file is; their rules belong here.
NameMap pevl_map() { return {.family = "pevl", .title = "PEVL", .required = {"visual_encoder.*", "text_encoder.bert.*", "image_idx_queue"}, .derived = kDerived}; }
NameMap blip_map() { return {.family = "blip", .title = "BLIP", .required = {"visual_encoder.*", "text_decoder.bert.*"}, .derived = kDerived}; }
NameMap albef_map() { return {.family = "albef", .title = "ALBEF", .required = {"visual_encoder.*", "text_encoder.bert.*", "vision_proj.weight"}, .derived = kDerived}; }
NameMap clip_map() { return {.family = "clip", .title = "CLIP (OpenAI)", .required = {"visual.*", "transformer.resblocks.*", "logit_scale"}, .derived = kDerived}; }
NameMap clip_transformers_map() { return {.family = "clip_transformers", .title = "CLIP (transformers)", .required = {"vision_model.*", "text_model.*", "logit_scale"}, .derived = kDerived}; }
NameMap bert_map() { return {.family = "bert", .title = "BERT", .required = {"*embeddings.word_embeddings.weight", "*encoder.layer.0.attention.self.query.weight"}, .derived = kDerived}; }

/// What a pattern left open.
struct Match {
  std::int64_t layer = 0;
  std::string rest{};
};

/// `pattern` against the beginning of `name`, or all of it where the pattern does not end in a dot.
std::optional<Match> match(const std::string& pattern, const std::string& name) {
  Match found;
  std::size_t at = 0;
  for (const char expected : pattern) {
    if (expected == '#' || expected == '*') {
      const std::size_t end = std::min(name.find('.', at), name.size());
      if (end == at) return std::nullopt;
      if (expected == '#') {
        constexpr std::size_t kMostDigits = 6;
        if (end - at > kMostDigits || !std::all_of(name.begin() + static_cast<std::ptrdiff_t>(at), name.begin() + static_cast<std::ptrdiff_t>(end), [](unsigned char c) { return std::isdigit(c); })) return std::nullopt;
        found.layer = std::stoll(name.substr(at, end - at));
      }
      at = end;
    } else if (at < name.size() && name[at] == expected) {
      ++at;
    } else {
      return std::nullopt;
    }
  }
  if (pattern.back() != '.' && at != name.size()) return std::nullopt;
  found.rest = name.substr(at);
  return found;
}

std::string filled(const std::string& pattern, const Match& found, std::int64_t layer, const std::string& term) {
  std::string name;
  for (const char character : pattern) {
    if (character == '#') {
      name += std::to_string(layer);
    } else if (character == '*') {
      name += term;
    } else {
      name += character;
    }
  }
  return name + found.rest;
}

}  // namespace

const std::vector<NameMap>& name_maps() {
  static const std::vector<NameMap> maps = {fgvl_map(), xvlm_map(), pevl_map(), blip_map(), albef_map(), clip_map(), clip_transformers_map(), bert_map()};
  return maps;
}

const NameMap* find_name_map(const std::string& family) {
  const auto& maps = name_maps();
  const auto found = std::find_if(maps.begin(), maps.end(), [&](const NameMap& map) { return map.family == family; });
  return found == maps.end() ? nullptr : &*found;
}

const NameMap* recognise(const std::vector<std::string>& names) {
  for (const NameMap& map : name_maps()) {
    const bool fits = std::all_of(map.required.begin(), map.required.end(), [&](const std::string& pattern) {
      return std::any_of(names.begin(), names.end(), [&](const std::string& name) { return matches_glob(pattern, name); });
    });
    if (fits) return &map;
  }
  return nullptr;
}

std::optional<std::string> to_official(const NameMap& map, const std::string& ours, std::int64_t text_layers) {
  for (const NameRule& rule : map.rules) {
    if (const auto found = match(rule.ours, ours)) return filled(rule.official, *found, found->layer + (rule.after_text_layers ? text_layers : 0), rule.term);
  }
  return std::nullopt;
}

std::optional<std::string> to_ours(const NameMap& map, const std::string& official, std::int64_t text_layers) {
  for (const NameRule& rule : map.rules) {
    const auto found = match(rule.official, official);
    if (!found || (rule.after_text_layers && found->layer < text_layers)) continue;
    return filled(rule.ours, *found, found->layer - (rule.after_text_layers ? text_layers : 0), rule.term);
  }
  return std::nullopt;
}

std::vector<std::string> names_of(const std::vector<std::pair<std::string, Tensor>>& tensors) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors) names.push_back(name);
  return names;
}

std::vector<std::string> checkpoint_names(const std::vector<std::string>& ours) {
  const std::int64_t text_layers = text_layers_of(ours);
  std::vector<std::string> names;
  std::map<std::string, int> uses;
  for (const std::string& name : ours) ++uses[names.emplace_back(xvlm_name(name, text_layers))];
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (uses[names[i]] > 1) names[i] = ours[i];
  }
  return names;
}

std::int64_t text_layers_of(const std::vector<std::string>& names) {
  std::int64_t first_fusion = -1, ours = 0;
  for (const std::string& name : names) {
    if (const auto found = match("model.text_encoder.layer.#.", name)) ours = std::max(ours, found->layer + 1);
    if (const auto found = match("text_encoder.bert.encoder.layer.#.", name); found && found->rest.rfind("crossattention.", 0) == 0) {
      first_fusion = first_fusion < 0 ? found->layer : std::min(first_fusion, found->layer);
    }
  }
  return first_fusion >= 0 ? first_fusion : ours;
}

std::string xvlm_name(const std::string& name, std::int64_t text_layers) {
  static const NameMap map = xvlm_map();
  return to_official(map, name, text_layers).value_or(name);
}

}  // namespace fgvl::models
