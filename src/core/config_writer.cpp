// The visitors that print: resolved YAML and the Markdown reference.
#include <charconv>
#include <cmath>
#include <utility>

#include <absl/algorithm/container.h>
#include <absl/strings/ascii.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_replace.h>

#include "fgvl/core/config.hpp"

namespace fgvl::config {
namespace {

/// The shortest digits that read back to the same double.
std::string number_text(double value) {
  if (std::isinf(value)) return value > 0 ? ".inf" : "-.inf";
  char buffer[32];
  const auto result = std::to_chars(buffer, buffer + sizeof buffer, value);
  return std::string(buffer, result.ptr);
}

/// Plain where no reader could take it for something else, else in double quotes.
std::string text_scalar(const std::string& text) {
  static constexpr std::string_view kWords[] = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"};  // in any case, they mean something to some reader
  static constexpr char kPlain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./ -";
  const bool plain = !text.empty() && text.find_first_not_of(kPlain) == std::string::npos && absl::ascii_isalpha(static_cast<unsigned char>(text[0])) &&
                     text.back() != ' ' && !absl::c_linear_search(kWords, absl::AsciiStrToLower(text));
  if (plain) return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += {'\\', c};
    } else if (c == '\n') {
      quoted += "\\n";
    } else if (c == '\t') {
      quoted += "\\t";
    } else if (static_cast<unsigned char>(c) < 0x20) {
      absl::StrAppend(&quoted, "\\x", absl::Hex(static_cast<unsigned char>(c), absl::kZeroPad2));
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

std::string text_list(const std::vector<std::string>& texts) {
  return absl::StrCat("[", absl::StrJoin(texts, ", ", [](std::string* out, const std::string& text) { out->append(text_scalar(text)); }), "]");
}

std::string number_list(const std::vector<double>& numbers) {
  return absl::StrCat("[", absl::StrJoin(numbers, ", ", [](std::string* out, double value) { out->append(number_text(value)); }), "]");
}

std::string text_map(const std::vector<std::pair<std::string, std::string>>& pairs) {
  return absl::StrCat("{", absl::StrJoin(pairs, ", ", [](std::string* out, const auto& pair) { absl::StrAppend(out, text_scalar(pair.first), ": ", text_scalar(pair.second)); }), "}");
}

class YamlWriter final : public Visitor {
 public:
  std::string take() { return std::move(text_); }
  void check(bool, const std::string&) override {}

 protected:
  void visit_bool(std::string_view key, bool& value, std::string_view) override { line(key, value ? "true" : "false"); }
  void visit_integer(std::string_view key, std::int64_t& value, std::string_view, const Range&) override { line(key, absl::StrCat(value)); }
  void visit_number(std::string_view key, double& value, std::string_view, const Range&) override { line(key, number_text(value)); }
  void visit_text(std::string_view key, std::string& value, std::string_view) override { line(key, text_scalar(value)); }
  void visit_texts(std::string_view key, std::vector<std::string>& value, std::string_view) override { line(key, text_list(value)); }
  void visit_numbers(std::string_view key, std::vector<double>& value, std::string_view, const Range&) override { line(key, number_list(value)); }
  void visit_text_map(std::string_view key, std::vector<std::pair<std::string, std::string>>& value, std::string_view) override { line(key, text_map(value)); }
  void visit_choice(std::string_view key, std::string& value, const std::vector<std::string>&, std::string_view) override { line(key, text_scalar(value)); }
  bool enter(std::string_view key, std::string_view) override {
    starts_.push_back(text_.size());
    line(key, "");
    ++depth_;
    return true;
  }
  void leave() override {
    --depth_;
    // A group without fields reads back as an empty map, not as null.
    if (text_.back() == '\n' && text_.find('\n', starts_.back()) == text_.size() - 1) text_.insert(text_.size() - 1, " {}");
    starts_.pop_back();
  }
  ListVisit enter_list(std::string_view key, std::vector<std::string>& names, std::string_view doc) override {
    if (!names.empty()) return enter(key, doc) ? ListVisit::kSame : ListVisit::kSkip;
    line(key, "[]");
    return ListVisit::kSkip;
  }
  bool enter_item(const std::string& name, std::string_view) override {
    starts_.push_back(std::string::npos);  // its name is in it, whatever follows
    absl::StrAppend(&text_, std::string(2 * depth_, ' '), "- name: ", text_scalar(name), "\n");
    ++depth_;
    return true;
  }
  bool present(std::string_view key, bool now, std::string_view) override {
    if (!now) line(key, "null");
    return now;
  }
  bool is_plain_number(std::string_view, bool now) override { return now; }
  std::vector<std::string> entry_names(const std::vector<std::string>& now) override { return now; }

 private:
  void line(std::string_view key, const std::string& value) {
    absl::StrAppend(&text_, std::string(2 * depth_, ' '), text_scalar(std::string(key)), ":", value.empty() ? "" : " ", value, "\n");
  }
  std::string text_;
  std::vector<std::size_t> starts_;
  std::size_t depth_ = 0;
};

class MarkdownWriter final : public Visitor {
 public:
  std::string take() { return absl::StrCat("| key | type | default | allowed | meaning |\n|---|---|---|---|---|\n", text_); }
  void check(bool, const std::string&) override {}

 protected:
  void visit_bool(std::string_view key, bool& value, std::string_view doc) override { row(key, "bool", value ? "true" : "false", "", doc); }
  void visit_integer(std::string_view key, std::int64_t& value, std::string_view doc, const Range& range) override { row(key, "integer", absl::StrCat(value), interval(range), doc); }
  void visit_number(std::string_view key, double& value, std::string_view doc, const Range& range) override {
    row(key, std::exchange(or_schedule_, false) ? "number or schedule" : "number", number_text(value), interval(range), doc);
  }
  void visit_text(std::string_view key, std::string& value, std::string_view doc) override { row(key, "text", value, "", doc); }
  void visit_texts(std::string_view key, std::vector<std::string>& value, std::string_view doc) override { row(key, "list of texts", text_list(value), "", doc); }
  void visit_numbers(std::string_view key, std::vector<double>& value, std::string_view doc, const Range& range) override {
    row(key, "list of numbers", number_list(value), interval(range), doc);
  }
  void visit_text_map(std::string_view key, std::vector<std::pair<std::string, std::string>>& value, std::string_view doc) override { row(key, "map of texts", text_map(value), "", doc); }
  void visit_choice(std::string_view key, std::string& value, const std::vector<std::string>& allowed, std::string_view doc) override {
    row(key, "choice", value, absl::StrJoin(allowed, ", "), doc);
  }
  bool enter(std::string_view key, std::string_view doc) override {
    if (!doc.empty()) row(key, "group", "", "", doc);
    path_.emplace_back(key);
    return true;
  }
  void leave() override { path_.pop_back(); }
  ListVisit enter_list(std::string_view key, std::vector<std::string>& names, std::string_view doc) override {
    row(key, "list of groups", names.empty() ? "[]" : "", "", doc);
    path_.emplace_back(key);
    if (!names.empty()) return ListVisit::kSame;
    names = {"<name>"};
    return ListVisit::kNew;
  }
  bool enter_item(const std::string& name, std::string_view) override {
    path_.push_back(name);
    row("name", "text", "", "", "of this entry, by which `key.name.field=value` finds it");
    return true;
  }
  /// What is absent is described as well: its row comes next, then the defaults of its keys.
  bool present(std::string_view, bool now, std::string_view) override {
    absent_ = !now;
    return true;
  }
  bool is_plain_number(std::string_view, bool now) override { return or_schedule_ = now; }
  std::vector<std::string> entry_names(const std::vector<std::string>& now) override { return now.empty() ? std::vector<std::string>{"<name>"} : now; }

 private:
  static std::string interval(const Range& range) {
    if (std::isinf(range.min) && std::isinf(range.max)) return "";
    if (range.min == kPositive.min && std::isinf(range.max)) return "> 0";
    if (std::isinf(range.max)) return absl::StrCat(">= ", number_text(range.min));
    return absl::StrCat("[", number_text(range.min), ", ", number_text(range.max), "]");
  }
  void row(std::string_view key, const char* type, const std::string& value, const std::string& allowed, std::string_view doc) {
    std::vector<std::string> path = path_;
    path.emplace_back(key);
    const bool absent = std::exchange(absent_, false);
    const std::string shown = absent ? "null" : value;
    const auto cell = [](const std::string& text) { return absl::StrReplaceAll(text, {{"|", "\\|"}, {"<", "&lt;"}}); };
    absl::StrAppend(&text_, "| `", absl::StrJoin(path, "."), "` | ", absent ? "optional " : "", type, " | ", shown.empty() ? "" : absl::StrCat("`", cell(shown), "`"), " | ", cell(allowed), " | ",
                    cell(std::string(doc)), " |\n");
  }
  std::string text_;
  std::vector<std::string> path_;
  bool or_schedule_ = false;  ///< the number that comes may be a schedule as well
  bool absent_ = false;       ///< the value that comes is optional, and absent by default
};

}  // namespace

std::string to_yaml(absl::FunctionRef<void(Visitor&)> visit) {
  YamlWriter writer;
  visit(writer);
  return writer.take();
}

std::string to_markdown(absl::FunctionRef<void(Visitor&)> visit) {
  MarkdownWriter writer;
  visit(writer);
  return writer.take();
}

}  // namespace fgvl::config
