#include <algorithm>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <torch/torch.h>

#include "commands.hpp"
#include "inference_arguments.hpp"

namespace fgvl::app {
namespace {

using nlohmann::ordered_json;

/// Row and column of one of the scores, or nothing where the run has no such loss.
std::optional<double> value_of(const Tensor& scores, std::size_t row, std::size_t column) {
  if (!scores.defined()) return std::nullopt;
  return scores[static_cast<std::int64_t>(row)][static_cast<std::int64_t>(column)].item<double>();
}

absl::StatusOr<ExitCode> score(const InferenceArguments& arguments) {
  FGVL_ASSIGN_OR_RETURN(const InferenceInputs inputs, find_inputs(arguments));
  FGVL_ASSIGN_OR_RETURN(const eval::Inference inference, open_inference(arguments));
  if (!inference.has_contrast() && !inference.has_matching()) {
    return with_exit_code(absl::InvalidArgumentError(absl::StrCat(arguments.checkpoint, ": this run has neither a contrastive nor a matching loss, so that nothing scores a pair")), ExitCode::kCheckpoint);
  }
  FGVL_ASSIGN_OR_RETURN(const eval::EncodedTexts texts, inference.encode_texts(inputs.texts));
  ordered_json answer = answer_head("score", inference);
  answer["temperature"] = or_null(inference.temperature());
  answer["images"] = ordered_json::array();
  const bool as_text = arguments.json != "-";
  if (as_text) absl::PrintF("picture\ttext%s%s\n", inference.has_contrast() ? "\titc\titc_share" : "", inference.has_matching() ? "\titm" : "");
  std::vector<eval::Unreadable> unreadable;
  // A batch at a time: no picture's encoding is needed once its scores are known.
  const auto batch = static_cast<std::size_t>(inference.options().batch_size);
  for (std::size_t begin = 0; begin < inputs.images.size(); begin += batch) {
    const std::vector<std::string> paths(inputs.images.begin() + static_cast<std::ptrdiff_t>(begin), inputs.images.begin() + static_cast<std::ptrdiff_t>(std::min(inputs.images.size(), begin + batch)));
    const eval::ReadImages read = inference.encode_files(paths);
    unreadable.insert(unreadable.end(), read.unreadable.begin(), read.unreadable.end());
    const eval::Scores scores = inference.score(read.encoded, texts);
    for (std::size_t row = 0; row < read.paths.size(); ++row) {
      ordered_json image = {{"path", paths[read.paths[row]]}, {"texts", ordered_json::array()}};
      for (std::size_t column = 0; column < inputs.texts.size(); ++column) {
        const auto itc = value_of(scores.itc, row, column), share = value_of(scores.itc_share, row, column), itm = value_of(scores.itm, row, column);
        image["texts"].push_back({{"text", inputs.texts[column]}, {"itc", or_null(itc)}, {"itc_share", or_null(share)}, {"itm", or_null(itm)}, {"unknown_words", bool(texts.has_unknown_words[column])}});
        if (!as_text) continue;
        absl::PrintF("%s\t%s", paths[read.paths[row]], inputs.texts[column]);
        if (itc) absl::PrintF("\t%.4f\t%.4f", *itc, *share);
        if (itm) absl::PrintF("\t%.4f", *itm);
        absl::PrintF("\n");
      }
      answer["images"].push_back(std::move(image));
    }
  }
  return finish(arguments, inputs, texts, unreadable, std::move(answer));
}

}  // namespace

void add_score(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<InferenceArguments>();
  CLI::App* command = app.add_subcommand("score", "Say how well texts fit pictures");
  add_inference_arguments(*command, *arguments);
  command->footer(
      "itc: cosine of picture and text, in [-1, 1].\nitc_share: softmax over the given texts of itc / temperature: which of these texts it is; sums to 1.\n"
      "itm: probability that the text is true of the picture, whatever the other texts are.\nA run without such a loss has no such column.\n\n"
      "  fgvl score runs/mine picture.jpg \"a red cup\" \"a blue cup\"\n  fgvl score runs/mine --images pictures/ --texts texts.txt --json scores.json");
  command->callback([arguments, &chosen] { chosen = [arguments] { return score(*arguments); }; });
}

}  // namespace fgvl::app
