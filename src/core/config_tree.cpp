#include "core/config_tree.hpp"

#include <algorithm>
#include <numeric>

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>
#include <yaml-cpp/yaml.h>

namespace fgvl::config {
namespace {

constexpr int kMaxDepth = 64;          // deeper than any configuration
constexpr std::int64_t kMaxNodes = 1000000;  // aliases of aliases multiply: nine levels of ten are a thousand million nodes

absl::Status convert(const YAML::Node& node, const std::string& name, const std::string& fixed_place, int depth, std::int64_t& nodes, Tree& tree) {
  tree.place = fixed_place.empty() ? absl::StrCat(name, ":", node.Mark().line + 1) : fixed_place;
  if (depth > kMaxDepth) return absl::InvalidArgumentError(absl::StrCat(tree.place, ": nested more than ", kMaxDepth, " levels deep"));
  if (++nodes > kMaxNodes) return absl::InvalidArgumentError(absl::StrCat(tree.place, ": more than ", kMaxNodes, " values, aliases counted as often as they are used"));
  switch (node.Type()) {
    case YAML::NodeType::Undefined:
    case YAML::NodeType::Null: return absl::OkStatus();
    case YAML::NodeType::Scalar:
      tree.kind = Tree::Kind::kScalar;
      tree.scalar = node.Scalar();
      tree.quoted = node.Tag() == "!";
      return absl::OkStatus();
    case YAML::NodeType::Sequence:
      tree.kind = Tree::Kind::kSequence;
      for (const YAML::Node& item : node) {
        FGVL_RETURN_IF_ERROR(convert(item, name, fixed_place, depth + 1, nodes, tree.items.emplace_back()));
      }
      return absl::OkStatus();
    case YAML::NodeType::Map:
      tree.kind = Tree::Kind::kMap;
      for (const auto& entry : node) {
        const std::string place = fixed_place.empty() ? absl::StrCat(name, ":", entry.first.Mark().line + 1) : fixed_place;
        if (!entry.first.IsScalar()) return absl::InvalidArgumentError(absl::StrCat(place, ": a key must be a plain word"));
        const std::string key = entry.first.Scalar();
        if (const Tree* earlier = tree.find(key)) {
          return absl::InvalidArgumentError(absl::StrCat(place, ": duplicate key \"", key, "\" (first given at ", earlier->place, ")"));
        }
        Tree& field = tree.fields.emplace_back(key, Tree{}).second;
        FGVL_RETURN_IF_ERROR(convert(entry.second, name, fixed_place, depth + 1, nodes, field));
        field.place = place;
      }
      return absl::OkStatus();
  }
  return absl::OkStatus();
}

/// Lays the fields of `over` on the items that they name.
void overlay_items(std::vector<Tree>& items, const Tree& over) {
  for (const auto& [name, value] : over.fields) {
    const auto item = std::find_if(items.begin(), items.end(), [&name = name](const Tree& candidate) { return item_name(candidate) == name; });
    if (item == items.end()) {
      Tree stray = value;
      stray.kind = Tree::Kind::kMap;
      stray.fields = {{kItemName, Tree{.kind = Tree::Kind::kScalar, .scalar = name}}};
      stray.not_listed = true;
      items.push_back(std::move(stray));
    } else if (value.kind == Tree::Kind::kNull) {
      items.erase(item);
    } else {
      overlay(*item, value);
    }
  }
}

}  // namespace

const Tree* Tree::find(const std::string& key) const {
  for (const auto& [name, value] : fields) {
    if (name == key) return &value;
  }
  return nullptr;
}

Tree* Tree::find(const std::string& key) { return const_cast<Tree*>(std::as_const(*this).find(key)); }

absl::StatusOr<Tree> parse_tree(const std::string& yaml, const std::string& name, const std::string& fixed_place) {
  Tree tree;
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(yaml);
    if (documents.size() > 1) {
      return absl::InvalidArgumentError(absl::StrCat(fixed_place.empty() ? absl::StrCat(name, ":", documents[1].Mark().line + 1) : fixed_place,
                                                     ": a second document begins here (after ---); a configuration is one"));
    }
    std::int64_t nodes = 0;
    if (!documents.empty()) FGVL_RETURN_IF_ERROR(convert(documents[0], name, fixed_place, 0, nodes, tree));
  } catch (const YAML::Exception& error) {
    const std::string place = fixed_place.empty() ? absl::StrCat(name, ":", error.mark.line + 1) : fixed_place;
    return absl::InvalidArgumentError(absl::StrCat(place, ": not valid YAML: ", error.msg));
  }
  return tree;
}

std::string item_name(const Tree& item) {
  const Tree* name = item.kind == Tree::Kind::kMap ? item.find(kItemName) : nullptr;
  return name != nullptr && name->kind == Tree::Kind::kScalar ? name->scalar : "";
}

void overlay(Tree& under, const Tree& over) {
  if (under.kind == Tree::Kind::kSequence && over.kind == Tree::Kind::kMap && !under.items.empty() && std::none_of(under.items.begin(), under.items.end(), [](const Tree& item) { return item_name(item).empty(); })) {
    return overlay_items(under.items, over);
  }
  const Tree* old_type = under.find("type");
  const Tree* new_type = over.find("type");
  const bool other_type = old_type != nullptr && new_type != nullptr && old_type->scalar != new_type->scalar;
  if (under.kind != Tree::Kind::kMap || over.kind != Tree::Kind::kMap || other_type) {
    const bool replaces = under.replaces || under.kind != Tree::Kind::kNull;
    under = over;
    under.replaces = replaces;
    return;
  }
  under.place = over.place;
  for (const auto& [key, value] : over.fields) {
    if (Tree* existing = under.find(key)) {
      overlay(*existing, value);
    } else {
      under.fields.emplace_back(key, value);
    }
  }
}

std::string nearest(const std::string& word, const std::vector<std::string>& candidates) {
  const std::string lower = absl::AsciiStrToLower(word);
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(2, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const std::string other = absl::AsciiStrToLower(candidate);
    std::vector<std::size_t> row(other.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 1; i <= lower.size(); ++i) {
      std::size_t diagonal = row[0];
      row[0] = i;
      for (std::size_t j = 1; j <= other.size(); ++j) {
        const std::size_t substituted = diagonal + (lower[i - 1] != other[j - 1]);
        diagonal = row[j];
        row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
      }
    }
    if (row.back() < best_distance) {
      best_distance = row.back();
      best = candidate;
    }
  }
  return best;
}

}  // namespace fgvl::config
