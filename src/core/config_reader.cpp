#include "core/config_reader.hpp"

#include <algorithm>
#include <cmath>
#include <deque>

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

namespace fgvl::config {
namespace {

std::string described(const Range& range) {
  if (range.min == kPositive.min && std::isinf(range.max)) return "a number above 0";
  if (std::isinf(range.max)) return absl::StrCat("a number of at least ", range.min);
  if (std::isinf(range.min)) return absl::StrCat("a number of at most ", range.max);
  return absl::StrCat("a number from ", range.min, " to ", range.max);
}

std::string shown(const Tree& tree) {
  switch (tree.kind) {
    case Tree::Kind::kNull: return "null";
    case Tree::Kind::kScalar: return absl::StrCat("\"", tree.scalar, "\"");
    case Tree::Kind::kSequence: return "a list";
    case Tree::Kind::kMap: return "a group of keys";
  }
  return "";
}

class Reader final : public Visitor {
 public:
  Reader(const Tree& root, std::string name) : name_(std::move(name)) { groups_.push_back({&root, "", {}}); }

  absl::Status finish() {
    // `format` was checked when the document was loaded.
    groups_.back().visited.push_back("format");
    close_group();
    if (problems_.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrJoin(problems_, "\n"));
  }

  void check(bool holds, const std::string& message) override {
    if (holds) return;
    const Group& group = groups_.back();
    report(group.tree != nullptr && !group.tree->place.empty() ? group.tree->place : name_, group.path, message);
  }

 protected:
  void visit_bool(std::string_view key, bool& value, std::string_view) override {
    const Tree* tree = source(key);
    if (tree == nullptr) return;
    if (tree->kind == Tree::Kind::kScalar && !tree->quoted && (tree->scalar == "true" || tree->scalar == "false")) {
      value = tree->scalar == "true";
    } else {
      wrong(*tree, key, "true or false");
    }
  }

  void visit_integer(std::string_view key, std::int64_t& value, std::string_view, const Range& range) override {
    const Tree* tree = source(key);
    if (tree == nullptr) return;
    std::int64_t number = 0;
    if (tree->kind != Tree::Kind::kScalar || tree->quoted || !absl::SimpleAtoi(tree->scalar, &number)) return wrong(*tree, key, "a whole number");
    if (static_cast<double>(number) < range.min || static_cast<double>(number) > range.max) return wrong(*tree, key, described(range));
    value = number;
  }

  void visit_number(std::string_view key, double& value, std::string_view, const Range& range) override {
    if (const Tree* tree = source(key)) read_number(*tree, key, value, range);
  }

  void visit_text(std::string_view key, std::string& value, std::string_view) override {
    const Tree* tree = source(key);
    if (tree == nullptr) return;
    if (tree->kind != Tree::Kind::kScalar) return wrong(*tree, key, "a text");
    value = tree->scalar;
  }

  void visit_texts(std::string_view key, std::vector<std::string>& value, std::string_view) override {
    const Tree* tree = source(key);
    if (tree == nullptr) return;
    if (tree->kind != Tree::Kind::kSequence) return wrong(*tree, key, "a list of texts [a, b]");
    std::vector<std::string> texts;
    for (const Tree& item : tree->items) {
      if (item.kind != Tree::Kind::kScalar) return wrong(item, key, "a list of texts [a, b]");
      texts.push_back(item.scalar);
    }
    value = std::move(texts);
  }

  void visit_numbers(std::string_view key, std::vector<double>& value, std::string_view, const Range& range) override {
    const Tree* tree = source(key);
    if (tree == nullptr) return;
    if (tree->kind != Tree::Kind::kSequence) return wrong(*tree, key, "a list of numbers [1, 2]");
    std::vector<double> numbers;
    for (const Tree& item : tree->items) {
      if (!read_number(item, key, numbers.emplace_back(), range)) return;
    }
    value = std::move(numbers);
  }

  void visit_text_map(std::string_view key, std::vector<std::pair<std::string, std::string>>& value, std::string_view) override {
    const Tree* tree = source(key);
    if (tree == nullptr) return;
    if (tree->kind != Tree::Kind::kMap) return wrong(*tree, key, "a map of texts {a: b}");
    std::vector<std::pair<std::string, std::string>> pairs;
    for (const auto& [name, item] : tree->fields) {
      if (item.kind == Tree::Kind::kNull) continue;
      if (item.kind != Tree::Kind::kScalar) return wrong(item, key, "a map of texts {a: b}");
      pairs.emplace_back(name, item.scalar);
    }
    value = std::move(pairs);
  }

  void visit_choice(std::string_view key, std::string& value, const std::vector<std::string>& allowed, std::string_view) override {
    const Tree* tree = source(key);
    if (tree == nullptr) return;
    if (tree->kind == Tree::Kind::kScalar && std::find(allowed.begin(), allowed.end(), tree->scalar) != allowed.end()) {
      value = tree->scalar;
      return;
    }
    const std::string near = nearest(tree->scalar, allowed);
    wrong(*tree, key, absl::StrCat("one of ", absl::StrJoin(allowed, ", ")), near.empty() ? "" : absl::StrCat(" (did you mean \"", near, "\"?)"));
  }

  bool enter(std::string_view key, std::string_view) override {
    const Tree* tree = source(key);
    if (tree != nullptr && tree->kind != Tree::Kind::kMap) {
      wrong(*tree, key, "a group of keys");
      return false;
    }
    groups_.push_back({tree, path(key), {}});
    return true;
  }

  void leave() override { close_group(); }

  ListVisit enter_list(std::string_view key, std::vector<std::string>& names, std::string_view) override {
    const Tree* tree = source(key);
    if (tree == nullptr) {
      groups_.push_back({nullptr, path(key), {}});
      return ListVisit::kSame;
    }
    constexpr char kExpected[] = "a list of groups, each with a name [{name: a, ...}, {name: b, ...}]";
    if (tree->kind != Tree::Kind::kSequence) {
      wrong(*tree, key, kExpected);
      return ListVisit::kSkip;
    }
    // From here on a group of groups, as if the names were keys.
    Tree& group = lists_.emplace_back();
    group.kind = Tree::Kind::kMap;
    group.place = tree->place;
    names.clear();
    for (const Tree& item : tree->items) {
      const std::string name = item_name(item);
      if (name.empty()) {
        wrong(item, key, kExpected);
      } else if (const Tree* earlier = group.find(name)) {
        report(item.place, path(key), absl::StrCat("the name \"", name, "\" is taken (first given at ", earlier->place, ")"));
      } else if (item.not_listed) {
        const std::string near = nearest(name, names);
        report(item.place, absl::StrCat(path(key), ".", name), absl::StrCat("the list has no entry of this name", near.empty() ? "" : absl::StrCat(" (did you mean \"", near, "\"?)")));
      } else {
        names.push_back(name);
        Tree& fields = group.fields.emplace_back(name, item).second;
        std::erase_if(fields.fields, [](const auto& field) { return field.first == kItemName; });
      }
    }
    groups_.push_back({&group, path(key), {}});
    return ListVisit::kNew;
  }

  bool enter_item(const std::string& name, std::string_view doc) override { return enter(name, doc); }

  bool present(std::string_view key, bool now, std::string_view) override {
    const Tree* tree = child(key);
    return tree == nullptr ? now : tree->kind != Tree::Kind::kNull;
  }

  bool entry_present(std::string_view name, bool given, std::string_view doc) override {
    if (present(name, true, doc)) return true;
    const Tree& group = *groups_.back().tree;
    const Tree& null = *group.find(std::string(name));
    if (given || null.replaces) return false;
    std::vector<std::string> others;
    for (const auto& [other, value] : group.fields) {
      if (value.kind != Tree::Kind::kNull) others.push_back(other);
    }
    const std::string near = nearest(std::string(name), others);
    report(null.place, path(name), absl::StrCat("null removes nothing: there is no entry of this name", near.empty() ? "" : absl::StrCat(" (did you mean \"", near, "\"?)")));
    return false;
  }

  bool is_plain_number(std::string_view key, bool now) override {
    const Tree* tree = source(key);
    return tree == nullptr ? now : tree->kind != Tree::Kind::kMap;
  }

  std::vector<std::string> entry_names(const std::vector<std::string>& now) override {
    std::vector<std::string> names = now;
    if (const Tree* tree = groups_.back().tree) {
      for (const auto& [name, value] : tree->fields) {
        if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
      }
    }
    return names;
  }

 private:
  struct Group {
    const Tree* tree;  ///< null: the source does not mention this group
    std::string path;
    std::vector<std::string> visited;
  };

  std::string path(std::string_view key) const {
    const std::string& group = groups_.back().path;
    return group.empty() ? std::string(key) : group + "." + std::string(key);
  }

  /// What the source says for `key`, null included; marks the key as known.
  const Tree* child(std::string_view key) {
    Group& group = groups_.back();
    group.visited.emplace_back(key);
    return group.tree == nullptr ? nullptr : group.tree->find(std::string(key));
  }

  /// What the source says for `key`; null counts as nothing said.
  const Tree* source(std::string_view key) {
    const Tree* tree = child(key);
    return tree == nullptr || tree->kind == Tree::Kind::kNull ? nullptr : tree;
  }

  bool read_number(const Tree& tree, std::string_view key, double& value, const Range& range) {
    double number = 0;
    const bool infinite = tree.scalar == ".inf" || tree.scalar == "-.inf";
    if (infinite) number = tree.scalar[0] == '-' ? -INFINITY : INFINITY;
    if (tree.kind != Tree::Kind::kScalar || tree.quoted || (!infinite && !absl::SimpleAtod(tree.scalar, &number)) || std::isnan(number)) {
      wrong(tree, key, "a number");
      return false;
    }
    if (number < range.min || number > range.max || (infinite && (std::isfinite(range.min) || std::isfinite(range.max)))) {
      wrong(tree, key, described(range));
      return false;
    }
    value = number;
    return true;
  }

  void report(const std::string& place, const std::string& key, const std::string& message) {
    problems_.push_back(absl::StrCat(place, ": ", key.empty() ? "" : absl::StrCat(key, ": "), message));
  }

  void wrong(const Tree& tree, std::string_view key, const std::string& expected, const std::string& hint = "") {
    report(tree.place, path(key), absl::StrCat("expected ", expected, ", got ", shown(tree), hint));
  }

  void close_group() {
    const Group group = std::move(groups_.back());
    groups_.pop_back();
    if (group.tree == nullptr) return;
    std::vector<std::string> known = group.visited;
    std::sort(known.begin(), known.end());
    known.erase(std::unique(known.begin(), known.end()), known.end());
    for (const auto& [key, value] : group.tree->fields) {
      if (std::binary_search(known.begin(), known.end(), key)) continue;
      const std::string near = nearest(key, known);
      report(value.place, group.path.empty() ? key : absl::StrCat(group.path, ".", key),
             near.empty() ? absl::StrCat("unknown key (valid keys: ", absl::StrJoin(known, ", "), ")") : absl::StrCat("unknown key (did you mean \"", near, "\"?)"));
    }
  }

  std::string name_;
  std::vector<Group> groups_;
  std::deque<Tree> lists_;  ///< named lists as groups, which stay where they are
  std::vector<std::string> problems_;
};

}  // namespace

absl::Status read_tree(const Tree& tree, const std::string& name, absl::FunctionRef<void(Visitor&)> visit) {
  Reader reader(tree, name);
  visit(reader);
  return reader.finish();
}

}  // namespace fgvl::config
