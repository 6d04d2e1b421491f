#pragma once
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <absl/functional/function_ref.h>

#include "fgvl/core/config_visitor.hpp"
#include "fgvl/core/status.hpp"

namespace fgvl::config {

/// A parsed configuration, with the file and line of every value. Strict: reading it into an options struct refuses unknown and
/// duplicate keys, wrong types and out-of-range values, all of them in one message, each with file:line, the key and the nearest valid key.
class Document {
 public:
  /// Reads `path`. Its `base: FILE` (relative to `path`; may chain) is read first and overlaid key by key: maps merge, everything else
  /// replaces, null removes (an entry, which must be there). `format:` must be a version that this build reads.
  static absl::StatusOr<Document> load(const std::string& path);
  /// The same from text; `name` stands for the file in messages. `base:` is relative to the working directory.
  static absl::StatusOr<Document> parse(const std::string& yaml, const std::string& name = "<text>");
  /// The same from `files`, path -> text, which hold `name` and every base that is needed: configurations that a program carries inside.
  static absl::StatusOr<Document> parse(const std::map<std::string, std::string>& files, const std::string& name);

  /// Command-line overrides "key.sub=value"; the value is YAML ("null" removes). Later ones win. Messages name the argument.
  absl::Status override_with(const std::vector<std::string>& assignments);

  /// Feeds a reading visitor to `visit`; the status carries every problem found.
  absl::Status read(absl::FunctionRef<void(Visitor&)> visit) const;

  struct Impl;

 private:
  explicit Document(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<Impl> impl_;
};

/// Fills a value that starts from `defaults`.
template <Configurable T>
absl::StatusOr<T> read(const Document& document, T defaults = {}) {
  absl::Status status = document.read([&](Visitor& visitor) { visit_fields(visitor, defaults); });
  if (!status.ok()) return status;
  return defaults;
}

/// The resolved configuration as YAML that `Document::parse` reads back to an equal value (numbers round-trip exactly).
std::string to_yaml(absl::FunctionRef<void(Visitor&)> visit);
template <Configurable T>
std::string to_yaml(T value) {
  return to_yaml([&](Visitor& visitor) { visit_fields(visitor, value); });
}

/// The configuration reference as a Markdown table: key, type, default, allowed values, meaning. Of an optional value that is absent the keys follow with the defaults that they have once it is there; the visited
/// value holds them afterwards.
std::string to_markdown(absl::FunctionRef<void(Visitor&)> visit);

}  // namespace fgvl::config
