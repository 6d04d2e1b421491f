#include "fgvl/core/config.hpp"

#include <filesystem>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>

#include "core/config_reader.hpp"
#include "core/config_tree.hpp"
#include "fgvl/core/files.hpp"

namespace fgvl::config {

struct Document::Impl {
  std::string name;
  Tree tree;
};

namespace {

constexpr int kFormat = 1;
constexpr int kMaxBases = 16;

absl::Status check_root(const Tree& tree, const std::string& name) {
  if (tree.kind == Tree::Kind::kNull) return absl::OkStatus();
  if (tree.kind != Tree::Kind::kMap) return absl::InvalidArgumentError(absl::StrCat(name, ": expected `key: value` lines, got ", tree.kind == Tree::Kind::kSequence ? "a list" : "a single value"));
  if (const Tree* format = tree.find("format"); format != nullptr && format->scalar != absl::StrCat(kFormat)) {
    return absl::InvalidArgumentError(absl::StrCat(format->place, ": format: this build reads version ", kFormat, ", the file says \"", format->scalar, "\""));
  }
  return absl::OkStatus();
}

using Read = absl::FunctionRef<absl::StatusOr<std::string>(const std::string&)>;

/// Reads what `base:` names and lays the tree over it.
absl::Status resolve_base(Tree& tree, const std::filesystem::path& folder, int depth, Read read) {
  const Tree* base = tree.find("base");
  if (base == nullptr) return absl::OkStatus();
  if (base->kind != Tree::Kind::kScalar) return absl::InvalidArgumentError(absl::StrCat(base->place, ": base: expected a file name"));
  if (depth >= kMaxBases) return absl::InvalidArgumentError(absl::StrCat(base->place, ": base: more than ", kMaxBases, " files deep; do they name one another?"));
  const std::string path = (folder / base->scalar).lexically_normal().string();
  absl::StatusOr<std::string> text = read(path);
  if (!text.ok()) return absl::InvalidArgumentError(absl::StrCat(base->place, ": base: ", text.status().message()));
  FGVL_ASSIGN_OR_RETURN(Tree under, parse_tree(*text, path));
  FGVL_RETURN_IF_ERROR(check_root(under, path));
  FGVL_RETURN_IF_ERROR(resolve_base(under, std::filesystem::path(path).parent_path(), depth + 1, read));
  overlay(under, tree);
  std::erase_if(under.fields, [](const auto& field) { return field.first == "base"; });
  tree = std::move(under);
  return absl::OkStatus();
}

absl::StatusOr<Tree> resolved_tree(const std::string& yaml, const std::string& name, const std::filesystem::path& folder, Read read = read_file) {
  FGVL_ASSIGN_OR_RETURN(Tree tree, parse_tree(yaml, name));
  FGVL_RETURN_IF_ERROR(check_root(tree, name));
  FGVL_RETURN_IF_ERROR(resolve_base(tree, folder, 0, read));
  if (tree.kind == Tree::Kind::kNull) tree.kind = Tree::Kind::kMap;
  return tree;
}

}  // namespace

absl::StatusOr<Document> Document::load(const std::string& path) {
  absl::StatusOr<std::string> text = read_file(path);
  if (!text.ok()) return with_exit_code(text.status(), ExitCode::kUsage);
  FGVL_ASSIGN_OR_RETURN(Tree tree, resolved_tree(*text, path, std::filesystem::path(path).parent_path()));
  return Document(std::make_shared<Impl>(Impl{path, std::move(tree)}));
}

absl::StatusOr<Document> Document::parse(const std::string& yaml, const std::string& name) {
  FGVL_ASSIGN_OR_RETURN(Tree tree, resolved_tree(yaml, name, ""));
  return Document(std::make_shared<Impl>(Impl{name, std::move(tree)}));
}

absl::StatusOr<Document> Document::parse(const std::map<std::string, std::string>& files, const std::string& name) {
  const auto text_of = [&](const std::string& path) -> absl::StatusOr<std::string> {
    const auto found = files.find(path);
    if (found == files.end()) return absl::NotFoundError(absl::StrCat(path, ": not among the given files"));
    return found->second;
  };
  FGVL_ASSIGN_OR_RETURN(const std::string text, text_of(name));
  FGVL_ASSIGN_OR_RETURN(Tree tree, resolved_tree(text, name, std::filesystem::path(name).parent_path(), text_of));
  return Document(std::make_shared<Impl>(Impl{name, std::move(tree)}));
}

absl::Status Document::override_with(const std::vector<std::string>& assignments) {
  // A copy, so that documents made from one another stay independent.
  impl_ = std::make_shared<Impl>(*impl_);
  for (const std::string& assignment : assignments) {
    const std::size_t equals = assignment.find('=');
    const std::string place = absl::StrCat("argument '", assignment, "'");
    const std::vector<std::string> keys = absl::StrSplit(assignment.substr(0, equals), '.');
    if (equals == std::string::npos || std::find(keys.begin(), keys.end(), "") != keys.end()) {
      return absl::InvalidArgumentError(absl::StrCat(place, ": expected key=value or key.sub=value"));
    }
    FGVL_ASSIGN_OR_RETURN(Tree value, parse_tree(assignment.substr(equals + 1), place, place));
    for (auto key = keys.rbegin(); key != keys.rend(); ++key) {
      Tree parent;
      parent.kind = Tree::Kind::kMap;
      parent.place = place;
      parent.fields.emplace_back(*key, std::move(value));
      value = std::move(parent);
    }
    overlay(impl_->tree, value);
  }
  return check_root(impl_->tree, impl_->name);
}

absl::Status Document::read(absl::FunctionRef<void(Visitor&)> visit) const { return read_tree(impl_->tree, impl_->name, visit); }

}  // namespace fgvl::config
