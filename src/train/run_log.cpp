#include "train/run_log.hpp"

#include <chrono>
#include <cmath>
#include <filesystem>
#include <sstream>

#include <absl/strings/str_cat.h>
#include <nlohmann/json.hpp>

#include "fgvl/core/files.hpp"

namespace fgvl::train {
namespace {

using Json = nlohmann::ordered_json;

double now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

/// Keeps the lines whose "step" is at most `step`, the probes' only when they are of a step before `probes_before`, and a stage's start only when it is of a step before `step`.
absl::Status cut(const std::string& path, std::int64_t step, std::int64_t probes_before) {
  if (!std::filesystem::exists(path)) return absl::OkStatus();
  FGVL_ASSIGN_OR_RETURN(const std::string text, read_file(path));
  std::istringstream lines(text);
  std::string kept, line;
  while (std::getline(lines, line)) {
    const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || !json.contains("step") || !json["step"].is_number_integer()) continue;  // cut off in the middle
    const auto of = json["step"].get<std::int64_t>();
    if (of <= step && (!json.contains("probe") || of < probes_before) && (!json.contains("stage") || of < step)) absl::StrAppend(&kept, line, "\n");
  }
  return kept == text ? absl::OkStatus() : with_exit_code(write_file_atomically(path, kept), ExitCode::kCheckpoint);
}

absl::Status append(const std::string& path, const std::string& text) { return with_exit_code(append_to_file(path, text), ExitCode::kCheckpoint); }

/// Texts come from users' files: what is not UTF-8 is replaced.
std::string dumped(const Json& line) { return line.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace) + "\n"; }

}  // namespace

absl::StatusOr<RunLog> RunLog::open(const std::string& folder, std::int64_t step, std::int64_t steps) {
  FGVL_RETURN_IF_ERROR(cut(folder + "/metrics.jsonl", step, steps));
  FGVL_RETURN_IF_ERROR(cut(folder + "/skipped.jsonl", step, steps));
  FGVL_ASSIGN_OR_RETURN(EventFile events, EventFile::create(folder, now(), step));
  return RunLog(folder, std::move(events));
}

absl::Status RunLog::step(const StepLog& log) {
  Json line = {{"step", log.step}, {"epoch", log.epoch}, {"lr", log.lr}, {"losses", Json::object()}, {"grad_norm", number(log.gradient_norm)}};
  for (const auto& [name, value] : log.losses) line["losses"][name] = number(value);
  line["losses"]["total"] = number(log.total);
  line["seconds"] = log.seconds;
  line["data_seconds"] = log.data_seconds;
  line["images_per_second"] = log.images_per_second;
  FGVL_RETURN_IF_ERROR(append(folder_ + "/metrics.jsonl", dumped(line)));
  const double time = now();
  for (const auto& [name, value] : line["losses"].items()) {
    if (value.is_number()) FGVL_RETURN_IF_ERROR(events_.scalar("loss/" + name, log.step, value, time));
  }
  FGVL_RETURN_IF_ERROR(events_.scalar("train/lr", log.step, log.lr, time));
  FGVL_RETURN_IF_ERROR(events_.scalar("train/grad_norm", log.step, log.gradient_norm, time));
  return events_.scalar("train/images_per_second", log.step, log.images_per_second, time);
}

absl::Status RunLog::stage(std::int64_t step, const std::string& name) { return append(folder_ + "/metrics.jsonl", dumped(Json{{"step", step}, {"stage", name}})); }

absl::Status RunLog::shares(std::int64_t step, const std::vector<GradientShare>& shares) {
  Json line = {{"step", step}, {"gradient_shares", Json::object()}, {"gradient_norms", Json::object()}};
  for (const GradientShare& share : shares) {
    line["gradient_shares"][share.term] = number(share.share);
    line["gradient_norms"][share.term] = number(share.norm);
  }
  FGVL_RETURN_IF_ERROR(append(folder_ + "/metrics.jsonl", dumped(line)));
  const double time = now();
  for (const GradientShare& share : shares) {
    if (std::isfinite(share.share)) FGVL_RETURN_IF_ERROR(events_.scalar("gradient_share/" + share.term, step, share.share, time));
  }
  return absl::OkStatus();
}

absl::Status RunLog::probe(std::int64_t step, const Metrics& metrics) {
  FGVL_RETURN_IF_ERROR(append(folder_ + "/metrics.jsonl", absl::StrCat("{\"step\":", step, ",\"probe\":", to_json(metrics), "}\n")));
  for (const auto& [name, value] : metrics) {
    if (const auto* score = std::get_if<double>(&value)) FGVL_RETURN_IF_ERROR(events_.scalar("probe/" + name, step, *score, now()));
  }
  return absl::OkStatus();
}

absl::Status RunLog::skipped(std::int64_t step, const std::vector<data::Skipped>& skipped) {
  std::string lines;
  for (const data::Skipped& one : skipped) {
    lines += dumped(Json{{"step", step}, {"stream", one.stream}, {"record", one.key}, {"place", one.place}, {"cause", one.cause}, {"detail", one.detail}});
  }
  return lines.empty() ? absl::OkStatus() : append(folder_ + "/skipped.jsonl", lines);
}

}  // namespace fgvl::train
