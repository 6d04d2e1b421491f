#include "fgvl/models/pretrained.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iomanip>
#include <set>
#include <sstream>
#include <vector>

#include <torch/torch.h>

#include "fgvl/core/glob.hpp"
#include "fgvl/models/interpolate.hpp"

namespace fgvl::models {
namespace {

struct OutcomeText {
  LoadOutcome outcome;
  const char* word;
};
/// In the order of the table.
constexpr OutcomeText kOutcomes[] = {{LoadOutcome::kMissing, "MISSING"},
                                     {LoadOutcome::kUnexpected, "UNEXPECTED"},
                                     {LoadOutcome::kUnfit, "UNFIT"},
                                     {LoadOutcome::kMissingAllowed, "missing, allowed"},
                                     {LoadOutcome::kUnexpectedAllowed, "unexpected, allowed"},
                                     {LoadOutcome::kReshaped, "reshaped"},
                                     {LoadOutcome::kStarted, "started anew"},
                                     {LoadOutcome::kLoaded, "loaded"},
                                     {LoadOutcome::kTied, "tied"},
                                     {LoadOutcome::kDerived, "derived"},
                                     {LoadOutcome::kNotNeeded, "not needed"}};

bool is_problem(LoadOutcome outcome) { return outcome == LoadOutcome::kMissing || outcome == LoadOutcome::kUnexpected || outcome == LoadOutcome::kUnfit; }

const char* word(LoadOutcome outcome) {
  for (const OutcomeText& one : kOutcomes) {
    if (one.outcome == outcome) return one.word;
  }
  return "";
}

std::string shape_text(at::IntArrayRef shape) {
  std::ostringstream text;
  text << shape;
  return text.str();
}

bool same_values(const Tensor& a, const Tensor& b) {
  if (a.sizes() != b.sizes() || a.scalar_type() != b.scalar_type()) return false;
  if (a.numel() == 0 || a.const_data_ptr() == b.const_data_ptr()) return true;
  const Tensor first = a.contiguous(), second = b.contiguous();  // bytes, not values: NaN equals itself here
  return std::memcmp(first.const_data_ptr(), second.const_data_ptr(), first.nbytes()) == 0;
}

/// What `official` holds of our tensor, as a view; undefined where its shape has no such part.
Tensor view_of_part(const Tensor& official, const NamedPart& part) {
  Tensor view = official;
  if (part.parts > 1) {
    if (view.dim() == 0 || view.size(0) % part.parts != 0) return Tensor();
    const std::int64_t rows = view.size(0) / part.parts;
    view = view.narrow(0, part.part * rows, rows);
  }
  if (part.transposed) view = view.dim() == 2 ? view.t() : Tensor();
  return view;
}

/// "", or how our tensor lies in the official one.
std::string part_text(const NamedPart& part) {
  std::ostringstream text;
  if (part.parts > 1) text << ", part " << part.part + 1 << " of " << part.parts;
  if (part.transposed) text << ", transposed";
  return text.str();
}

std::string line(const LoadRow& row) {
  std::ostringstream text;
  text << std::left << std::setw(20) << word(row.outcome) << "  " << (row.name.empty() ? row.official : row.name);
  if (!row.name.empty() && !row.official.empty() && row.name != row.official) text << " <- " << row.official;
  if (!row.note.empty()) text << "  " << row.note;
  return text.str();
}

}  // namespace

std::int64_t LoadReport::count(LoadOutcome outcome) const {
  return std::count_if(rows.begin(), rows.end(), [&](const LoadRow& row) { return row.outcome == outcome; });
}

bool LoadReport::ok() const {
  return std::none_of(rows.begin(), rows.end(), [](const LoadRow& row) { return is_problem(row.outcome); });
}

std::string LoadReport::table() const {
  std::ostringstream text;
  for (const OutcomeText& one : kOutcomes) {
    for (const LoadRow& row : rows) {
      if (row.outcome == one.outcome) text << line(row) << '\n';
    }
  }
  bool first = true;
  for (const OutcomeText& one : kOutcomes) {
    if (count(one.outcome) == 0) continue;
    text << (first ? "" : ", ") << count(one.outcome) << ' ' << one.word;
    first = false;
  }
  text << '\n';
  return text.str();
}

std::string LoadReport::problems() const {
  constexpr int kShown = 8;
  std::ostringstream text;
  std::int64_t count = 0;
  for (const LoadRow& row : rows) {
    if (is_problem(row.outcome) && ++count <= kShown) text << "\n  " << line(row);
  }
  if (count > kShown) text << "\n  ... and " << count - kShown << " more";
  return text.str();
}

Tensor fit_position_table(const std::string& name, const Tensor& stored, at::IntArrayRef wanted) {
  if (static_cast<std::size_t>(stored.dim()) != wanted.size() || stored.dim() < 2 || stored.size(-1) != wanted.back()) return Tensor();
  const auto side = [](std::int64_t area) {
    const std::int64_t root = std::llround(std::sqrt(static_cast<double>(area)));
    return root * root == area ? root : 0;
  };
  const std::int64_t rows = wanted[wanted.size() - 2];
  if (matches_glob("*.relative_position_bias_table", name)) {
    constexpr std::int64_t kClassRows = 3;  // of BEiT's [CLS]; no two odd squares lie 3 apart
    const std::int64_t extra = side(rows) % 2 == 1 ? 0 : kClassRows, width = side(rows - extra);
    return width % 2 == 1 && side(stored.size(0) - extra) % 2 == 1 ? interpolate_relative_position_bias(stored, (width + 1) / 2, extra) : Tensor();
  }
  if (!matches_any({"*vision_encoder.pos_embed", "*vision_encoder.pos_embed.weight"}, name)) return Tensor();
  const std::int64_t extra = side(rows) > 0 ? 0 : 1;  // whether there is a [CLS]: n^2 and n^2 + 1 are never both squares
  if (side(rows - extra) == 0 || side(stored.size(-2) - extra) == 0) return Tensor();
  return interpolate_position_embedding(stored.dim() == 2 ? stored.unsqueeze(0) : stored, side(rows - extra), extra).reshape(wanted);
}

LoadReport load_named(const std::vector<std::pair<std::string, Tensor>>& targets, const std::vector<std::pair<std::string, Tensor>>& checkpoint, const LoadOptions& options) {
  torch::NoGradGuard guard;
  LoadReport report;
  std::map<std::string, Tensor> stored(checkpoint.begin(), checkpoint.end());
  std::set<std::string> used;
  struct Copy {
    Tensor target, source, original;
  };
  std::vector<Copy> copies;
  std::vector<std::string> started;  ///< our names of objective state that starts anew
  const auto starts_anew = [&](const std::string& name, const std::string& why) {
    if (!options.new_objective || !is_objective_state(name)) return false;
    report.rows.push_back({LoadOutcome::kStarted, name, "", why});
    started.push_back(name);
    return true;
  };
  const auto derived = [&](const std::string& official) { return options.names != nullptr && matches_any(options.names->derived, official); };
  for (const auto& [name, target] : targets) {
    std::optional<NamedPart> part = options.names != nullptr ? part_of_ours(*options.names, name, options.text_layers) : std::nullopt;
    const std::string official = part ? part->official : name;
    auto found = stored.find(official);
    // Official names count text and fusion layers on, so that our text layer 6 would find the first fusion layer of a file with 6 text layers.
    if (part && !options.names->encoder_only && name.rfind("model.", 0) == 0 && official != name) {
      const std::vector<NamedPart> held = parts_of_official(*options.names, official, options.text_layers);
      if (std::none_of(held.begin(), held.end(), [&, ours = name](const NamedPart& one) { return one.ours == ours; })) found = stored.end();
    }
    if (found == stored.end()) {
      part.reset();
      found = stored.find(name);  // what has no official name of its own
    }
    if (found == stored.end()) {
      if (derived(official)) {
        report.rows.push_back({LoadOutcome::kDerived, name, "", ""});
        continue;
      }
      if (starts_anew(name, "not in the checkpoint")) continue;
      const bool allowed = matches_any(options.allow_missing, name) || matches_any(options.allow_missing, official);
      report.rows.push_back({allowed ? LoadOutcome::kMissingAllowed : LoadOutcome::kMissing, name, official == name ? "" : official, "not in the checkpoint"});
      continue;
    }
    used.insert(found->first);
    const Tensor source = part ? view_of_part(found->second, *part) : found->second;
    const std::string how = part ? part_text(*part) : "";
    if (!source.defined()) {
      report.rows.push_back({LoadOutcome::kUnfit, name, official, shape_text(found->second.sizes()) + " in the checkpoint" + how + ": " + shape_text(target.sizes()) + " in the model"});
      continue;
    }
    if (at::isFloatingType(source.scalar_type()) != at::isFloatingType(target.scalar_type())) {
      report.rows.push_back({LoadOutcome::kUnfit, name, official, std::string("holds ") + c10::toString(source.scalar_type()) + ", the model has " + c10::toString(target.scalar_type())});
      continue;
    }
    const std::string shapes = shape_text(source.sizes()) + " in the checkpoint" + how + ", " + shape_text(target.sizes()) + " in the model";
    if (source.sizes() == target.sizes()) {
      copies.push_back({target, source, found->second});
      report.rows.push_back({LoadOutcome::kLoaded, name, official, shape_text(source.sizes()) + how});
      continue;
    }
    if (derived(official)) {  // of another image size: the model's own is right
      report.rows.push_back({LoadOutcome::kDerived, name, official, shapes});
      continue;
    }
    if (matches_glob("losses.*.queue.*", name) && starts_anew(name, shapes)) continue;
    const Tensor reshaped = options.reshape ? options.reshape(name, source, target.sizes()) : Tensor();
    if (!reshaped.defined() || reshaped.sizes() != target.sizes()) {
      report.rows.push_back({LoadOutcome::kUnfit, name, official, shapes});
      continue;
    }
    copies.push_back({target, reshaped, found->second});
    report.rows.push_back({LoadOutcome::kReshaped, name, official, shapes});
  }
  for (const auto& [name, tensor] : checkpoint) {
    if (used.count(name) > 0) continue;
    std::optional<std::string> first = options.names != nullptr ? first_name(*options.names, name) : std::nullopt;
    if (first && used.count(*first) == 0) first.reset();
    if (first) {
      const bool equal = same_values(stored.at(*first), tensor);
      report.rows.push_back({equal ? LoadOutcome::kTied : LoadOutcome::kUnfit, "", name, (equal ? "same as " : "should be the same as ") + *first});
    } else if ((options.names != nullptr && matches_any(options.names->objective_state, name)) || (options.new_objective && is_objective_state(name))) {
      report.rows.push_back({LoadOutcome::kNotNeeded, "", name, shape_text(tensor.sizes()) + ", state of the checkpoint's objective"});
    } else if (derived(name)) {
      report.rows.push_back({LoadOutcome::kDerived, "", name, ""});
    } else {
      const std::string ours = options.names != nullptr ? to_ours(*options.names, name, options.text_layers).value_or(name) : name;
      const bool allowed = matches_any(options.allow_unexpected, name) || matches_any(options.allow_unexpected, ours);
      report.rows.push_back({allowed ? LoadOutcome::kUnexpectedAllowed : LoadOutcome::kUnexpected, "", name, shape_text(tensor.sizes()) + ", which the model lacks"});
    }
  }
  if (!report.ok()) return report;
  std::map<const void*, int> uses;  // an official tensor is done when the last of its parts is copied
  for (const Copy& copy : copies) ++uses[copy.original.const_data_ptr()];
  for (Copy& copy : copies) {
    copy.target.copy_(copy.source);
    if (--uses[copy.original.const_data_ptr()] == 0 && options.done) options.done(copy.original);
  }
  // After the weights are there: a copy starts as what it copies, the tensor of the same name without "momentum".
  const std::map<std::string, Tensor> by_name(targets.begin(), targets.end());
  for (const std::string& name : started) {
    constexpr std::string_view kCopy = ".momentum.";
    const std::size_t at = name.find(kCopy);
    if (at != std::string::npos) Tensor(by_name.at(name)).copy_(by_name.at(std::string(name).erase(at, kCopy.size() - 1)));
  }
  return report;
}

Translated translate(const std::vector<std::pair<std::string, Tensor>>& checkpoint, const NameMap& from, const NameMap& to) {
  const std::int64_t text_layers = text_layers_of(names_of(checkpoint));
  const std::map<std::string, Tensor> stored(checkpoint.begin(), checkpoint.end());
  Translated result;
  std::map<std::string, Tensor> written;
  struct Whole {
    std::vector<Tensor> parts{};
    std::size_t place = 0;  ///< in result.tensors
  };
  std::map<std::string, Whole> wholes;  ///< official tensors that are made of several of ours
  const auto write = [&](const NamedPart& target, const Tensor& value, const std::string& name) {
    Tensor* slot = nullptr;
    if (target.parts == 1) {
      const auto [found, added] = written.emplace(target.official, value);
      if (added) result.tensors.emplace_back(target.official, value);
      slot = &found->second;
    } else {
      const auto [found, added] = wholes.try_emplace(target.official, Whole{std::vector<Tensor>(static_cast<std::size_t>(target.parts)), result.tensors.size()});
      if (added) result.tensors.emplace_back(target.official, Tensor());
      slot = &found->second.parts[static_cast<std::size_t>(target.part)];
      if (!slot->defined()) *slot = value;
    }
    if (!same_values(*slot, value)) result.problems.push_back("two different tensors would be " + target.official + ", one of them " + name);
  };
  for (const auto& [name, tensor] : checkpoint) {
    if (matches_any(from.objective_state, name)) {
      if (matches_any(to.objective_state, name)) {
        result.tensors.emplace_back(name, tensor);
      } else {
        result.left_out.push_back(name);
      }
      continue;
    }
    if (is_objective_state(name) && !part_of_ours(to, name, text_layers)) {
      result.left_out.push_back(name);
      continue;
    }
    if (const auto first = first_name(from, name); first && stored.count(*first) > 0) {
      if (!same_values(stored.at(*first), tensor)) result.problems.push_back(name + " should be the same as " + *first + " and is not");
      continue;
    }
    const bool is_ours = name.rfind("model.", 0) == 0 || name.rfind("losses.", 0) == 0;  // as a checkpoint of ours calls what has no official name
    const std::vector<NamedPart> held = is_ours ? std::vector<NamedPart>{{.ours = name, .official = name}} : parts_of_official(from, name, text_layers);
    bool named = !held.empty();
    for (const NamedPart& one : held) {
      const Tensor ours = view_of_part(tensor, one);
      const std::optional<NamedPart> target = part_of_ours(to, one.ours, text_layers);
      named = named && target;
      if (!target) break;
      const bool fits = ours.defined() && (!target->transposed || ours.dim() == 2);
      if (fits) {
        write(*target, target->transposed ? ours.t() : ours, name);
      } else {
        result.problems.push_back(name + " has the shape " + shape_text(tensor.sizes()) + part_text(one) + ", which cannot be " + target->official);
      }
    }
    if (!named && !matches_any(from.derived, name)) result.problems.push_back(name + " has no name in " + to.title);
  }
  for (const auto& [official, whole] : wholes) {
    const auto& parts = whole.parts;
    const bool complete = std::all_of(parts.begin(), parts.end(), [&, first = parts.front()](const Tensor& part) {
      return part.defined() && first.defined() && part.dim() > 0 && part.sizes().slice(1) == first.sizes().slice(1) && part.scalar_type() == first.scalar_type();
    });
    if (complete) {
      result.tensors[whole.place].second = written[official] = at::cat(parts);
    } else {
      result.problems.push_back(official + " is made of " + std::to_string(parts.size()) + " tensors of one kind, which are not all there");
    }
  }
  for (const auto& [first, tensor] : written) {
    for (const std::string& second : second_names(to, first)) {
      if (written.count(second) == 0) result.tensors.emplace_back(second, tensor);
    }
  }
  return result;
}

std::vector<std::pair<std::string, Tensor>> named_state(const torch::nn::Module& module, const std::string& prefix) {
  std::vector<std::pair<std::string, Tensor>> state;
  for (const auto& parameter : module.named_parameters()) state.emplace_back(prefix + parameter.key(), parameter.value());
  for (const auto& buffer : module.named_buffers()) state.emplace_back(prefix + buffer.key(), buffer.value());
  return state;
}

}  // namespace fgvl::models
