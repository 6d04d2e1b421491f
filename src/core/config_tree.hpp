#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fgvl/core/status.hpp"

namespace fgvl::config {

/// A YAML value with the place where it was written.
struct Tree {
  enum class Kind { kNull, kScalar, kSequence, kMap };
  Kind kind = Kind::kNull;
  std::string scalar{};
  bool quoted = false;                              ///< "3" is text, 3 is a number
  std::vector<Tree> items{};                        ///< of a sequence
  std::vector<std::pair<std::string, Tree>> fields{};  ///< of a map, in the order of the source
  std::string place{};                              ///< "file:line" or "argument 'key=value'"
  bool not_listed = false;                          ///< an item that was named in a path, `list.name.key=value`, but that its list has not
  bool replaces = false;                            ///< it was laid over another value, as null is to remove an entry of a base

  const Tree* find(const std::string& key) const;
  Tree* find(const std::string& key);
};

/// Parses one YAML document. `name` stands for the file in messages and places; a place without lines is used for every node when
/// `fixed_place` is not empty. Refuses duplicate keys, aliases to itself and maps with keys that are not text.
absl::StatusOr<Tree> parse_tree(const std::string& yaml, const std::string& name, const std::string& fixed_place = "");

inline constexpr char kItemName[] = "name";

/// The text under `name` of a list's item; empty: it has none.
std::string item_name(const Tree& item);

/// Lays `over` on `under`: maps merge key by key, everything else replaces. A map over a list of named groups changes or, with null, removes those that it names. A map that names another `type` replaces the whole map,
/// because the options of one type mean nothing to another.
void overlay(Tree& under, const Tree& over);

/// The candidate nearest to `word` by edit distance, or "" when none is near enough to be a slip of the pen.
std::string nearest(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace fgvl::config
