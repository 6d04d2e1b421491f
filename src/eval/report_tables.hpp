#pragma once
#include <string>
#include <vector>

#include "fgvl/eval/report.hpp"

namespace fgvl::eval {

/// `text` with the characters that mean something in HTML replaced, and without control characters.
std::string escaped(const std::string& text);

/// CSS colour of arm `index` of `count`; readable on light and dark. The first of several is grey: what the others are compared with.
const char* arm_colour(std::size_t index, std::size_t count);

/// Names <skill> of metrics "skills/<skill>/..." of any arm, in order of first appearance.
std::vector<std::string> skills_of(const std::vector<ReportArm>& arms);

/// One row a skill, one column an arm; an arm is marked best where it leads every other by more than two standard errors.
std::string skill_table(const std::vector<ReportArm>& arms, const std::vector<std::string>& skills);

/// What the regions and the boxes probe measured of one arm, and everything else by name; "" for what was not measured.
std::string region_table(const ReportArm& arm, const char* colour);
std::string box_table(const ReportArm& arm, const char* colour);
std::string other_table(const ReportArm& arm);

}  // namespace fgvl::eval
