#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "commands.hpp"
#include "inference_arguments.hpp"

namespace fgvl::app {
namespace {

using nlohmann::ordered_json;

struct RankArguments {
  InferenceArguments inference{};
  std::string ranked{};  ///< "texts" or "images"; empty: images where --images was given
  eval::RankOptions options{};
};

absl::StatusOr<ExitCode> rank(const RankArguments& arguments) {
  FGVL_ASSIGN_OR_RETURN(const InferenceInputs inputs, find_inputs(arguments.inference));
  FGVL_ASSIGN_OR_RETURN(const eval::Inference inference, open_inference(arguments.inference));
  const bool of_images = arguments.ranked.empty() ? !arguments.inference.images.empty() : arguments.ranked == "images";
  FGVL_ASSIGN_OR_RETURN(const eval::EncodedTexts texts, inference.encode_texts(inputs.texts));
  const eval::ReadImages read = inference.encode_files(inputs.images);
  const absl::StatusOr<eval::Ranking> ranking = of_images ? inference.rank_images(read.encoded, texts, arguments.options) : inference.rank_texts(read.encoded, texts, arguments.options);
  if (!ranking.ok()) return with_exit_code(annotate(ranking.status(), arguments.inference.checkpoint), ExitCode::kCheckpoint);

  const auto path_of = [&](std::size_t row) -> const std::string& { return inputs.images[read.paths[row]]; };
  const auto query_of = [&](std::size_t query) -> const std::string& { return of_images ? inputs.texts[query] : path_of(query); };
  const auto item_of = [&](const eval::Ranked& place) -> const std::string& { return of_images ? path_of(static_cast<std::size_t>(place.index)) : inputs.texts[static_cast<std::size_t>(place.index)]; };
  const char *query_kind = of_images ? "text" : "path", *item_kind = of_images ? "path" : "text";
  ordered_json answer = answer_head("rank", inference);
  answer["ranked"] = of_images ? "images" : "texts";
  answer["top_k"] = arguments.options.top_k;
  answer["queries"] = ordered_json::array();
  const bool as_text = arguments.inference.json != "-";
  if (as_text) absl::PrintF("%s\trank\t%s%s%s\n", of_images ? "text" : "picture", of_images ? "picture" : "text", inference.has_contrast() ? "\titc" : "", inference.has_matching() ? "\titm" : "");
  for (std::size_t query = 0; query < ranking->size(); ++query) {
    ordered_json one = {{query_kind, query_of(query)}, {"results", ordered_json::array()}};
    std::size_t number = 0;
    for (const eval::Ranked& place : (*ranking)[query]) {
      one["results"].push_back({{"rank", ++number}, {item_kind, item_of(place)}, {"itc", or_null(place.itc)}, {"itm", or_null(place.itm)}});
      if (!as_text) continue;
      absl::PrintF("%s\t%d\t%s", query_of(query), number, item_of(place));
      if (place.itc) absl::PrintF("\t%.4f", *place.itc);
      if (place.itm) absl::PrintF("\t%.4f", *place.itm);
      absl::PrintF("\n");
    }
    answer["queries"].push_back(std::move(one));
  }
  return finish(arguments.inference, inputs, texts, read.unreadable, std::move(answer));
}

}  // namespace

void add_rank(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<RankArguments>();
  CLI::App* command = app.add_subcommand("rank", "Order texts for a picture, or pictures for a text");
  add_inference_arguments(*command, arguments->inference);
  command->add_option("--ranked", arguments->ranked, "texts: for every picture its best texts; images: for every text its best pictures (default: images with --images, else texts)")
      ->check(CLI::IsMember({"texts", "images"}));
  command->add_option("--top-k", arguments->options.top_k, "Kept by ITC (fast), then ordered by ITM (exact); 0: all (default: 16)")->check(at_least(0));
  command->footer(
      "  fgvl rank runs/mine picture.jpg --texts texts.txt          the best texts for a picture\n"
      "  fgvl rank runs/mine --images pictures/ \"a red cup\"         the best pictures for a text\n"
      "Encodings of all pictures stay in memory: about 4 (1 + patches) width bytes each.");
  command->callback([arguments, &chosen] { chosen = [arguments] { return rank(*arguments); }; });
}

}  // namespace fgvl::app
