#pragma once
#include <string>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include "fgvl/losses/criterion.hpp"

namespace fgvl::eval {

/// The term `name` of `criterion` as a T, or the first that is one where `name` is empty; null where there is none. InvalidArgument for a name that is no T.
template <class T>
absl::StatusOr<T*> find_term(const losses::Criterion& criterion, const std::string& name, const char* kind) {
  for (const std::string& known : criterion.names()) {
    T* found = dynamic_cast<T*>(criterion.find(known).get());
    if (found != nullptr && (name.empty() || name == known)) return found;
  }
  if (name.empty()) return static_cast<T*>(nullptr);
  return absl::InvalidArgumentError(absl::StrCat("there is no ", kind, " term '", name, "' in this run, whose losses are ", absl::StrJoin(criterion.names(), ", ")));
}

}  // namespace fgvl::eval
