#pragma once
#include <string>

namespace fgvl::data {

/// Python's html.unescape: named references of HTML 5, also without their semicolon where they are the longest known start, and numbers.
/// Text in and out is UTF-32.
std::u32string html_unescape(const std::u32string& text);

/// ftfy's unescape_html: only `&name;` and `&#number;`, and names in capitals ("&EACUTE;") where those mean nothing else.
std::u32string html_unescape_whole(const std::u32string& text);

}  // namespace fgvl::data
