#include "fgvl/eval/report.hpp"

#include <algorithm>
#include <cmath>

#include <absl/strings/escaping.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_replace.h>

#include "eval/chart.hpp"

namespace fgvl::eval {
namespace {

constexpr char kStyle[] = R"(
:root{--bg:#fbfbfa;--card:#fff;--ink:#1d2327;--soft:#5d6870;--line:#e2e5e7;--good:#0f7b53}
@media(prefers-color-scheme:dark){:root{--bg:#15181b;--card:#1d2226;--ink:#e8ecef;--soft:#9aa6ae;--line:#333b41;--good:#4cc38f}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1120px;margin:0 auto;padding:40px 24px 80px}h1{font-size:30px;line-height:1.2;margin:0 0 8px}h2{font-size:20px;margin:44px 0 6px}
p{margin:6px 0 14px;max-width:78ch}.lead{color:var(--soft);font-size:17px}.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:16px 18px}
.grid{display:grid;gap:14px;grid-template-columns:repeat(auto-fill,minmax(330px,1fr))}.pictures{grid-template-columns:repeat(auto-fill,minmax(230px,1fr))}
figure{margin:0}figcaption{font-size:13.5px;color:var(--soft);margin-top:8px;line-height:1.45}figcaption b{color:var(--ink);font-weight:600}
img{width:100%;height:auto;image-rendering:pixelated;border-radius:6px;display:block}svg{width:100%;height:auto;display:block}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th,td{padding:8px 12px;text-align:right;border-bottom:1px solid var(--line)}
th:first-child,td:first-child{text-align:left}th{font-weight:600;font-size:14px}td.best{color:var(--good);font-weight:650}td small,th small{color:var(--soft);font-weight:400;display:block;font-size:12px}
.scroll{overflow-x:auto}.legend{display:flex;flex-wrap:wrap;gap:6px 22px;margin:10px 0 14px;font-size:14.5px}.swatch{display:inline-block;width:14px;height:4px;border-radius:2px;margin-right:8px;vertical-align:middle}
.chart-title{font-weight:600;font-size:14.5px;margin:0 0 4px}ul{max-width:80ch;padding-left:20px}li{margin:5px 0}details{margin:8px 0}summary{cursor:pointer;font-weight:600}
pre{overflow-x:auto;font:12.5px/1.5 ui-monospace,Menlo,Consolas,monospace;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 14px}
footer{color:var(--soft);font-size:13.5px;margin-top:44px}.axis{fill:var(--soft);font-size:11px}.gridline{stroke:var(--line)}.chance{stroke:var(--soft);stroke-dasharray:4 4}
)";

constexpr const char* kColours[] = {"#8a8f98", "#2f6fde", "#d9662b", "#7b4fc9", "#1b9e77", "#c2398a"};

std::string escaped(const std::string& text) { return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}}); }

const char* colour(std::size_t arm) { return kColours[arm % std::size(kColours)]; }

std::string percent(double value) { return std::isfinite(value) ? absl::StrFormat("%.1f", 100 * value) : "–"; }

std::string legend(const std::vector<ReportArm>& arms) {
  std::string html = "<div class=\"legend\">";
  for (std::size_t i = 0; i < arms.size(); ++i) {
    absl::StrAppend(&html, "<span><span class=\"swatch\" style=\"background:", colour(i), "\"></span><b>", escaped(arms[i].name), "</b> ", escaped(arms[i].description), "</span>");
  }
  return html + "</div>";
}

/// Names of metrics "<group>/<name>/accuracy" of any arm, in order.
std::vector<std::string> skills_of(const std::vector<ReportArm>& arms) {
  std::vector<std::string> skills;
  for (const ReportArm& arm : arms) {
    for (const auto& [name, value] : arm.metrics) {
      if (name.rfind("skills/", 0) != 0) continue;
      const std::string skill = name.substr(7, name.find('/', 7) - 7);
      if (std::find(skills.begin(), skills.end(), skill) == skills.end()) skills.push_back(skill);
    }
  }
  return skills;
}

const Series* find(const std::vector<Series>& all, const std::string& name) {
  const auto found = std::find_if(all.begin(), all.end(), [&](const Series& series) { return series.name == name; });
  return found == all.end() ? nullptr : &*found;
}

std::string charts(const std::vector<ReportArm>& arms, const std::vector<std::string>& names, bool probes, const ChartOptions& options) {
  std::string html = "<div class=\"grid\">";
  for (const std::string& name : names) {
    std::vector<ChartLine> lines;
    for (std::size_t i = 0; i < arms.size(); ++i) {
      const Series* series = find(probes ? arms[i].history.probes : arms[i].history.losses, name);
      if (series != nullptr && !series->points.empty()) lines.push_back({arms[i].name, colour(i), series->points});
    }
    if (lines.empty()) continue;
    std::string title = name;
    if (name.rfind("skills/", 0) == 0) title = name.substr(7, name.find('/', 7) - 7);
    absl::StrAppend(&html, "<div class=\"card\"><p class=\"chart-title\">", escaped(title), "</p>", line_chart(lines, options), "</div>");
  }
  return html + "</div>";
}

std::string skill_table(const std::vector<ReportArm>& arms, const std::vector<std::string>& skills) {
  std::string html = "<div class=\"card scroll\"><table><thead><tr><th>skill</th>";
  for (const ReportArm& arm : arms) absl::StrAppend(&html, "<th>", escaped(arm.name), "<small>% right</small></th>");
  absl::StrAppend(&html, "<th>pairs</th></tr></thead><tbody>");
  for (const std::string& skill : skills) {
    double best = 0;
    for (const ReportArm& arm : arms) best = std::max(best, train::metric(arm.metrics, "skills/" + skill + "/accuracy", 0));
    absl::StrAppend(&html, "<tr><td>", escaped(skill), "</td>");
    double count = 0;
    for (const ReportArm& arm : arms) {
      const double accuracy = train::metric(arm.metrics, "skills/" + skill + "/accuracy", NAN), shuffled = train::metric(arm.metrics, "skills/" + skill + "/shuffled_accuracy", NAN);
      const double unseen = train::metric(arm.metrics, "skills/" + skill + "/unseen_accuracy", NAN);
      count = std::max(count, train::metric(arm.metrics, "skills/" + skill + "/n", 0));
      absl::StrAppend(&html, "<td", arms.size() > 1 && accuracy == best ? " class=\"best\"" : "", ">", percent(accuracy), "<small>shuffled ", percent(shuffled),
                      std::isfinite(unseen) ? absl::StrCat(" · unseen pairs ", percent(unseen)) : "", "</small></td>");
    }
    absl::StrAppend(&html, "<td>", static_cast<std::int64_t>(count), "</td></tr>");
  }
  absl::StrAppend(&html, "<tr><td>boxes: mean IoU</td>");
  double boxes = 0;
  for (const ReportArm& arm : arms) {
    const double iou = train::metric(arm.metrics, "box_mean_iou", NAN);
    boxes = std::max(boxes, train::metric(arm.metrics, "box_n", 0));
    absl::StrAppend(&html, "<td>", std::isfinite(iou) ? absl::StrFormat("%.3f", iou) : "–", "</td>");
  }
  absl::StrAppend(&html, "<td>", static_cast<std::int64_t>(boxes), "</td></tr><tr><td>images a second</td>");
  for (const ReportArm& arm : arms) absl::StrAppend(&html, "<td>", absl::StrFormat("%.0f", arm.samples_per_second), "</td>");
  return html + "<td></td></tr></tbody></table></div>";
}

std::string metric_table(const ReportArm& arm) {
  std::string html = "<div class=\"card scroll\"><table><thead><tr><th>measure</th><th>value</th></tr></thead><tbody>";
  for (const auto& [name, value] : arm.metrics) {
    std::string shown = "–";
    if (const auto* number = std::get_if<double>(&value)) shown = absl::StrFormat("%.4f", *number);
    if (const auto* count = std::get_if<std::int64_t>(&value)) shown = absl::StrCat(*count);
    absl::StrAppend(&html, "<tr><td>", escaped(absl::StrReplaceAll(name, {{"/", " › "}})), "</td><td>", shown, "</td></tr>");
  }
  return html + "</tbody></table></div>";
}

std::string picture_grid(const std::vector<ReportPicture>& pictures) {
  std::string html = "<div class=\"grid pictures\">";
  for (const ReportPicture& picture : pictures) {
    absl::StrAppend(&html, "<figure class=\"card\"><img alt=\"picture with boxes\" src=\"data:image/png;base64,", absl::Base64Escape(data::to_png(picture.image)), "\"/><figcaption>");
    for (const auto& [kind, text] : picture.lines) absl::StrAppend(&html, "<b>", escaped(kind), "</b> ", escaped(text), "<br/>");
    absl::StrAppend(&html, "</figcaption></figure>");
  }
  return html + "</div>";
}

std::vector<std::string> loss_names(const std::vector<ReportArm>& arms) {
  std::vector<std::string> names;
  for (const ReportArm& arm : arms) {
    for (const Series& series : arm.history.losses) {
      if (std::find(names.begin(), names.end(), series.name) == names.end()) names.push_back(series.name);
    }
  }
  return names;
}

std::string skipped_section(const std::vector<ReportArm>& arms) {
  std::string html;
  for (const ReportArm& arm : arms) {
    for (const auto& [cause, count] : arm.skipped) absl::StrAppend(&html, "<li>", escaped(arm.name), ": ", count, " × ", escaped(cause), "</li>");
  }
  return html.empty() ? "<p>Nothing was left out.</p>" : "<ul>" + html + "</ul><p>skipped.jsonl in the run's folder lists every one with its place.</p>";
}

}  // namespace

std::string render_report(const ReportContent& content) {
  const std::vector<std::string> skills = skills_of(content.arms);
  std::string html = absl::StrCat("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/><title>",
                                  escaped(content.title), "</title><style>", kStyle, "</style></head><body><main><h1>", escaped(content.title), "</h1><p class=\"lead\">",
                                  escaped(content.introduction), "</p>", legend(content.arms));
  if (!skills.empty()) {
    absl::StrAppend(&html, "<h2>What was learned</h2><p>Share of held-out pairs where image-text matching on the whole picture, with no box given, ranks the true text strictly above the false one. "
                           "50 is chance. “Shuffled” shows the same texts with other pictures and must stay near 50; “unseen pairs” name a colour and shape that training never showed together.</p>",
                    skill_table(content.arms, skills), "<h2>When it was learned</h2>");
    std::vector<std::string> names;
    for (const std::string& skill : skills) names.push_back("skills/" + skill + "/accuracy");
    absl::StrAppend(&html, charts(content.arms, names, true, {.low = 0.4, .high = 1.0, .reference = 0.5, .as_percent = true}));
  } else if (!content.arms.empty() && !content.arms[0].metrics.empty()) {
    absl::StrAppend(&html, "<h2>What was learned</h2>");
    for (const ReportArm& arm : content.arms) absl::StrAppend(&html, metric_table(arm));
  }
  if (!content.notes.empty()) {
    absl::StrAppend(&html, "<h2>How to read this</h2><ul>");
    for (const std::string& note : content.notes) absl::StrAppend(&html, "<li>", escaped(note), "</li>");
    absl::StrAppend(&html, "</ul>");
  }
  if (!content.pictures.empty()) absl::StrAppend(&html, "<h2>Boxes on held-out pictures</h2><p>", escaped(content.pictures_caption), "</p>", picture_grid(content.pictures));
  absl::StrAppend(&html, "<h2>Losses</h2><p>Each loss as it was logged; a loss that an arm does not have has no line.</p>", charts(content.arms, loss_names(content.arms), false, {.low = 0.0}));
  absl::StrAppend(&html, "<h2>Data left out</h2>", skipped_section(content.arms), "<h2>Settings</h2>");
  for (const auto& [name, yaml] : content.settings) absl::StrAppend(&html, "<details><summary>", escaped(name), "</summary><pre>", escaped(yaml), "</pre></details>");
  absl::StrAppend(&html, "<footer>", escaped(content.environment), "</footer></main></body></html>\n");
  return html;
}

}  // namespace fgvl::eval
