#include "inference_arguments.hpp"

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_split.h>

#include "commands.hpp"
#include "fgvl/core/files.hpp"
#include "fgvl/data/write_image.hpp"

namespace fgvl::app {
namespace {

namespace fs = std::filesystem;
constexpr int kAnswerFormat = 1;  // of the JSON; docs/inference.md

absl::Status append_pictures(const std::string& path, std::vector<std::string>& pictures) {
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    pictures.push_back(path);  // reading it says what is wrong with it
    return absl::OkStatus();
  }
  std::vector<std::string> found;
  for (fs::directory_iterator entry(path, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->is_regular_file(error) && data::is_image_path(entry->path().string())) found.push_back(entry->path().string());
  }
  if (error) return with_exit_code(absl::UnavailableError(absl::StrCat(path, ": cannot be listed: ", error.message())), ExitCode::kData);
  if (found.empty()) return with_exit_code(absl::NotFoundError(absl::StrCat(path, ": no .jpg, .jpeg or .png in this folder (folders in it are not searched)")), ExitCode::kData);
  std::sort(found.begin(), found.end());
  pictures.insert(pictures.end(), found.begin(), found.end());
  return absl::OkStatus();
}

absl::Status append_lines(const std::string& path, std::vector<std::string>& texts) {
  const absl::StatusOr<std::string> content = read_file(path);
  if (!content.ok()) return with_exit_code(content.status(), ExitCode::kData);
  const std::size_t before = texts.size();
  const std::vector<std::string> lines = absl::StrSplit(*content, '\n');
  for (std::string text : lines) {
    absl::StripAsciiWhitespace(&text);
    if (!text.empty()) texts.push_back(std::move(text));
  }
  if (texts.size() == before) return with_exit_code(absl::InvalidArgumentError(absl::StrCat(path, ": no text in this file; expected one a line")), ExitCode::kData);
  return absl::OkStatus();
}

/// Adds "unreadable", and writes the answer to `path`, "-" being standard output; "" writes nothing.
absl::Status write_answer(nlohmann::ordered_json answer, const std::vector<eval::Unreadable>& unreadable, const std::string& path) {
  if (path.empty()) return absl::OkStatus();
  answer["unreadable"] = nlohmann::ordered_json::array();
  for (const eval::Unreadable& one : unreadable) answer["unreadable"].push_back({{"path", one.path}, {"reason", one.reason}});
  // Names of files may be any bytes; JSON is UTF-8.
  const std::string text = answer.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  if (path != "-") return with_exit_code(write_file_atomically(path, text), ExitCode::kCheckpoint);
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    return with_exit_code(absl::ResourceExhaustedError("standard output: cannot write the answer"), ExitCode::kCheckpoint);
  }
  return absl::OkStatus();
}

/// Says on standard error which texts have words that the vocabulary lacks.
void note_unknown_words(const eval::EncodedTexts& texts) {
  for (std::size_t i = 0; i < texts.texts.size(); ++i) {
    if (texts.has_unknown_words[i]) absl::FPrintF(stderr, "\"%s\" has words that the model has never seen\n", texts.texts[i]);
  }
}

/// Says on standard error which of `count` pictures could not be read. Exit code 3 when none could.
absl::Status report_unreadable(const std::vector<eval::Unreadable>& unreadable, std::size_t count) {
  if (unreadable.empty()) return absl::OkStatus();
  if (count == 1) return with_exit_code(absl::DataLossError(unreadable[0].reason), ExitCode::kData);
  for (const eval::Unreadable& one : unreadable) absl::FPrintF(stderr, "left out: %s\n", one.reason);  // a reason begins with its path
  if (unreadable.size() == count) return with_exit_code(absl::DataLossError(absl::StrCat("none of the ", count, " pictures could be read")), ExitCode::kData);
  absl::FPrintF(stderr, "%d of %d pictures could not be read\n", unreadable.size(), count);
  return absl::OkStatus();
}

}  // namespace

void add_inference_arguments(CLI::App& command, InferenceArguments& arguments) {
  command.add_option("CHECKPOINT", arguments.checkpoint, "Folder of a checkpoint or of a run")->required();
  command.add_option("IMAGE", arguments.image, "JPEG, PNG, or a folder of them; with --images there is none, and texts begin here");
  command.add_option("TEXT", arguments.texts, "One or more texts");
  command.add_option("--images", arguments.images, "JPEG, PNG or folder, once each: --images a.jpg --images folder")->allow_extra_args(false);
  command.add_option("--texts", arguments.texts_file, "File with one text a line, read before every TEXT");
  command.add_option("--json", arguments.json, "Write the answer as JSON to this file; - writes it to standard output instead of text");
  command.add_option("--batch-size", arguments.options.batch_size, "Pictures, texts or pairs computed at once (default: 32)")->check(at_least(1));
  command.add_option("--device", arguments.device, "auto, cpu, cuda or cuda:N (default: the run's)");
  command.add_option("--contrast", arguments.options.contrast, "Contrastive loss of the run that is used (default: its first)");
  command.add_option("--matching", arguments.options.matching, "Matching loss of the run that is used (default: its first)");
}

absl::StatusOr<InferenceInputs> find_inputs(const InferenceArguments& arguments) {
  InferenceInputs inputs;
  std::vector<std::string> images = arguments.images, texts = arguments.texts;
  if (!arguments.image.empty()) {
    if (images.empty()) {
      images.push_back(arguments.image);
    } else {
      texts.insert(texts.begin(), arguments.image);
    }
  }
  if (images.empty()) return absl::InvalidArgumentError("no picture was given: name one as IMAGE, or several with --images");
  if (texts.empty() && arguments.texts_file.empty()) return absl::InvalidArgumentError("no text was given: write one or more behind the picture, or name a file of them with --texts");
  for (const std::string& path : images) FGVL_RETURN_IF_ERROR(append_pictures(path, inputs.images));
  if (!arguments.texts_file.empty()) FGVL_RETURN_IF_ERROR(append_lines(arguments.texts_file, inputs.texts));
  inputs.texts.insert(inputs.texts.end(), texts.begin(), texts.end());
  return inputs;
}

absl::StatusOr<eval::Inference> open_inference(const InferenceArguments& arguments) {
  std::vector<std::string> overrides;
  if (!arguments.device.empty()) overrides.push_back("device=" + arguments.device);
  return eval::Inference::open(arguments.checkpoint, arguments.options, overrides, registries());
}

nlohmann::ordered_json answer_head(const char* command, const eval::Inference& inference) {
  return {{"format", kAnswerFormat}, {"command", command}, {"checkpoint", inference.run()->checkpoint}, {"step", inference.run()->step}};
}

nlohmann::ordered_json or_null(const std::optional<double>& number) { return number ? nlohmann::ordered_json(*number) : nlohmann::ordered_json(); }

absl::StatusOr<ExitCode> finish(const InferenceArguments& arguments, const InferenceInputs& inputs, const eval::EncodedTexts& texts, const std::vector<eval::Unreadable>& unreadable, nlohmann::ordered_json answer) {
  note_unknown_words(texts);
  const absl::Status read = report_unreadable(unreadable, inputs.images.size());
  // Also where no picture could be read: a program that asked for the answer finds every picture's reason in it.
  FGVL_RETURN_IF_ERROR(write_answer(std::move(answer), unreadable, arguments.json));
  FGVL_RETURN_IF_ERROR(read);
  return ExitCode::kOk;
}

}  // namespace fgvl::app
