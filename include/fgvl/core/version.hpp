#pragma once

namespace fgvl {

/// Of this release; CMakeLists.txt holds the same number, and a test compares them.
inline constexpr char kVersion[] = "0.1.0";

}  // namespace fgvl
