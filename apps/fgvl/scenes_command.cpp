#include <filesystem>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "commands.hpp"
#include "fgvl/core/files.hpp"
#include "fgvl/data/synthetic.hpp"
#include "fgvl/data/write_image.hpp"

namespace fgvl::app {
namespace {

struct ScenesArguments {
  std::string folder{};
  std::int64_t count = 8;
  data::SyntheticOptions options{};
};

/// Held-out scenes, which no run with these options has trained on.
absl::StatusOr<ExitCode> scenes(const ScenesArguments& arguments) {
  FGVL_ASSIGN_OR_RETURN(const data::DatasetPtr dataset, data::open_dataset(arguments.options, {.split = data::Split::kHeldOut}));
  if (arguments.count > dataset->size()) return absl::InvalidArgumentError(absl::StrCat("--count: there are ", dataset->size(), " held-out scenes"));
  std::error_code error;
  std::filesystem::create_directories(arguments.folder, error);
  if (error) return with_exit_code(absl::UnavailableError(absl::StrCat(arguments.folder, ": cannot be made: ", error.message())), ExitCode::kCheckpoint);
  std::string captions;
  for (std::int64_t i = 0; i < arguments.count; ++i) {
    FGVL_ASSIGN_OR_RETURN(const data::Record record, dataset->get(i));
    const std::string path = (std::filesystem::path(arguments.folder) / absl::StrFormat("scene_%03d.png", i)).string();
    FGVL_RETURN_IF_ERROR(with_exit_code(data::write_image(path, data::from_tensor(record.image)), ExitCode::kCheckpoint));
    absl::PrintF("%s\t%s", path, record.captions.at(0));
    for (const data::Region& region : record.regions) absl::PrintF("\t%s", region.texts.at(0));
    absl::PrintF("\n");
    absl::StrAppend(&captions, record.captions.at(0), "\n");
  }
  FGVL_RETURN_IF_ERROR(with_exit_code(write_file_atomically((std::filesystem::path(arguments.folder) / "captions.txt").string(), captions), ExitCode::kCheckpoint));
  return ExitCode::kOk;
}

}  // namespace

void add_scenes(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<ScenesArguments>();
  CLI::App* command = app.add_subcommand("scenes", "Write generated scenes as pictures, to try a model trained on them (configs/demo.yaml)");
  command->add_option("FOLDER", arguments->folder, "Where scene_<n>.png and captions.txt (one a line) go")->required();
  command->add_option("--count", arguments->count, "Scenes, from the first held-out one on (default: 8)")->check(at_least(1));
  command->callback([arguments, &chosen] { chosen = [arguments] { return scenes(*arguments); }; });
}

}  // namespace fgvl::app
