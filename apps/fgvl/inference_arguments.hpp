#pragma once
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "fgvl/eval/inference.hpp"

namespace fgvl::app {

/// What ground, score and rank have in common: CHECKPOINT, pictures and texts.
struct InferenceArguments {
  std::string checkpoint{}, device{}, json{}, texts_file{};
  std::string image{};                 ///< IMAGE; the first text where `images` are given
  std::vector<std::string> texts{};    ///< TEXT...
  std::vector<std::string> images{};   ///< --images
  eval::InferenceOptions options{};
};
void add_inference_arguments(CLI::App& command, InferenceArguments& arguments);

/// Pictures and texts, found but not yet read.
struct InferenceInputs {
  std::vector<std::string> images{}, texts{};
};
/// Folders become the pictures in them, --texts its lines. InvalidArgument where no picture or no text was named; exit code 3 for a folder without a picture and a file of texts
/// that cannot be read or is empty.
absl::StatusOr<InferenceInputs> find_inputs(const InferenceArguments& arguments);

absl::StatusOr<eval::Inference> open_inference(const InferenceArguments& arguments);

/// {"format", "command", "checkpoint", "step"}: how every answer begins.
nlohmann::ordered_json answer_head(const char* command, const eval::Inference& inference);
/// The number, or null.
nlohmann::ordered_json or_null(const std::optional<double>& number);
/// How ground, score and rank end: says on standard error which texts have words that the vocabulary lacks and which pictures could not be read, and writes the answer with
/// "unreadable" to --json, "-" being standard output. Exit code 3 when none of `inputs.images` could be read.
absl::StatusOr<ExitCode> finish(const InferenceArguments& arguments, const InferenceInputs& inputs, const eval::EncodedTexts& texts, const std::vector<eval::Unreadable>& unreadable, nlohmann::ordered_json answer);

}  // namespace fgvl::app
