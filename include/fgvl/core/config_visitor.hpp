#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fgvl {
class Schedule;
}

namespace fgvl::config {

class Visitor;

/// A struct that describes its own fields: `void visit_fields(config::Visitor&, Options&)`, found by argument-dependent lookup.
/// One description serves to parse, validate, print, document and save.
template <class T>
concept Configurable = requires(Visitor& visitor, T& value) { visit_fields(visitor, value); };

/// An enum whose values have names: `config::EnumNames<E> enum_names(E)`, found by argument-dependent lookup.
template <class E>
using EnumNames = std::vector<std::pair<E, std::string_view>>;
template <class E>
concept NamedEnum = std::is_enum_v<E> && requires(E value) { { enum_names(value) } -> std::convertible_to<EnumNames<E>>; };

/// The name of a value; empty for a value that has none.
template <NamedEnum E>
std::string name_of(E value) {
  for (const auto& [known, name] : enum_names(value)) {
    if (known == value) return std::string(name);
  }
  return "";
}

/// Closed interval of allowed numbers.
struct Range {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
};
inline constexpr Range kPositive{std::numeric_limits<double>::min(), std::numeric_limits<double>::infinity()};
inline constexpr Range kNonNegative{0.0, std::numeric_limits<double>::infinity()};
inline constexpr Range kFraction{0.0, 1.0};

/// Walks the fields of an options struct in a fixed order. A reader fills them, a writer prints them, a documenter describes them.
/// A field that a reader's source does not mention keeps its value. Problems (unknown key, wrong type, out of range) are collected by the
/// reader with their place in the file; visit_fields never has to look at them.
class Visitor {
 public:
  virtual ~Visitor() = default;

  void operator()(std::string_view key, bool& value, std::string_view doc) { visit_bool(key, value, doc); }
  void operator()(std::string_view key, std::int64_t& value, std::string_view doc, const Range& range = {}) { visit_integer(key, value, doc, range); }
  void operator()(std::string_view key, double& value, std::string_view doc, const Range& range = {}) { visit_number(key, value, doc, range); }
  void operator()(std::string_view key, std::string& value, std::string_view doc) { visit_text(key, value, doc); }
  void operator()(std::string_view key, std::vector<std::string>& value, std::string_view doc) { visit_texts(key, value, doc); }
  void operator()(std::string_view key, std::vector<double>& value, std::string_view doc, const Range& range = {}) { visit_numbers(key, value, doc, range); }
  /// Whole numbers, which readers and writers know as numbers.
  void operator()(std::string_view key, std::vector<std::int64_t>& value, std::string_view doc, const Range& range = {}) {
    std::vector<double> numbers(value.begin(), value.end());
    visit_numbers(key, numbers, doc, range);
    const bool whole = std::all_of(numbers.begin(), numbers.end(), [](double number) { return number == std::floor(number); });
    check(whole, std::string(key) + ": expected whole numbers");
    if (!whole) return;
    value.clear();
    for (const double number : numbers) value.push_back(static_cast<std::int64_t>(number));
  }
  /// A number, or a map that says how it changes with the steps (core/schedule.hpp); every number of it is in `range`.
  void operator()(std::string_view key, Schedule& value, std::string_view doc, const Range& range = {});
  /// text -> text, in the order of the source.
  void operator()(std::string_view key, std::vector<std::pair<std::string, std::string>>& value, std::string_view doc) { visit_text_map(key, value, doc); }

  /// One of a fixed set of names.
  void choice(std::string_view key, std::string& value, const std::vector<std::string>& allowed, std::string_view doc) { visit_choice(key, value, allowed, doc); }
  template <NamedEnum E>
  void operator()(std::string_view key, E& value, std::string_view doc) {
    const EnumNames<E> names = enum_names(value);
    std::string text = name_of(value);
    std::vector<std::string> allowed;
    for (const auto& [candidate, name] : names) allowed.emplace_back(name);
    visit_choice(key, text, allowed, doc);
    for (const auto& [candidate, name] : names) {
      if (name == text) value = candidate;
    }
  }

  /// A nested struct.
  template <Configurable T>
  void operator()(std::string_view key, T& nested, std::string_view doc) {
    if (!enter(key, doc)) return;
    visit_fields(*this, nested);
    leave();
  }

  /// A value that may be absent: `null` in the source makes it so.
  template <class T, class... Constraint>
  void operator()(std::string_view key, std::optional<T>& value, std::string_view doc, const Constraint&... constraint) {
    if (!present(key, value.has_value(), doc)) {
      value.reset();
      return;
    }
    if (!value) value.emplace();
    (*this)(key, *value, doc, constraint...);
  }

  /// Named entries of one type, in the order of the source; `prototype` is a new entry's start value. An entry that the source sets to
  /// null is removed, which is how a configuration switches off what its base switched on; a reader refuses null for a name that nothing gave.
  template <Configurable T>
  void entries(std::string_view key, std::vector<std::pair<std::string, T>>& values, const T& prototype, std::string_view doc) {
    std::vector<std::string> names;
    for (const auto& [name, value] : values) names.push_back(name);
    if (!enter(key, doc)) return;
    std::vector<std::pair<std::string, T>> kept;
    for (const std::string& name : entry_names(names)) {
      T value = prototype;
      bool given = false;
      for (auto& [known, existing] : values) {
        if (known != name) continue;
        value = existing;
        given = true;
      }
      if (!entry_present(name, given, doc)) continue;
      (*this)(name, value, doc);
      kept.emplace_back(name, std::move(value));
    }
    leave();
    values = std::move(kept);
  }

  /// Entries whose order means something, written as a list of groups, each with its `name`: `stages: [{name: first, steps: 10}, {name: second}]`. A source's list stands in place of what was there, as with every list;
  /// `stages.first.steps=20` changes one entry of it and `stages.first=null` removes one.
  template <Configurable T>
  void list(std::string_view key, std::vector<std::pair<std::string, T>>& values, const T& prototype, std::string_view doc) {
    std::vector<std::string> names;
    for (const auto& [name, value] : values) names.push_back(name);
    const ListVisit visit = enter_list(key, names, doc);
    if (visit == ListVisit::kSkip) return;
    if (visit == ListVisit::kNew) {
      values.clear();
      for (const std::string& name : names) values.emplace_back(name, prototype);
    }
    for (auto& [name, value] : values) {
      if (!enter_item(name, doc)) continue;
      visit_fields(*this, value);
      leave();
    }
    leave();
  }

  /// Schedules by name. Other than with the entries above, null stays: the name is there and says "none".
  void entries(std::string_view key, std::vector<std::pair<std::string, std::optional<Schedule>>>& values, std::string_view doc, const Range& range = {});

  /// A condition over several fields, checked after they were visited: "[min, max]: min must not exceed max". No effect on writers.
  virtual void check(bool holds, const std::string& message) = 0;

 protected:
  virtual void visit_bool(std::string_view key, bool& value, std::string_view doc) = 0;
  virtual void visit_integer(std::string_view key, std::int64_t& value, std::string_view doc, const Range& range) = 0;
  virtual void visit_number(std::string_view key, double& value, std::string_view doc, const Range& range) = 0;
  virtual void visit_text(std::string_view key, std::string& value, std::string_view doc) = 0;
  virtual void visit_texts(std::string_view key, std::vector<std::string>& value, std::string_view doc) = 0;
  virtual void visit_numbers(std::string_view key, std::vector<double>& value, std::string_view doc, const Range& range) = 0;
  virtual void visit_text_map(std::string_view key, std::vector<std::pair<std::string, std::string>>& value, std::string_view doc) = 0;
  virtual void visit_choice(std::string_view key, std::string& value, const std::vector<std::string>& allowed, std::string_view doc) = 0;
  /// Starts a nested group. False: skip it (a reader whose source has something else there has already noted the problem).
  virtual bool enter(std::string_view key, std::string_view doc) = 0;
  virtual void leave() = 0;
  enum class ListVisit { kSkip, kSame, kNew };
  /// Starts a list of named groups, whose names so far are `names`. kNew: they are now those of the source, whose items begin as prototypes.
  virtual ListVisit enter_list(std::string_view key, std::vector<std::string>& names, std::string_view doc) = 0;
  /// Starts one of them.
  virtual bool enter_item(const std::string& name, std::string_view doc) = 0;
  /// Whether an optional value is there after this visit, given whether it is there now.
  virtual bool present(std::string_view key, bool now, std::string_view doc) = 0;
  /// The same of an entry; `given`: by what was there before the source.
  virtual bool entry_present(std::string_view name, bool /*given*/, std::string_view doc) { return present(name, true, doc); }
  /// Whether a value that is a number or a group of keys is a number after this visit, given whether it is one now.
  virtual bool is_plain_number(std::string_view key, bool now) = 0;
  /// The entry names of the current group: `now`, and for a reader those of its source as well.
  virtual std::vector<std::string> entry_names(const std::vector<std::string>& now) = 0;
};

}  // namespace fgvl::config
