#include "model_settings.hpp"

#include <algorithm>
#include <string>

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_replace.h>

namespace fgvl::app {
namespace {

using models::Setting;
using models::SettingSource;

/// "clip_vit, image_size 224, heads 12*" of the keys below `prefix`.
std::string summary_of(const std::vector<Setting>& settings, const std::string& prefix) {
  std::string text;
  for (const Setting& setting : settings) {
    if (!absl::StartsWith(setting.key, prefix)) continue;
    const std::string path = absl::StrReplaceAll(absl::StrCat(".", setting.key.substr(prefix.size())), {{".options.", "."}, {".type", ""}});
    const std::string name = path.substr(std::min<std::size_t>(path.size(), 1));
    const char* mark = setting.source == SettingSource::kPublished ? "*" : "";
    const std::string value = setting.source == SettingSource::kUnknown ? "?" : setting.value;
    absl::StrAppend(&text, text.empty() ? "" : ", ", name, name.empty() ? "" : " ", value, mark);
  }
  return text;
}

void print_part(const char* title, const std::vector<Setting>& settings, const char* prefix) {
  const std::string summary = summary_of(settings, prefix);
  if (!summary.empty()) absl::PrintF("%-10s %s\n", title, summary);
}

void print_source(const std::vector<Setting>& settings, SettingSource source, const char* title) {
  bool is_first = true;
  for (const Setting& setting : settings) {
    if (setting.source != source) continue;
    if (is_first) absl::PrintF("%s\n", title);
    is_first = false;
    absl::PrintF("  %s=%s%s%s\n", setting.key, source == SettingSource::kUnknown ? "..." : setting.value, setting.note.empty() ? "" : "   ", setting.note);
  }
}

}  // namespace

void print_settings(const std::vector<Setting>& settings) {
  print_part("vision", settings, "model.vision.");
  print_part("text", settings, "model.text.");
  print_part("fusion", settings, "model.fusion.");
  print_part("embedding", settings, "model.embed_dim");
  print_part("box head", settings, "model.box_head");
  print_part("losses", settings, "losses.");
  print_part("pictures", settings, "data.image.");
  print_part("texts", settings, "data.tokenizer.");
  print_source(settings, SettingSource::kConfiguration, "from the configuration beside the weights");
  print_source(settings, SettingSource::kPublished, "* assumed, as nothing in the file says it");
  print_source(settings, SettingSource::kUnknown, "? must be given");
  print_source(settings, SettingSource::kGiven, "given");
}

}  // namespace fgvl::app
