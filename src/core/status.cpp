#include "fgvl/core/status.hpp"

#include <absl/strings/cord.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>

namespace fgvl {
namespace {
constexpr char kExitCodeUrl[] = "fgvl/exit_code";
}

absl::Status with_exit_code(absl::Status status, ExitCode code) {
  if (!status.ok()) status.SetPayload(kExitCodeUrl, absl::Cord(absl::StrCat(static_cast<int>(code))));
  return status;
}

ExitCode exit_code(const absl::Status& status) {
  if (status.ok()) return ExitCode::kOk;
  if (const auto payload = status.GetPayload(kExitCodeUrl)) {
    int value = 0;
    if (absl::SimpleAtoi(std::string(*payload), &value)) return static_cast<ExitCode>(value);
  }
  return absl::IsInvalidArgument(status) ? ExitCode::kUsage : ExitCode::kData;
}

absl::Status annotate(const absl::Status& status, const std::string& context) {
  if (status.ok()) return status;
  absl::Status annotated(status.code(), absl::StrCat(context, ": ", status.message()));
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& payload) { annotated.SetPayload(url, payload); });
  return annotated;
}

}  // namespace fgvl
