#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <set>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "commands.hpp"
#include "fgvl/data/write_image.hpp"
#include "fgvl/eval/drawing.hpp"
#include "inference_arguments.hpp"
#include "run_report.hpp"

namespace fgvl::app {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr std::array<std::array<std::uint8_t, 3>, 5> kColours = {{{255, 150, 40}, {90, 170, 255}, {120, 220, 120}, {230, 120, 220}, {240, 230, 90}}};
constexpr std::int64_t kSmallestSide = 320, kLargestSide = 800;  // of one panel of an annotated picture
constexpr std::int64_t kColumns = 3;

struct GroundArguments {
  InferenceArguments inference{};
  std::string out{}, tokens = "text";
  bool no_picture = false, no_map = false, no_region_itc = false, json_map = false;
  eval::GroundOptions options{};
};

/// Where annotated pictures go.
class Outputs {
 public:
  /// One picture may be a file; several are files of a folder, which is made.
  static absl::StatusOr<Outputs> make(const GroundArguments& arguments, std::size_t images) {
    Outputs outputs;
    if (arguments.no_picture) return outputs;
    outputs.wanted_ = true;
    std::error_code error;
    if (images == 1 && (arguments.out.empty() || !fs::is_directory(arguments.out, error))) {
      if (!arguments.out.empty() && !data::is_image_path(arguments.out)) {
        return absl::InvalidArgumentError(absl::StrCat(arguments.out, ": what to write is chosen by the ending: .png, .jpg or .jpeg (a folder must exist)"));
      }
      outputs.file_ = arguments.out;
      return outputs;
    }
    if (data::is_image_path(arguments.out)) return absl::InvalidArgumentError(absl::StrCat(arguments.out, ": there are ", images, " pictures; --out must name a folder"));
    outputs.folder_ = arguments.out;
    error.clear();
    if (!arguments.out.empty()) fs::create_directories(arguments.out, error);
    if (error) return with_exit_code(absl::UnavailableError(absl::StrCat(arguments.out, ": cannot be made: ", error.message())), ExitCode::kCheckpoint);
    return outputs;
  }

  bool wanted() const { return wanted_; }
  /// "<folder>/<name of the picture>_grounded.png"; pictures of one name in different folders get a number.
  std::string next(const std::string& image) {
    if (!file_.empty()) return file_;
    const std::string stem = (fs::path(folder_) / (fs::path(image).stem().string() + "_grounded")).string();
    std::string name = stem;
    for (int i = 2; !used_.insert(name).second; ++i) name = absl::StrCat(stem, "_", i);
    return name + ".png";
  }

 private:
  bool wanted_ = false;
  std::string file_{}, folder_{};
  std::set<std::string> used_{};
};

/// The picture with all boxes, and behind it one with the box and the map of each text.
data::Image annotated(const data::Image& original, const std::vector<eval::Grounding>& found) {
  const std::int64_t longer = std::max(original.width, original.height);
  const double scale = std::min(1.0, static_cast<double>(kLargestSide) / static_cast<double>(longer));
  const auto scaled = [&](std::int64_t side) { return std::max<std::int64_t>(1, std::llround(static_cast<double>(side) * scale)); };
  const data::Image image = scale < 1 ? data::resize(original, scaled(original.width), scaled(original.height), data::Interpolation::kArea) : original;
  eval::Drawing all{.min_side = kSmallestSide};
  for (const eval::Grounding& one : found) {
    data::PixelBox box = one.box;
    for (double& side : box) side *= scale;
    all.boxes.push_back({box, one.text, kColours[all.boxes.size() % kColours.size()]});
  }
  std::vector<data::Image> panels = {eval::draw(image, all)};
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (found[i].map) panels.push_back(eval::draw(image, {{all.boxes[i]}, found[i].map->patches, kSmallestSide}));
  }
  return eval::tiled(panels, kColumns);
}

void print(const std::string& path, const eval::Grounding& one) {
  if (!path.empty()) absl::PrintF("%s\t", path);
  absl::PrintF("%s\tbox [%.1f, %.1f, %.1f, %.1f]", one.text, one.box[0], one.box[1], one.box[2], one.box[3]);
  if (one.itm) absl::PrintF("\titm %.3f", *one.itm);
  if (one.region_itc) absl::PrintF("\tregion_itc %.3f", *one.region_itc);
  absl::PrintF("\n");
}

ordered_json as_json(const eval::Grounding& one, const data::Image& image, const GroundArguments& arguments) {
  const double width = static_cast<double>(image.width), height = static_cast<double>(image.height);
  ordered_json json = {{"text", one.text},
                       {"box", one.box},
                       {"box_normalised", {one.box[0] / width, one.box[1] / height, one.box[2] / width, one.box[3] / height}},
                       {"itm", or_null(one.itm)},
                       {"region_itc", or_null(one.region_itc)},
                       {"unknown_words", one.has_unknown_words}};
  if (!arguments.json_map || !one.map) return json;
  ordered_json rows = ordered_json::array();
  const Tensor patches = one.map->patches.contiguous();
  for (std::int64_t row = 0; row < patches.size(0); ++row) {
    const float* weights = patches.const_data_ptr<float>() + row * patches.size(1);
    rows.push_back(std::vector<float>(weights, weights + patches.size(1)));
  }
  json["map"] = {{"layer", arguments.options.map_layer}, {"tokens", arguments.tokens}, {"cls", one.map->cls_weight}, {"patches", std::move(rows)}};
  return json;
}

absl::StatusOr<ExitCode> ground(GroundArguments arguments) {
  FGVL_ASSIGN_OR_RETURN(const InferenceInputs inputs, find_inputs(arguments.inference));
  FGVL_ASSIGN_OR_RETURN(Outputs outputs, Outputs::make(arguments, inputs.images.size()));
  FGVL_ASSIGN_OR_RETURN(const eval::Inference inference, open_inference(arguments.inference));
  if (!inference.has_fusion()) {
    return with_exit_code(absl::InvalidArgumentError(absl::StrCat(arguments.inference.checkpoint, ": this model has no fusion encoder (model.fusion.type is none), so that it predicts no boxes; score and rank work with it")),
                          ExitCode::kCheckpoint);
  }
  // Weights that a run started from may have brought a box head, or words for places, along.
  const train::RunConfig& config = inference.run()->config;
  const bool has_boxes = inference.has_box_head() || inference.has_position_tokens(), trained = learns_boxes(config);
  if (!has_boxes || (!trained && config.init_from.empty())) {
    return with_exit_code(absl::InvalidArgumentError(absl::StrCat(arguments.inference.checkpoint, ": this run trained without a loss that predicts boxes; train one with a loss of type box_regression, or position_tokens")),
                          ExitCode::kCheckpoint);
  }
  arguments.options.region_itc = !arguments.no_region_itc;
  arguments.options.map = (outputs.wanted() && !arguments.no_map) || arguments.json_map;
  arguments.options.map_tokens = arguments.tokens == "cls" ? eval::MapTokens::kFirst : eval::MapTokens::kText;
  FGVL_ASSIGN_OR_RETURN(const eval::EncodedTexts texts, inference.encode_texts_to_ground(inputs.texts));
  ordered_json answer = answer_head("ground", inference);
  answer["images"] = ordered_json::array();
  std::vector<eval::Unreadable> unreadable;
  const auto batch = static_cast<std::size_t>(inference.options().batch_size);
  for (std::size_t begin = 0; begin < inputs.images.size(); begin += batch) {
    std::vector<data::Image> images;
    std::vector<std::string> paths;
    for (std::size_t i = begin; i < std::min(inputs.images.size(), begin + batch); ++i) {
      absl::StatusOr<data::Image> image = data::read_image(inputs.images[i]);
      if (!image.ok()) {
        unreadable.push_back({inputs.images[i], std::string(image.status().message())});
        continue;
      }
      images.push_back(std::move(*image));
      paths.push_back(inputs.images[i]);
    }
    const std::vector<std::vector<eval::Grounding>> found = inference.ground(images, texts, arguments.options);
    for (std::size_t i = 0; i < images.size(); ++i) {
      ordered_json image = {{"path", paths[i]}, {"width", images[i].width}, {"height", images[i].height}, {"annotated", nullptr}, {"texts", ordered_json::array()}};
      for (const eval::Grounding& one : found[i]) {
        if (arguments.inference.json != "-") print(inputs.images.size() > 1 ? paths[i] : "", one);
        image["texts"].push_back(as_json(one, images[i], arguments));
      }
      if (outputs.wanted()) {
        const std::string path = outputs.next(paths[i]);
        std::vector<eval::Grounding> shown = found[i];
        if (arguments.no_map) {
          for (eval::Grounding& one : shown) one.map.reset();
        }
        FGVL_RETURN_IF_ERROR(with_exit_code(data::write_image(path, annotated(images[i], shown)), ExitCode::kCheckpoint));
        absl::FPrintF(stderr, "annotated picture: %s\n", path);
        image["annotated"] = path;
      }
      answer["images"].push_back(std::move(image));
    }
  }
  return finish(arguments.inference, inputs, texts, unreadable, std::move(answer));
}

}  // namespace

void add_ground(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<GroundArguments>();
  CLI::App* command = app.add_subcommand("ground", "Find what texts name in pictures");
  add_inference_arguments(*command, arguments->inference);
  command->add_option("--out", arguments->out, "Annotated picture (.png, .jpg), or a folder for several (default: <IMAGE>_grounded.png in this folder)");
  command->add_flag("--no-picture", arguments->no_picture, "Write no annotated picture");
  command->add_flag("--no-map", arguments->no_map, "Draw boxes only, without where the text looks");
  command->add_flag("--no-region-itc", arguments->no_region_itc, "Leave out region_itc, for which every picture is encoded twice");
  command->add_option("--map-layer", arguments->options.map_layer, "Fusion layer of the map, 0 the first, -1 the last (default: -1)");
  command->add_option("--map-tokens", arguments->tokens, "text: mean over the text's tokens; cls: the first alone (default: text)")->check(CLI::IsMember({"text", "cls"}));
  command->add_option("--masked-language", arguments->inference.options.masked_language, "Masked-language loss of the run that reads position tokens, in a model without a box head (default: its first)");
  command->add_flag("--json-map", arguments->json_map, "The map's numbers in the JSON, too");
  command->footer(
      "box: [x1, y1, x2, y2] in pixels. itm: probability that the text is true of the picture. region_itc: cosine of the text and what the box cuts out.\n\n"
      "  fgvl ground runs/mine picture.jpg \"the red cup on the left\" \"a plate\"\n  fgvl ground runs/mine --images pictures/ --texts texts.txt --out grounded/ --json boxes.json");
  command->callback([arguments, &chosen] { chosen = [arguments] { return ground(*arguments); }; });
}

}  // namespace fgvl::app
