#include <cmath>
#include <filesystem>
#include <iostream>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "commands.hpp"
#include "fgvl/core/device.hpp"
#include "fgvl/core/files.hpp"
#include "fgvl/eval/grounding.hpp"
#include "fgvl/train/checkpoint.hpp"

namespace fgvl::app {
namespace {

struct Arguments {
  std::string checkpoint, image, out;
  std::vector<std::string> texts;
};

constexpr std::array<std::array<std::uint8_t, 3>, 5> kColours = {{{255, 150, 40}, {90, 170, 255}, {120, 220, 120}, {230, 120, 220}, {240, 230, 90}}};

absl::StatusOr<ExitCode> ground(const Arguments& arguments) {
  FGVL_ASSIGN_OR_RETURN(train::LoadedRun run, train::load_run(arguments.checkpoint, registries()));
  const at::Device device = parse_device(run.config.device);
  run.model->to(device);
  run.criterion->to(device);
  absl::StatusOr<data::Image> image = data::read_image(arguments.image);
  if (!image.ok()) return with_exit_code(image.status(), ExitCode::kData);
  FGVL_ASSIGN_OR_RETURN(const std::vector<eval::Grounding> found, eval::ground({*run.model, *run.criterion, device}, *run.texts, run.config.data.image, *image, arguments.texts));
  std::vector<eval::DrawnBox> boxes;
  for (const eval::Grounding& one : found) {
    absl::PrintF("%s\tbox [%.1f, %.1f, %.1f, %.1f]\tregion score %.3f", one.text, one.box[0], one.box[1], one.box[2], one.box[3], one.region_score);
    if (std::isfinite(one.match_score)) absl::PrintF("\tmatch %.3f", one.match_score);
    absl::PrintF("\n");
    if (one.has_unknown_words) absl::FPrintF(stderr, "\"%s\" has words that the model has never seen\n", one.text);
    boxes.push_back({one.box, one.text, kColours[boxes.size() % kColours.size()]});
  }
  const std::string out = arguments.out.empty() ? std::filesystem::path(arguments.image).stem().string() + "_grounded.png" : arguments.out;
  FGVL_RETURN_IF_ERROR(with_exit_code(write_file_atomically(out, data::to_png(eval::draw_boxes(*image, boxes, 480))), ExitCode::kCheckpoint));
  absl::FPrintF(stderr, "annotated picture: %s\n", out);
  return ExitCode::kOk;
}

}  // namespace

void add_ground(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("ground", "Find what texts name in a picture");
  command->add_option("CHECKPOINT", arguments->checkpoint, "Folder of a checkpoint or of a run")->required();
  command->add_option("IMAGE", arguments->image, "JPEG or PNG")->required();
  command->add_option("TEXT", arguments->texts, "One or more texts")->required();
  command->add_option("--out", arguments->out, "Annotated picture (default: <IMAGE>_grounded.png in this folder)");
  command->callback([arguments, &chosen] { chosen = [arguments] { return ground(*arguments); }; });
}

}  // namespace fgvl::app
