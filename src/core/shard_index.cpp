#include "core/shard_index.hpp"

#include <absl/strings/str_cat.h>
#include <nlohmann/json.hpp>

#include "core/bounded_json.hpp"
#include "core/stored_tensor.hpp"

namespace fgvl {
namespace {

/// Follows the events of the index; the first problem ends the reading.
class IndexReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  ShardIndex shards{};
  std::string problem{};

  bool start_object(std::size_t) override {
    if (!value("an object")) return false;
    if (depth_ == 1 && key_ == "weight_map") {
      if (found_) return fail("two entries are named weight_map");
      found_ = in_map_ = true;
    }
    return open();
  }
  bool end_object() override {
    --depth_;
    if (depth_ == 1) in_map_ = false;
    return true;
  }
  bool start_array(std::size_t) override { return value("a list") && open(); }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool key(std::string& name) override {
    if (depth_ == 1 || in_map_) key_ = name;
    return true;
  }
  bool string(std::string& text) override {
    if (!in_map_) return value("a text");
    if (text.empty() || text == "." || text == ".." || text.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos) {
      return fail(absl::StrCat("tensor \"", shown(key_), "\": the shard \"", shown(text), "\" must be a file beside the index"));
    }
    if (!names_.insert(key_).second) return fail(absl::StrCat("tensor \"", shown(key_), "\" is named twice"));
    shards[text].insert(key_);
    return true;
  }
  bool number_unsigned(number_unsigned_t) override { return value("a number"); }
  bool number_integer(number_integer_t) override { return value("a number"); }
  bool number_float(number_float_t, const std::string&) override { return value("a number"); }
  bool null() override { return value("null"); }
  bool boolean(bool) override { return value("true or false"); }
  bool binary(nlohmann::json::binary_t&) override { return value("binary data"); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) override { return fail(absl::StrCat("byte ", position > 0 ? position - 1 : 0, ": not JSON")); }

 private:
  bool fail(std::string what) {
    if (problem.empty()) problem = std::move(what);
    return false;
  }
  /// A value that is no text where one begins.
  bool value(const char* what) {
    if (in_map_) return fail(absl::StrCat("tensor \"", shown(key_), "\": its shard is not a text but ", what));
    const bool object = std::string_view(what) == "an object";
    if (depth_ == 1 && key_ == "weight_map" && !object) return fail(absl::StrCat("`weight_map` is not an object but ", what));
    return depth_ > 0 || object || fail("not a JSON object");
  }
  bool open() {
    constexpr int kMaxDepth = 64;  // nested deeper, it is no index
    return ++depth_ <= kMaxDepth || fail(absl::StrCat("nested more than ", kMaxDepth, " deep"));
  }

  int depth_ = 0;
  bool found_ = false, in_map_ = false;
  std::string key_{};
  std::set<std::string> names_{};
};

}  // namespace

absl::StatusOr<ShardIndex> parse_shard_index(std::string_view text) {
  if (const std::size_t nul = find_nul(text); nul != std::string_view::npos) return absl::InvalidArgumentError(absl::StrCat("no index of shards: byte ", nul, ": not JSON"));
  IndexReader reader;
  if (!nlohmann::json::sax_parse(text.begin(), text.end(), &reader)) return absl::InvalidArgumentError(absl::StrCat("no index of shards: ", reader.problem));
  if (reader.shards.empty()) return absl::InvalidArgumentError("JSON without a `weight_map`: neither weights nor an index of shards");
  return std::move(reader.shards);
}

}  // namespace fgvl
