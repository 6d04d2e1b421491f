#include "fgvl/eval/report.hpp"

#include <algorithm>
#include <cmath>

#include <absl/strings/escaping.h>
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_replace.h>

#include "eval/chart.hpp"
#include "eval/report_tables.hpp"

namespace fgvl::eval {
namespace {

constexpr char kStyle[] = R"(
:root{--bg:#fbfbfa;--card:#fff;--ink:#1d2327;--soft:#5d6870;--line:#e2e5e7;--good:#0f7b53;--warn:#b3261e}
@media(prefers-color-scheme:dark){:root{--bg:#15181b;--card:#1d2226;--ink:#e8ecef;--soft:#9aa6ae;--line:#333b41;--good:#4cc38f;--warn:#ff8a80}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1120px;margin:0 auto;padding:40px 24px 80px}h1{font-size:30px;line-height:1.2;margin:0 0 8px}h2{font-size:20px;margin:44px 0 6px}
p{margin:6px 0 14px;max-width:78ch}.lead{color:var(--soft);font-size:17px}.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:16px 18px}
.grid{display:grid;gap:14px;grid-template-columns:repeat(auto-fill,minmax(330px,1fr))}.pictures{grid-template-columns:repeat(auto-fill,minmax(230px,1fr))}
figure{margin:0}figcaption{font-size:13.5px;color:var(--soft);margin-top:8px;line-height:1.45}figcaption b{color:var(--ink);font-weight:600}
img{width:100%;height:auto;image-rendering:pixelated;border-radius:6px;display:block}svg{width:100%;height:auto;display:block}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th,td{padding:8px 12px;text-align:right;border-bottom:1px solid var(--line)}
th:first-child,td:first-child{text-align:left}th{font-weight:600;font-size:14px}td.best{color:var(--good);font-weight:650}td.best small{font-weight:400}td small,th small{color:var(--soft);font-weight:400;display:block;font-size:12px}
h3{font-size:16px;margin:22px 0 4px}.bar{display:block;height:5px;border-radius:3px;background:var(--line);margin:5px 0 3px auto;width:100%;max-width:180px;overflow:hidden}
.bar span{display:block;height:100%;border-radius:3px}.warn{color:var(--warn);font-weight:600}tr.baseline td{color:var(--soft)}tbody tr:last-child td{border-bottom:0}
.scroll{overflow-x:auto}.legend{display:flex;flex-wrap:wrap;gap:6px 22px;margin:10px 0 14px;font-size:14.5px}.swatch{display:inline-block;width:14px;height:4px;border-radius:2px;margin-right:8px;vertical-align:middle}
.chart-title{font-weight:600;font-size:14.5px;margin:0 0 4px}ul{max-width:80ch;padding-left:20px}li{margin:5px 0}details{margin:8px 0}summary{cursor:pointer;font-weight:600}
pre{overflow-x:auto;font:12.5px/1.5 ui-monospace,Menlo,Consolas,monospace;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 14px}
footer{color:var(--soft);font-size:13.5px;margin-top:44px}.axis{fill:var(--soft);font-size:11px}.gridline{stroke:var(--line)}.chance{stroke:var(--soft);stroke-dasharray:4 4}
)";

/// One entry an arm; a single one needs none.
std::string legend(const std::vector<ReportArm>& arms) {
  if (arms.size() < 2) return "";
  std::string html = "<div class=\"legend\">";
  for (std::size_t i = 0; i < arms.size(); ++i) {
    absl::StrAppend(&html, "<span><span class=\"swatch\" style=\"background:", arm_colour(i, arms.size()), "\"></span><b>", escaped(arms[i].name), "</b> ", escaped(arms[i].description), "</span>");
  }
  return html + "</div>";
}

const Series* find(const std::vector<Series>& all, const std::string& name) {
  const auto found = std::find_if(all.begin(), all.end(), [&](const Series& series) { return series.name == name; });
  return found == all.end() ? nullptr : &*found;
}

std::string chart_title(const std::string& name) {
  if (absl::StartsWith(name, "skills/")) return escaped(name.substr(7, name.find('/', 7) - 7));
  return escaped(train::metric_text(absl::StrReplaceAll(name, {{"/", " › "}, {"_", " "}})));
}

using Curves = std::vector<Series> History::*;  ///< losses, probes or shares

/// Where the stages of the arms' runs begin; one that several arms have, once.
std::vector<std::pair<double, std::string>> stage_marks(const std::vector<ReportArm>& arms) {
  std::vector<std::pair<double, std::string>> marks;
  for (const ReportArm& arm : arms) {
    for (const auto& [step, name] : arm.history.stages) {
      const std::pair<double, std::string> mark{step, escaped(name)};
      if (std::find(marks.begin(), marks.end(), mark) == marks.end()) marks.push_back(mark);
    }
  }
  return marks;
}

std::string charts(const std::vector<ReportArm>& arms, const std::vector<std::string>& names, Curves curves, ChartOptions options) {
  options.marks = stage_marks(arms);
  std::string html = "<div class=\"grid\">";
  for (const std::string& name : names) {
    std::vector<ChartLine> lines;
    for (std::size_t i = 0; i < arms.size(); ++i) {
      const Series* series = find(arms[i].history.*curves, name);
      if (series != nullptr && !series->points.empty()) lines.push_back({arms[i].name, arm_colour(i, arms.size()), series->points});
    }
    if (lines.empty()) continue;
    absl::StrAppend(&html, "<div class=\"card\"><p class=\"chart-title\">", chart_title(name), "</p>", line_chart(lines, options), "</div>");
  }
  return html + "</div>";
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

/// Curves worth a look in a run without skills: summaries that were measured more than once.
std::vector<std::string> summary_names(const std::vector<ReportArm>& arms) {
  std::vector<std::string> names;
  for (const ReportArm& arm : arms) {
    for (const Series& series : arm.history.probes) {
      const bool summary = absl::EndsWith(series.name, "balanced_accuracy") || absl::EndsWith(series.name, "mean_iou");
      if (summary && series.points.size() > 1 && std::find(names.begin(), names.end(), series.name) == names.end()) names.push_back(series.name);
    }
  }
  return names;
}

/// What probes other than skills measured, arm by arm.
std::string measures(const std::vector<ReportArm>& arms, bool with_rest) {
  std::string html;
  for (std::size_t i = 0; i < arms.size(); ++i) {
    // Without labels the mean overlap stands in the table of skills already.
    const bool boxes = with_rest || std::any_of(arms[i].metrics.begin(), arms[i].metrics.end(), [](const auto& metric) { return absl::StartsWith(metric.first, "boxes/"); });
    const std::string tables = absl::StrCat(region_table(arms[i], arm_colour(i, arms.size())), boxes ? box_table(arms[i], arm_colour(i, arms.size())) : "", with_rest ? other_table(arms[i]) : "");
    if (!tables.empty() && arms.size() > 1) absl::StrAppend(&html, "<h3>", escaped(arms[i].name), "</h3>");
    html += tables;
  }
  return html;
}

std::vector<std::string> curve_names(const std::vector<ReportArm>& arms, Curves curves) {
  std::vector<std::string> names;
  for (const ReportArm& arm : arms) {
    for (const Series& series : arm.history.*curves) {
      if (std::find(names.begin(), names.end(), series.name) == names.end()) names.push_back(series.name);
    }
  }
  return names;
}

std::string skipped_section(const std::vector<ReportArm>& arms) {
  std::string html;
  for (const ReportArm& arm : arms) {
    for (const auto& [cause, count] : arm.skipped) absl::StrAppend(&html, "<li>", escaped(arm.name), ": ", count, " × ", escaped(cause), "</li>");
    if (!arm.skipped.empty()) {
      absl::StrAppend(&html, "<li>", escaped(arm.name), ": ", arm.records_seen - arm.records_skipped, " of ", arm.records_seen, " records were used, with ", arm.regions_seen, " regions looked at</li>");
    }
  }
  if (html.empty()) return "<p>Nothing was left out.</p>";
  return "<ul>" + html + "</ul><p>Each record and region counts once a stream, in its first epoch, however often it was met. skipped.jsonl in the run's folder lists every one with its place.</p>";
}

}  // namespace

std::string render_report(const ReportContent& content) {
  const std::vector<std::string> skills = skills_of(content.arms);
  std::string html = absl::StrCat("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/><title>",
                                  escaped(content.title), "</title><style>", kStyle, "</style></head><body><main><h1>", escaped(content.title), "</h1><p class=\"lead\">",
                                  escaped(content.introduction), "</p>", legend(content.arms));
  if (!skills.empty()) {
    std::vector<std::string> names;
    for (const std::string& skill : skills) names.push_back("skills/" + skill + "/accuracy");
    absl::StrAppend(&html, "<h2>What was learned</h2><p>Share of held-out pairs where image-text matching on the whole picture, with no box given, ranks the true text strictly above the false one, in percent. "
                           "50 is chance. “Shuffled” shows the same texts with other pictures and must stay within 5 points of 50, or texts alone would decide; “unseen” pairs name a colour and shape that "
                           "training never showed together. A number is green where an arm leads all others by more than two standard errors.</p>",
                    skill_table(content.arms, skills), "<h2>When it was learned</h2><p>The same share over training steps; the dashed line is chance. Probes during training may use fewer pairs than the last, and then "
                                                       "move by some points by chance. Rest the pointer on a point to read it.</p>",
                    legend(content.arms), charts(content.arms, names, &History::probes, {.low = 0.4, .high = 1.0, .reference = 0.5, .as_percent = true}), measures(content.arms, false));
  } else if (const std::string tables = measures(content.arms, true); !tables.empty()) {
    absl::StrAppend(&html, "<h2>What was learned</h2>", tables);
    const std::vector<std::string> summaries = summary_names(content.arms);
    if (!summaries.empty()) absl::StrAppend(&html, "<h2>When it was learned</h2><p>Summaries on held-out data over training steps.</p>", charts(content.arms, summaries, &History::probes, {.low = 0.0, .high = 1.0}));
  }
  if (!content.notes.empty()) {
    absl::StrAppend(&html, "<h2>How to read this</h2><ul>");
    for (const std::string& note : content.notes) absl::StrAppend(&html, "<li>", escaped(note), "</li>");
    absl::StrAppend(&html, "</ul>");
  }
  if (!content.pictures.empty()) absl::StrAppend(&html, "<h2>Boxes on held-out pictures</h2><p>", escaped(content.pictures_caption), "</p>", picture_grid(content.pictures));
  absl::StrAppend(&html, "<h2>Losses</h2><p>Each loss as it was logged while training; lower is better. A loss that was not computed has no line.</p>", legend(content.arms), charts(content.arms, curve_names(content.arms, &History::losses), &History::losses, {.low = 0.0}));
  if (const std::vector<std::string> terms = curve_names(content.arms, &History::shares); !terms.empty()) {
    absl::StrAppend(&html, "<h2>Who moves the weights</h2><p>Share of each term in the gradient of the model’s weights: the norm of its weighted gradient over the sum of all terms’ norms. A weight of 1 means little by itself; this is "
                           "what it does.</p>",
                    legend(content.arms), charts(content.arms, terms, &History::shares, {.low = 0.0, .high = 1.0, .as_percent = true}));
  }
  absl::StrAppend(&html, "<h2>Data left out</h2>", skipped_section(content.arms),
                  "<h2>Settings</h2><p>The resolved configuration, complete: saved to a file it repeats the run.</p>");
  for (const auto& [name, yaml] : content.settings) absl::StrAppend(&html, "<details><summary>", escaped(name), "</summary><pre>", escaped(yaml), "</pre></details>");
  absl::StrAppend(&html, "<footer>", escaped(content.environment), "</footer></main></body></html>\n");
  return html;
}

}  // namespace fgvl::eval
