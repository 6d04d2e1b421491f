#include "eval/report_tables.hpp"

#include <pugixml.hpp>

#include "eval/chart.hpp"
#include "support/catch.hpp"

namespace fgvl::eval {
namespace {

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

ReportArm arm_with(const std::string& name, double accuracy, std::int64_t pairs, double shuffled = 0.5) {
  return {name, "", {}, {{"skills/shape/accuracy", accuracy}, {"skills/shape/n", pairs}, {"skills/shape/shuffled_accuracy", shuffled}}, 1, 1, {}};
}

TEST_CASE("skill_table: an arm is best only where it leads by more than chance explains", "[report]") {
  // 100 pairs: the standard error of the difference of 0.80 and 0.75 is sqrt(.16/100 + .1875/100) = 0.059, more than the lead of 0.05.
  CHECK_FALSE(contains(skill_table({arm_with("a", 0.80, 100), arm_with("b", 0.75, 100)}, {"shape"}), "class=\"best\""));
  // 10,000 pairs: 0.0059, and 0.05 is more than twice as much.
  CHECK(contains(skill_table({arm_with("a", 0.75, 10000), arm_with("b", 0.80, 10000)}, {"shape"}), "<td class=\"best\">80.0"));
  CHECK_FALSE(contains(skill_table({arm_with("alone", 0.99, 10000)}, {"shape"}), "class=\"best\""));
}

TEST_CASE("skill_table: a shuffled control further than 5 points from one half is marked", "[report]") {
  CHECK(contains(skill_table({arm_with("a", 0.9, 100, 0.56)}, {"shape"}), "<span class=\"warn\">shuffled 56.0</span>"));
  CHECK_FALSE(contains(skill_table({arm_with("a", 0.9, 100, 0.54)}, {"shape"}), "class=\"warn\""));
}

TEST_CASE("render_report: a run without skills shows regions, boxes, baselines and how many pictures were read", "[report]") {
  ReportArm arm{"cells", "", {}, {}, 1, 1, {}};
  arm.metrics = {{"regions/true_box/balanced_accuracy", 0.9},
                 {"regions/true_box/n", std::int64_t{70}},
                 {"regions/true_box/per_class/W<B>C/accuracy", 0.875},
                 {"regions/true_box/per_class/W<B>C/n", std::int64_t{8}},
                 {"regions/fixed_window/balanced_accuracy", 0.8},
                 {"regions/fixed_window/per_class/W<B>C/accuracy", 0.625},
                 {"regions/baselines/majority", 0.333},
                 {"regions/baselines/box_area", 0.97},
                 {"region_images", std::int64_t{47}},
                 {"region_images_of", std::int64_t{48}},
                 {"box_mean_iou", 0.5},
                 {"box_n", std::int64_t{46}},
                 {"boxes/W<B>C/mean_iou", 0.71},
                 {"boxes/W<B>C/hit_at_0.5", 0.9},
                 {"boxes/W<B>C/n", std::int64_t{46}},
                 {"boxes/W<B>C/constant_box_iou", 0.19},
                 {"own/measure", 0.125}};
  arm.history.probes = {{"boxes/W<B>C/mean_iou", {{250, 0.4}, {500, 0.71}}}};
  const std::string html = render_report({.title = "cells", .introduction = "Control\x01 characters go.", .arms = {arm}});
  for (const char* expected : {"W&lt;B&gt;C", "87.5", "62.5", "97.0", "33.3", "47 of 48 pictures", "0.710", "0.190", "own › measure", "0.125",
                               "step 500: 0.71", "Control characters go."}) {
    INFO(expected);
    CHECK(contains(html, expected));
  }
  pugi::xml_document document;
  CHECK(document.load_string(html.c_str()));
}

TEST_CASE("box_table: a label with a slash is one row, and a baseline that is not there is a dash", "[report]") {
  ReportArm arm{"run", "", {}, {{"box_mean_iou", 0.5}, {"boxes/a%2Fb/mean_iou", 0.25}, {"boxes/a%2Fb/constant_box_iou", train::MetricValue()}}, 1, 1, {}};
  const std::string html = box_table(arm, "#000");
  CHECK(contains(html, "<td>a/b</td><td>0.250"));
  CHECK(contains(html, "<td>–</td>"));
}

TEST_CASE("line_chart: points outside a fixed limit stay visible, and a number that is not finite is left out", "[report]") {
  const std::string svg = line_chart({{"a", "#123456", {{1, 0.1}, {2, NAN}, {3, 0.9}}}}, {.low = 0.4, .high = 1.0});
  pugi::xml_document document;
  REQUIRE(document.load_string(svg.c_str()));
  int points = 0;
  for (const pugi::xml_node& node : document.child("svg").children("circle")) {
    ++points;
    CHECK(node.attribute("cy").as_double() >= 0);
    CHECK(node.attribute("cy").as_double() <= 212 - 38 + 0.1);  // the axis
  }
  CHECK(points == 2);
  CHECK_FALSE(contains(svg, "nan"));
}

}  // namespace
}  // namespace fgvl::eval
