#pragma once
#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace fgvl::benchmark {

/// One side of a case.
struct Measurement {
  std::optional<double> seconds{};  ///< nothing: not run, the memory is computed
  std::int64_t peak_bytes = 0;      ///< resident memory at its largest: of the process, unless the program says otherwise
};

/// What every benchmark program reports: a row of its table and of its JSON file.
struct Case {
  std::string name{};
  nlohmann::ordered_json parameters{};  ///< object: what was measured, and how
  Measurement ours{};
  std::optional<Measurement> reference{};
};

/// {"case", "parameters", "ours": {"seconds", "peak_bytes"}, "reference": {...} or null, "ratio"}; ratio: seconds of the reference / seconds of ours, null where either was not run.
nlohmann::ordered_json to_json(const Case& one);

/// A list of such rows, in `file`. Throws std::runtime_error when it cannot be written. An empty name writes nothing.
void write_json(const std::string& file, const std::vector<Case>& cases);

/// The same as a table for a terminal.
void print_table(std::ostream& out, const std::vector<Case>& cases);

/// Largest resident memory of this process so far.
std::int64_t peak_bytes();

/// Runs a shell command and returns the last line of its output that is a JSON object. Throws std::runtime_error when the command fails or prints none.
nlohmann::json last_json_of(const std::string& command);

}  // namespace fgvl::benchmark
