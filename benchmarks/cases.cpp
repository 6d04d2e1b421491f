#include "cases.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <sstream>
#include <stdexcept>

namespace fgvl::benchmark {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(const Measurement& side) { return {{"seconds", side.seconds ? Json(*side.seconds) : Json()}, {"peak_bytes", side.peak_bytes}}; }

std::optional<double> ratio(const Case& one) {
  if (!one.reference || !one.reference->seconds || !one.ours.seconds) return std::nullopt;
  return *one.reference->seconds / *one.ours.seconds;
}

std::string with_unit(double value, int decimals, const char* unit) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(decimals) << value << " " << unit;
  return text.str();
}

std::string duration(const std::optional<double>& seconds) {
  if (!seconds) return "not run";
  if (*seconds < 1e-3) return with_unit(*seconds * 1e6, 1, "us");
  return *seconds < 1 ? with_unit(*seconds * 1e3, 2, "ms") : with_unit(*seconds, 3, "s");
}

std::string memory(std::int64_t bytes) { return with_unit(static_cast<double>(bytes) / (1 << 20), 1, "MiB"); }

std::string listed(const Json& parameters) {
  std::string text;
  for (const auto& [name, value] : parameters.items()) text += (text.empty() ? "" : " ") + name + "=" + (value.is_string() ? value.get<std::string>() : value.dump());
  return text;
}

}  // namespace

Json to_json(const Case& one) {
  const std::optional<double> times = ratio(one);
  return {{"case", one.name},
          {"parameters", one.parameters},
          {"ours", to_json(one.ours)},
          {"reference", one.reference ? to_json(*one.reference) : Json()},
          {"ratio", times ? Json(*times) : Json()}};
}

void write_json(const std::string& file, const std::vector<Case>& cases) {
  if (file.empty()) return;
  Json rows = Json::array();
  for (const Case& one : cases) rows.push_back(to_json(one));
  std::ofstream stream(file);
  stream << rows.dump(2) << "\n";
  stream.close();
  if (!stream) throw std::runtime_error("cannot write " + file);
}

void print_table(std::ostream& out, const std::vector<Case>& cases) {
  constexpr std::size_t kColumns = 7;
  std::vector<std::array<std::string, kColumns>> rows{{"case", "parameters", "ours", "peak", "reference", "peak", "ratio"}};
  for (const Case& one : cases) {
    const std::optional<double> times = ratio(one);
    rows.push_back({one.name, listed(one.parameters), duration(one.ours.seconds), memory(one.ours.peak_bytes), one.reference ? duration(one.reference->seconds) : "",
                    one.reference ? memory(one.reference->peak_bytes) : "", times ? with_unit(*times, 2, "x") : ""});
  }
  std::array<std::size_t, kColumns> widths{};
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < kColumns; ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < kColumns; ++i) out << (i < 2 ? std::left : std::right) << std::setw(static_cast<int>(widths[i])) << row[i] << (i + 1 < kColumns ? "  " : "\n");
  }
  out << std::flush;
}

std::int64_t peak_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
}

nlohmann::json last_json_of(const std::string& command) {
  std::FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("cannot run " + command);
  std::string line, last;
  for (int character = std::fgetc(pipe); character != EOF; character = std::fgetc(pipe)) {
    line += static_cast<char>(character);
    if (character != '\n') continue;
    if (line.front() == '{') last = line;
    line.clear();
  }
  if (pclose(pipe) != 0 || last.empty()) throw std::runtime_error("failed, or printed no line of JSON: " + command);
  return nlohmann::json::parse(last);
}

}  // namespace fgvl::benchmark
