#pragma once
#include <string>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

namespace fgvl {

/// Exit codes of every fgvl program, the same on every rank.
enum class ExitCode : int {
  kOk = 0,
  kUsage = 2,        ///< command line or configuration
  kData = 3,
  kCheckpoint = 4,
  kNumerical = 5,    ///< stopped because a loss or gradient stayed non-finite
  kPeerLost = 6,
  kOutOfMemory = 7,
  kInterrupted = 75, ///< stopped by a signal, state saved
};

/// Input errors carry the exit code that a program should end with, as a payload; absent: kUsage for InvalidArgument, else kData.
absl::Status with_exit_code(absl::Status status, ExitCode code);
ExitCode exit_code(const absl::Status& status);

/// `status` with "context: " before its message, payloads kept.
absl::Status annotate(const absl::Status& status, const std::string& context);

#define FGVL_RETURN_IF_ERROR(expression)               \
  do {                                                 \
    if (absl::Status fgvl_status = (expression); !fgvl_status.ok()) return fgvl_status; \
  } while (false)

#define FGVL_CONCAT_INNER(a, b) a##b
#define FGVL_CONCAT(a, b) FGVL_CONCAT_INNER(a, b)
/// FGVL_ASSIGN_OR_RETURN(auto value, function_that_returns_status_or());
#define FGVL_ASSIGN_OR_RETURN(declaration, expression) FGVL_ASSIGN_OR_RETURN_IMPL(FGVL_CONCAT(fgvl_status_or_, __LINE__), declaration, expression)
#define FGVL_ASSIGN_OR_RETURN_IMPL(result, declaration, expression) \
  auto result = (expression);                                       \
  if (!result.ok()) return result.status();                         \
  declaration = std::move(result).value()

}  // namespace fgvl
