#include "eval/report_tables.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_replace.h>

namespace fgvl::eval {
namespace {

constexpr const char* kColours[] = {"#8a8f98", "#2f6fde", "#d9662b", "#7b4fc9", "#1b9e77", "#c2398a"};
constexpr double kShuffledTolerance = 0.05;  // further from one half than this is marked

double value(const ReportArm& arm, const std::string& name) { return train::metric(arm.metrics, name, NAN); }

std::string percent(double share) { return std::isfinite(share) ? absl::StrFormat("%.1f", 100 * share) : "–"; }
std::string fraction(double number) { return std::isfinite(number) ? absl::StrFormat("%.3f", number) : "–"; }
std::string count(double number) { return std::isfinite(number) ? absl::StrFormat("%.0f", number) : "–"; }

/// A number above a bar of its share of one.
std::string barred(const std::string& shown, double share, const char* colour) {
  const double width = std::isfinite(share) ? 100 * std::clamp(share, 0.0, 1.0) : 0;
  return absl::StrFormat("%s<span class=\"bar\"><span style=\"width:%.1f%%;background:%s\"></span></span>", shown, width, colour);
}

/// The arm that leads every other by more than two standard errors of the difference; -1: none.
std::ptrdiff_t clear_leader(const std::vector<ReportArm>& arms, const std::string& skill) {
  const auto leads = [&](const ReportArm& arm, const ReportArm& other) {
    const double a = value(arm, skill + "accuracy"), b = value(other, skill + "accuracy"), n = value(arm, skill + "n"), m = value(other, skill + "n");
    return a - b > 2 * std::sqrt(a * (1 - a) / n + b * (1 - b) / m);
  };
  for (std::size_t i = 0; i < arms.size(); ++i) {
    const bool all = std::all_of(arms.begin(), arms.end(), [&](const ReportArm& other) { return &other == &arms[i] || leads(arms[i], other); });
    if (all && arms.size() > 1) return static_cast<std::ptrdiff_t>(i);
  }
  return -1;
}

std::string skill_cell(const ReportArm& arm, const std::string& skill, bool best, const char* colour) {
  const double accuracy = value(arm, skill + "accuracy"), shuffled = value(arm, skill + "shuffled_accuracy"),
               unseen = value(arm, skill + "unseen_accuracy");
  std::vector<std::string> notes;
  const bool suspicious = std::abs(shuffled - 0.5) > kShuffledTolerance;
  if (std::isfinite(shuffled))
    notes.push_back(absl::StrCat(suspicious ? "<span class=\"warn\">" : "", "shuffled ", percent(shuffled), suspicious ? "</span>" : ""));
  if (std::isfinite(unseen)) notes.push_back(absl::StrCat("unseen ", percent(unseen)));
  std::string html = absl::StrCat("<td", best ? " class=\"best\"" : "", ">", barred(percent(accuracy), accuracy, colour), "<small>");
  for (std::size_t i = 0; i < notes.size(); ++i) absl::StrAppend(&html, i > 0 ? " · " : "", notes[i]);
  return html + "</small></td>";
}

/// Distinct <label> of metrics "<prefix><label>/...", as a part of names.
std::vector<std::string> labels_of(const ReportArm& arm, const std::string& prefix) {
  std::vector<std::string> labels;
  for (const auto& [name, unused] : arm.metrics) {
    if (!absl::StartsWith(name, prefix)) continue;
    const std::string label = name.substr(prefix.size(), name.find('/', prefix.size()) - prefix.size());
    if (std::find(labels.begin(), labels.end(), label) == labels.end()) labels.push_back(label);
  }
  return labels;
}

std::string table(const std::string& head, const std::string& rows) {
  return absl::StrCat("<div class=\"card scroll\"><table><thead><tr>", head, "</tr></thead><tbody>", rows, "</tbody></table></div>");
}

/// " 47 of 48 pictures could be read.", by metrics <prefix>images and <prefix>images_of.
std::string coverage(const ReportArm& arm, const std::string& prefix) {
  const double used = value(arm, prefix + "images"), all = value(arm, prefix + "images_of");
  return std::isfinite(used) && std::isfinite(all) ? absl::StrCat(" ", count(used), " of ", count(all), " pictures could be read.") : "";
}

std::string readable(const std::string& name) { return escaped(train::metric_text(absl::StrReplaceAll(name, {{"/", " › "}, {"_", " "}}))); }

}  // namespace

std::string escaped(const std::string& text) {
  std::string visible;
  for (const char c : text) {
    // Control characters are not allowed in a document, escaped or not.
    if (static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\t') visible += c;
  }
  return absl::StrReplaceAll(visible, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}});
}

const char* arm_colour(std::size_t index, std::size_t count) { return kColours[(count == 1 ? index + 1 : index) % std::size(kColours)]; }

std::vector<std::string> skills_of(const std::vector<ReportArm>& arms) {
  std::vector<std::string> skills;
  for (const ReportArm& arm : arms) {
    for (const std::string& skill : labels_of(arm, "skills/")) {
      if (std::find(skills.begin(), skills.end(), skill) == skills.end()) skills.push_back(skill);
    }
  }
  return skills;
}

std::string skill_table(const std::vector<ReportArm>& arms, const std::vector<std::string>& skills) {
  std::string head = "<th>skill</th>", rows;
  for (const ReportArm& arm : arms) absl::StrAppend(&head, "<th>", escaped(arm.name), "<small>% right</small></th>");
  for (const std::string& skill : skills) {
    const std::string prefix = absl::StrCat("skills/", skill, "/");
    const std::ptrdiff_t leader = clear_leader(arms, prefix);
    absl::StrAppend(&rows, "<tr><td>", escaped(skill), "</td>");
    double pairs = NAN, unseen = NAN;
    for (std::size_t i = 0; i < arms.size(); ++i) {
      absl::StrAppend(&rows, skill_cell(arms[i], prefix, static_cast<std::ptrdiff_t>(i) == leader, arm_colour(i, arms.size())));
      pairs = std::fmax(pairs, value(arms[i], prefix + "n"));
      unseen = std::fmax(unseen, value(arms[i], prefix + "unseen_n"));
    }
    absl::StrAppend(&rows, "<td>", count(pairs), std::isfinite(unseen) ? absl::StrCat("<small>unseen ", count(unseen), "</small>") : "",
                    "</td></tr>");
  }
  if (std::any_of(arms.begin(), arms.end(), [](const ReportArm& arm) { return std::isfinite(value(arm, "box_mean_iou")); })) {
    double boxes = NAN;
    for (const ReportArm& arm : arms) boxes = std::fmax(boxes, value(arm, "box_n"));
    absl::StrAppend(&rows, "<tr><td>boxes<small>mean overlap (IoU)</small></td>");
    for (std::size_t i = 0; i < arms.size(); ++i) {
      const double iou = value(arms[i], "box_mean_iou");
      absl::StrAppend(&rows, "<td>", std::isfinite(iou) ? barred(fraction(iou), iou, arm_colour(i, arms.size())) : "–", "</td>");
    }
    absl::StrAppend(&rows, "<td>", count(boxes), "</td></tr>");
  }
  absl::StrAppend(&rows, "<tr><td>images a second<small>while training</small></td>");
  for (const ReportArm& arm : arms) absl::StrAppend(&rows, "<td>", count(arm.samples_per_second), "</td>");
  return table(head + "<th>pairs</th>", rows + "<td></td></tr>");
}

std::string region_table(const ReportArm& arm, const char* colour) {
  const std::vector<std::string> labels = labels_of(arm, "regions/true_box/per_class/");
  if (labels.empty()) return "";
  const auto row = [&](const std::string& name, const std::string& suffix, const std::string& n) {
    std::string html = absl::StrCat("<tr><td>", escaped(name), "</td>");
    for (const char* through : {"regions/true_box/", "regions/fixed_window/"}) {
      const double share = value(arm, through + suffix);
      absl::StrAppend(&html, "<td>", barred(percent(share), share, colour), "</td>");
    }
    return absl::StrCat(html, "<td>", count(value(arm, "regions/true_box/" + n)), "</td></tr>");
  };
  std::string rows = row("all classes alike (balanced)", "balanced_accuracy", "n");
  for (const std::string& label : labels) absl::StrAppend(&rows, row(train::metric_text(label), "per_class/" + label + "/accuracy", "per_class/" + label + "/n"));
  const double majority = value(arm, "regions/baselines/majority"), area = value(arm, "regions/baselines/box_area");
  absl::StrAppend(&rows, "<tr class=\"baseline\"><td>always the commonest class</td><td>", percent(majority), "</td><td>", percent(majority),
                  "</td><td></td></tr>");
  absl::StrAppend(&rows, "<tr class=\"baseline\"><td>from the area of the box alone</td><td>", percent(area), "</td><td>–</td><td></td></tr>");
  return absl::StrCat(
      "<h3>Which label fits a region</h3><p>Share of held-out regions whose own label is the most similar of all labels, in percent. Because the "
      "size of a box can give a class away, "
      "each region is also seen through a window of one fixed size centred on it, where only what it looks like can tell.",
      coverage(arm, "region_"), "</p>",
      table("<th>class</th><th>true box<small>% right</small></th><th>fixed window<small>% right</small></th><th>regions</th>", rows));
}

std::string box_table(const ReportArm& arm, const char* colour) {
  const std::vector<std::string> labels = labels_of(arm, "boxes/");
  const double mean = value(arm, "box_mean_iou");
  if (labels.empty() && !std::isfinite(mean)) return "";
  const auto row = [&](const std::string& name, double iou, double hits, double constant, double n) {
    return absl::StrCat("<tr><td>", escaped(name), "</td><td>", barred(fraction(iou), iou, colour), "</td><td>", barred(percent(hits), hits, colour),
                        "</td><td>", fraction(constant), "</td><td>", count(n), "</td></tr>");
  };
  std::string rows;
  for (const std::string& label : labels) {
    const std::string prefix = absl::StrCat("boxes/", label, "/");
    absl::StrAppend(&rows, row(train::metric_text(label), value(arm, prefix + "mean_iou"), value(arm, prefix + "hit_at_0.5"), value(arm, prefix + "constant_box_iou"),
                               value(arm, prefix + "n")));
  }
  absl::StrAppend(&rows, row("all", mean, value(arm, "box_hit_at_0.5"), NAN, value(arm, "box_n")));
  return absl::StrCat(
      "<h3>Where a text points</h3><p>Boxes predicted from a text on the whole picture, where the text names one region only. A hit overlaps the "
      "true box by at least half (IoU 0.5). "
      "“Constant box” is what the training split's mean box of that label reaches without looking at the picture.",
      coverage(arm, "box_"), "</p>",
      table("<th>label</th><th>mean overlap<small>IoU</small></th><th>hits<small>%</small></th><th>constant box<small>IoU</small></th><th>boxes</th>",
            rows));
}

std::string other_table(const ReportArm& arm) {
  std::string rows;
  for (const auto& [name, number] : arm.metrics) {
    const bool shown_above = absl::StartsWith(name, "skills/") || absl::StartsWith(name, "regions/") || absl::StartsWith(name, "boxes/") ||
                             absl::StartsWith(name, "box_mean") || absl::StartsWith(name, "box_hit") || name == "box_n" ||
                             absl::StartsWith(name, "box_images") || absl::StartsWith(name, "region_images");
    if (shown_above) continue;
    std::string shown = "–";
    if (const auto* real = std::get_if<double>(&number)) shown = fraction(*real);
    if (const auto* whole = std::get_if<std::int64_t>(&number)) shown = absl::StrCat(*whole);
    absl::StrAppend(&rows, "<tr><td>", readable(name), "</td><td>", shown, "</td></tr>");
  }
  return rows.empty() ? "" : "<h3>Other numbers</h3>" + table("<th>measure</th><th>value</th>", rows);
}

}  // namespace fgvl::eval
