#pragma once
#include <CLI/CLI.hpp>

#include "fgvl/core/status.hpp"
#include "fgvl/train/run_config.hpp"

namespace fgvl::app {

/// What a subcommand ends with. A status carries its exit code.
using Command = std::function<absl::StatusOr<ExitCode>()>;

/// Each adds one subcommand to `app` and stores what it runs in `chosen` when it was called.
void add_train(CLI::App& app, Command& chosen);
void add_eval(CLI::App& app, Command& chosen);
void add_ground(CLI::App& app, Command& chosen);
void add_score(CLI::App& app, Command& chosen);
void add_rank(CLI::App& app, Command& chosen);
void add_scenes(CLI::App& app, Command& chosen);
void add_demo(CLI::App& app, Command& chosen);
void add_data(CLI::App& app, Command& chosen);
void add_info(CLI::App& app, Command& chosen);
void add_convert(CLI::App& app, Command& chosen);
void add_import(CLI::App& app, Command& chosen);
void add_config_reference(CLI::App& app, Command& chosen);

/// For options that are whole numbers of at least `least`.
CLI::Validator at_least(std::int64_t least);

/// Everything that a configuration file of this program may name.
train::RunRegistries registries();

/// Reads a configuration file with overrides.
absl::StatusOr<train::RunConfig> read_config(const std::string& path, const std::vector<std::string>& overrides);

}  // namespace fgvl::app
