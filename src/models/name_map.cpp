#include "fgvl/models/name_map.hpp"

#include <algorithm>
#include <cctype>
#include <map>

#include "fgvl/core/glob.hpp"
#include "models/name_tables.hpp"

namespace fgvl::models {
namespace {

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

/// `name` with its ending under the other names of `endings`.
std::string with_other_ending(const std::vector<std::pair<std::string, std::string>>& endings, std::string name, bool to_ours) {
  for (const auto& [ours, official] : endings) {
    const std::string &from = to_ours ? official : ours, &to = to_ours ? ours : official;
    if (name.ends_with(from)) return name.replace(name.size() - from.size(), from.size(), to);
  }
  return name;
}

/// One more than the largest number of a layer; 0: no name fits `pattern`.
std::int64_t layers_of(const std::string& pattern, const std::vector<std::string>& names) {
  std::int64_t layers = 0;
  for (const std::string& name : names) {
    if (const auto found = match(pattern, name)) layers = std::max(layers, found->layer + 1);
  }
  return layers;
}

constexpr const char* kOurTextLayer = "model.text_encoder.layer.#.";
constexpr const char* kOurFusionLayer = "model.fusion_encoder.layer.#.";

/// What a family calls one of our layers; "" where it has no name for it.
std::string official_layer(const NameMap& map, const char* ours) {
  const auto found = std::find_if(map.rules.begin(), map.rules.end(), [&](const NameRule& rule) { return rule.ours == ours; });
  return found == map.rules.end() ? "" : found->official;
}

}  // namespace

const std::vector<NameMap>& name_maps() {
  static const std::vector<NameMap> maps = {fgvl_names(), x2vlm_names(), x2vlm_plus_names(), xvlm_names(), xvlm_finetuned_names(), pevl_names(), blip_names(), albef_names(), albef_finetuned_names(), clip_names(),
                                             open_clip_names(), clip_transformers_names(), fgvl_dual_names(), bert_tensorflow_names(), bert_names(), roberta_names(), bert_encoder_names()};
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

std::optional<NamedPart> part_of_ours(const NameMap& map, const std::string& ours, std::int64_t text_layers) {
  for (const NameRule& rule : map.rules) {
    if (const auto found = match(rule.ours, ours)) {
      const std::string official = filled(rule.official, *found, found->layer + (rule.after_text_layers ? text_layers : 0), rule.term);
      return NamedPart{ours, with_other_ending(map.endings, official, /*to_ours=*/false), rule.part, rule.parts, rule.transposed};
    }
  }
  return std::nullopt;
}

std::vector<NamedPart> parts_of_official(const NameMap& map, const std::string& official, std::int64_t text_layers) {
  const std::string name = with_other_ending(map.endings, official, /*to_ours=*/true);
  std::vector<NamedPart> parts;
  for (const NameRule& rule : map.rules) {
    if (!parts.empty() && rule.parts != parts.front().parts) continue;  // a rule for whatever has no rule of its own
    const auto found = match(rule.official, name);
    if (!found || (rule.after_text_layers && found->layer < text_layers)) continue;
    parts.push_back({filled(rule.ours, *found, found->layer - (rule.after_text_layers ? text_layers : 0), rule.term), official, rule.part, rule.parts, rule.transposed});
    if (static_cast<std::int64_t>(parts.size()) == rule.parts) break;
  }
  return parts;
}

std::optional<std::string> to_official(const NameMap& map, const std::string& ours, std::int64_t text_layers) {
  const auto part = part_of_ours(map, ours, text_layers);
  return part ? std::optional(part->official) : std::nullopt;
}

std::optional<std::string> to_ours(const NameMap& map, const std::string& official, std::int64_t text_layers) {
  const std::vector<NamedPart> parts = parts_of_official(map, official, text_layers);
  return parts.empty() ? std::nullopt : std::optional(parts.front().ours);
}

std::optional<std::string> first_name(const NameMap& map, const std::string& official) {
  for (const TiedName& tie : map.ties) {
    if (const auto found = match(tie.name, official)) return filled(tie.same_as, *found, found->layer, "");
  }
  return std::nullopt;
}

std::vector<std::string> second_names(const NameMap& map, const std::string& official) {
  std::vector<std::string> names;
  for (const TiedName& tie : map.ties) {
    if (const auto found = match(tie.same_as, official)) names.push_back(filled(tie.name, *found, found->layer, ""));
  }
  return names;
}

bool is_objective_state(const std::string& ours) {
  static const std::vector<std::string> patterns = {"model.momentum.*", "losses.*.momentum.*", "losses.*.queue.*"};
  return matches_any(patterns, ours);
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
  if (const std::int64_t ours = layers_of(kOurTextLayer, names); ours > 0) return ours;
  std::int64_t all = 0;
  for (const NameMap& map : name_maps()) {
    const std::string pattern = official_layer(map, kOurTextLayer);
    if (pattern.empty() || pattern == kOurTextLayer) continue;
    std::int64_t first_fusion = -1;
    for (const std::string& name : names) {
      const auto found = match(pattern, name);
      if (found && found->rest.rfind("crossattention.", 0) == 0 && (first_fusion < 0 || found->layer < first_fusion)) first_fusion = found->layer;
    }
    if (first_fusion >= 0) return first_fusion;
    all = std::max(all, layers_of(pattern, names));
  }
  return all;
}

std::int64_t text_layers_of(const NameMap& map, const std::vector<std::string>& official, const std::vector<std::string>& ours) {
  if (!map.encoder_only) return text_layers_of(official);
  return std::max<std::int64_t>(0, layers_of(official_layer(map, kOurTextLayer), official) - layers_of(kOurFusionLayer, ours));
}

std::string xvlm_name(const std::string& name, std::int64_t text_layers) {
  static const NameMap map = xvlm_names();
  return to_official(map, name, text_layers).value_or(name);
}

}  // namespace fgvl::models
