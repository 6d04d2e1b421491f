#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "commands.hpp"
#include "fgvl/train/import.hpp"
#include "model_settings.hpp"

namespace fgvl::app {
namespace {

struct ImportArguments {
  std::string in, folder;
  train::ImportOptions options{};
};

absl::StatusOr<ExitCode> import_file(const ImportArguments& arguments) {
  FGVL_ASSIGN_OR_RETURN(const train::Imported imported, train::import_checkpoint(arguments.in, arguments.folder, arguments.options, registries()));
  print_settings(imported.settings);
  // The last line counts what became of the tensors; the lines before it are in the folder.
  const std::string lines = imported.table.substr(0, imported.table.find_last_not_of('\n') + 1);
  absl::PrintF("\n%s: %s (every tensor in init_from.txt)\n", arguments.folder, lines.substr(lines.find_last_of('\n') + 1));
  absl::PrintF("next       fgvl score %s PICTURE TEXT...\n", arguments.folder);
  return ExitCode::kOk;
}

}  // namespace

void add_import(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<ImportArguments>();
  CLI::App* command = app.add_subcommand("import", "Make an official checkpoint file a folder that ground, score, rank and eval use");
  command->add_option("FILE", arguments->in, "File or folder of weights: PyTorch, safetensors, Hugging Face")->required();
  command->add_option("FOLDER", arguments->folder, "Folder to make; it must not exist, or be empty")->required();
  command->add_option("--vocabulary", arguments->options.vocabulary, "The model's vocabulary, such as bert-base-uncased's vocab.txt");
  command->add_option("--merges", arguments->options.merges, "Byte-pair merges beside a vocab.json");
  command->add_option("OVERRIDES", arguments->options.overrides, "key.sub=value, over what the file's tensors tell and what is assumed: any key of a configuration file");
  command->footer(
      "Sizes are read off the tensors. What these cannot tell is taken from the configuration in the file or from the family's published models; it is listed, and a key=value changes it.\n\n"
      "  fgvl info official.th\n  fgvl import official.th models/xvlm --vocabulary vocab.txt\n  fgvl ground models/xvlm picture.jpg \"the red cup on the left\"");
  command->callback([arguments, &chosen] { chosen = [arguments] { return import_file(*arguments); }; });
}

}  // namespace fgvl::app
