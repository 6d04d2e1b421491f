#include <cstdio>
#include <exception>
#include <filesystem>

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <c10/util/Exception.h>
#include <sys/prctl.h>

#include "commands.hpp"
#include "fgvl/core/device.hpp"
#include "fgvl/core/version.hpp"
#include "fgvl/eval/probes.hpp"

namespace fgvl::app {

train::RunRegistries registries() {
  train::RunRegistries all;
  all.probes = eval::builtin_probes();
  return all;
}

CLI::Validator at_least(std::int64_t least) {
  const auto check = [least](const std::string& text) {
    std::int64_t number = 0;
    return absl::SimpleAtoi(text, &number) && number >= least ? std::string() : absl::StrCat("expected a whole number of at least ", least, ", got \"", text, "\"");
  };
  return CLI::Validator(check, absl::StrCat(">=", least));
}

absl::StatusOr<train::RunConfig> read_config(const std::string& path, const std::vector<std::string>& overrides) {
  FGVL_ASSIGN_OR_RETURN(config::Document document, config::Document::load(path));
  FGVL_RETURN_IF_ERROR(document.override_with(overrides));
  return config::read(document, train::RunConfig(registries()));
}

namespace {

int finish(ExitCode code) { return static_cast<int>(code); }

int fail(const std::string& message, ExitCode code) {
  absl::FPrintF(stderr, "fgvl: %s\n", message);
  return finish(code);
}

int run(int argc, char** argv) {
  CLI::App app{"fgvl: region-grounded vision-language pretraining"};
  app.set_version_flag("--version", std::string("fgvl ") + kVersion);
  app.require_subcommand(1);
  app.footer("Exit codes: 0 ok, 2 usage or configuration, 3 data, 4 checkpoint, 5 numerical stop, 7 out of memory, 75 interrupted and saved.");
  Command chosen;
  add_train(app, chosen);
  add_eval(app, chosen);
  add_ground(app, chosen);
  add_score(app, chosen);
  add_rank(app, chosen);
  add_demo(app, chosen);
  add_scenes(app, chosen);
  add_data(app, chosen);
  add_info(app, chosen);
  add_convert(app, chosen);
  add_import(app, chosen);
  add_config_reference(app, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::RequiredError& error) {
    if (argc > 1 && argv[1][0] != '-' && app.get_subcommands().empty()) {
      return fail(std::string("no subcommand '") + argv[1] + "'; there are train, eval, ground, score, rank, demo, scenes, data, info, convert, import and config-reference", ExitCode::kUsage);
    }
    app.exit(error);
    return finish(ExitCode::kUsage);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : finish(ExitCode::kUsage);
  }
  try {
    const absl::StatusOr<ExitCode> result = chosen();
    return result.ok() ? finish(*result) : fail(std::string(result.status().message()), exit_code(result.status()));
  } catch (const std::exception& error) {
    const auto* of_torch = dynamic_cast<const c10::Error*>(&error);
    const std::string what = of_torch != nullptr ? of_torch->what_without_backtrace() : error.what();
    if (is_out_of_memory(error)) return fail("out of memory: lower data.batch_size, data.prefetch or the sizes of the model (" + what + ")", ExitCode::kOutOfMemory);
    if (dynamic_cast<const std::filesystem::filesystem_error*>(&error) != nullptr) return fail(what, ExitCode::kData);
    return fail(what, ExitCode::kUsage);
  }
}

}  // namespace
}  // namespace fgvl::app

int main(int argc, char** argv) {
  prctl(PR_SET_NAME, "fgvl");  // started by start_settings.cpp, it would be known as "exe" to ps and top
  return fgvl::app::run(argc, argv);
}
