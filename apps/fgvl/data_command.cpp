#include <algorithm>
#include <iostream>
#include <optional>

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>
#include <nlohmann/json.hpp>

#include "commands.hpp"

namespace fgvl::app {
namespace {

using nlohmann::ordered_json;

struct DataArguments {
  std::string config{}, scan = "100";
  std::optional<std::string> root{};
  std::int64_t count = 3;
  bool json = false;
  std::vector<std::string> overrides{};
};

/// A stream as a run would read it.
struct Source {
  data::Stream stream;
  data::FoilRulesPtr rules;  ///< null: no foil is made
};

/// What the records of a stream hold, each counted once.
struct Summary {
  std::int64_t records = 0, readable = 0, pictures = 0, regions = 0, texts = 0, texts_without_foil = 0, foils_of_unknown_words = 0;
  std::map<data::FoilKind, std::int64_t> foils{}, texts_with{};  ///< foils of a kind | texts that yield one
  std::map<std::string, std::int64_t> skipped{};                 ///< by cause
};

class Show {
 public:
  Show(const train::RunConfig& config, const DataArguments& arguments, data::TextPipelinePtr texts) : config_(config), arguments_(arguments), texts_(std::move(texts)) {}

  absl::Status run(const std::vector<Source>& sources) {
    answer_["streams"] = ordered_json::array();
    for (const Source& source : sources) {
      ordered_json& stream = answer_["streams"].emplace_back(ordered_json{{"name", source.stream.name}, {"records", source.stream.dataset->size()}, {"samples", ordered_json::array()}});
      if (!arguments_.json) absl::PrintF("stream %s: %d records\n", source.stream.name, source.stream.dataset->size());
      const std::int64_t count = std::min(arguments_.count, source.stream.dataset->size());
      for (std::int64_t i = 0; i < count; ++i) stream["samples"].push_back(sample(source, i));
      FGVL_ASSIGN_OR_RETURN(stream["summary"], summary(source));
    }
    if (arguments_.json) std::cout << answer_.dump(2) << std::endl;
    return absl::OkStatus();
  }

 private:
  /// Tokens of a text; those that are masked in brackets, with what the model sees in their place.
  std::string tokens(const data::SampleText& text) const {
    const auto& vocabulary = texts_->tokenizer().vocabulary();
    std::vector<std::string> shown;
    for (std::size_t i = 0; i < text.ids.size(); ++i) {
      const bool is_masked = std::find(text.masked.positions.begin(), text.masked.positions.end(), static_cast<std::int64_t>(i)) != text.masked.positions.end();
      const std::string& token = vocabulary[static_cast<std::size_t>(text.ids[i])];
      shown.push_back(is_masked ? absl::StrCat("<", token, " as ", vocabulary[static_cast<std::size_t>(text.masked.ids[i])], ">") : token);
    }
    return absl::StrJoin(shown, " ");
  }

  void print_text(const data::SampleText& text) const {
    absl::PrintF("    %s \"%s\"\n", text.is_region ? absl::StrFormat("region [%.3f, %.3f, %.3f, %.3f]", text.box[0], text.box[1], text.box[2], text.box[3]) : std::string("picture"), text.text);
    absl::PrintF("      tokens: %s\n", tokens(text));
    if (!text.foil.empty()) absl::PrintF("      foil (%s): \"%s\"\n", config::name_of(text.foil_kind), text.foil);
  }

  /// Record `index` as the first epoch sees it: in the order of the file, without shuffling.
  ordered_json sample(const Source& source, std::int64_t index) const {
    const data::Stream& stream = source.stream;
    ordered_json shown = {{"place", stream.dataset->place(index)}, {"texts", ordered_json::array()}, {"problems", ordered_json::array()}};
    std::vector<data::Problem> problems;
    const absl::StatusOr<data::Record> record = stream.dataset->get(index);
    data::Sample made;
    if (record.ok()) {
      const std::string purpose = absl::StrCat("sample:", stream.name);
      made = data::make_sample(*record, stream.sample, config_.data.image, *texts_, {.seed = static_cast<std::uint64_t>(config_.seed), .sample = static_cast<std::uint64_t>(index), .purpose = purpose}, source.rules.get());
      problems = made.problems;
      shown["key"] = record->key;
    } else {
      problems.push_back({"unreadable_record", std::string(record.status().message()), true});
    }
    if (!arguments_.json) absl::PrintF("  %s (%s)\n", record.ok() ? record->key : absl::StrCat(index), stream.dataset->place(index));
    for (const data::SampleText& text : made.texts) {
      ordered_json one = {{"text", text.text}, {"is_region", text.is_region}, {"box", text.box}, {"tokens", tokens(text)}};
      if (!text.foil.empty()) one["foil"] = {{"kind", config::name_of(text.foil_kind)}, {"text", text.foil}};
      shown["texts"].push_back(std::move(one));
      if (!arguments_.json) print_text(text);
    }
    for (const data::Problem& problem : problems) {
      shown["problems"].push_back({{"cause", problem.cause}, {"detail", problem.detail}});
      if (!arguments_.json) absl::PrintF("    %s: %s\n", problem.cause, problem.detail);
    }
    return shown;
  }

  void count_record(const Source& source, const data::Record& record, Summary& sums) const {
    ++sums.readable;
    const data::RecordSurvey survey = data::survey(record, source.stream.sample, *texts_, source.rules.get());
    for (const data::Problem& problem : survey.problems) ++sums.skipped[problem.cause];
    if (std::none_of(survey.problems.begin(), survey.problems.end(), [](const data::Problem& problem) { return problem.whole_record; })) ++sums.pictures;
    sums.regions += survey.regions;
    sums.texts += static_cast<std::int64_t>(survey.texts.size());
    for (const data::TextFoils& text : survey.texts) {
      for (const auto& [kind, foils] : text.foils) {
        sums.foils[kind] += static_cast<std::int64_t>(foils.size());
        ++sums.texts_with[kind];
      }
      sums.foils_of_unknown_words += text.foils_of_unknown_words;
      if (text.foils.empty() && source.stream.sample.foils) ++sums.texts_without_foil;
    }
  }

  absl::StatusOr<ordered_json> summary(const Source& source) const {
    Summary sums;
    const std::int64_t size = source.stream.dataset->size();
    std::int64_t most = size;
    if (arguments_.scan != "all") (void)absl::SimpleAtoi(arguments_.scan, &most);
    for (; sums.records < std::min(most, size); ++sums.records) {
      const absl::StatusOr<data::Record> record = source.stream.dataset->get(sums.records);
      if (record.ok()) {
        count_record(source, *record, sums);
      } else {
        ++sums.skipped["unreadable_record"];
      }
    }
    ordered_json foils = ordered_json::object();
    for (const auto& [kind, number] : sums.foils) foils[config::name_of(kind)] = {{"foils", number}, {"texts", sums.texts_with.at(kind)}};
    ordered_json result = {{"records", sums.records}, {"readable_records", sums.readable}, {"readable_pictures", sums.pictures}, {"regions", sums.regions}, {"texts", sums.texts},
                           {"foils", std::move(foils)}, {"texts_without_foil", source.stream.sample.foils ? ordered_json(sums.texts_without_foil) : ordered_json()},
                           {"foils_of_unknown_words", source.stream.sample.foils ? ordered_json(sums.foils_of_unknown_words) : ordered_json()}, {"skipped", sums.skipped}};
    if (!arguments_.json) print(sums, source, size);
    if (sums.records > 0 && sums.pictures == 0) {
      return with_exit_code(absl::DataLossError(absl::StrCat("stream \"", source.stream.name, "\": none of the ", sums.records, " pictures looked at can be read; the first stands at ", source.stream.dataset->place(0))), ExitCode::kData);
    }
    return result;
  }

  static void print(const Summary& sums, const Source& source, std::int64_t size) {
    absl::PrintF("  %d of %d records looked at: %d pictures readable, %d regions, %d texts\n", sums.records, size, sums.pictures, sums.regions, sums.texts);
    if (!source.stream.sample.foils) {
      absl::PrintF("  foils: not asked for (foils: true)\n");
    } else {
      for (const auto& [kind, number] : sums.foils) absl::PrintF("  %-10s %8d foils of %d texts\n", config::name_of(kind), number, sums.texts_with.at(kind));
      absl::PrintF("  %-10s %8d texts\n", "no foil", sums.texts_without_foil);
      if (sums.foils_of_unknown_words > 0) absl::PrintF("  %-10s %8d further foils, of words that the vocabulary lacks\n", "not given", sums.foils_of_unknown_words);
    }
    for (const auto& [cause, number] : sums.skipped) absl::PrintF("  left out: %d %s\n", number, cause);
  }

  const train::RunConfig& config_;
  const DataArguments& arguments_;
  data::TextPipelinePtr texts_;
  ordered_json answer_;
};

absl::StatusOr<ExitCode> show(const DataArguments& arguments) {
  std::vector<std::string> overrides = arguments.overrides;
  if (arguments.root) overrides.push_back("data.root=" + *arguments.root);
  FGVL_ASSIGN_OR_RETURN(const train::RunConfig config, read_config(arguments.config, overrides));
  FGVL_ASSIGN_OR_RETURN(std::vector<data::Stream> streams, data::open_streams(config.data, config.data.split));
  FGVL_ASSIGN_OR_RETURN(const data::TextPipelinePtr texts, data::make_text_pipeline(config.data, streams));
  FGVL_ASSIGN_OR_RETURN(const data::Implications implied, data::implied_texts(config.data.labels, *texts));
  std::vector<Source> sources;
  for (data::Stream& stream : streams) {
    absl::StatusOr<data::FoilRulesPtr> rules = data::open_foil_rules(stream.sample, *stream.dataset, *texts, implied);
    if (!rules.ok()) return annotate(rules.status(), absl::StrCat("data.streams.", stream.name, ".foil_rules.lexicon"));
    sources.push_back({std::move(stream), std::move(*rules)});
  }
  FGVL_RETURN_IF_ERROR(Show(config, arguments, texts).run(sources));
  return ExitCode::kOk;
}

std::string check_scan(const std::string& text) {
  std::int64_t number = 0;
  return text == "all" || (absl::SimpleAtoi(text, &number) && number >= 0) ? "" : "expected a number of records, or all";
}

}  // namespace

void add_data(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<DataArguments>();
  CLI::App* data = app.add_subcommand("data", "Look at the data of a configuration");
  data->require_subcommand(1);
  CLI::App* command = data->add_subcommand("show", "A few samples as the model will see them, and what the records hold: regions, texts, foils of each kind, what is left out and why");
  command->add_option("CONFIG", arguments->config, "YAML file; its data section is read")->required();
  command->add_option("--root", arguments->root, "Folder of the data (data.root)");
  command->add_option("--count", arguments->count, "Samples of each stream to show, from its first record on (default: 3)")->check(at_least(0));
  command->add_option("--scan", arguments->scan, "Records of each stream to count, from the first one on, or `all` (default: 100)")->check(CLI::Validator(check_scan, "NUMBER|all"));
  command->add_flag("--json", arguments->json, "Print one JSON value instead");
  command->add_option("OVERRIDES", arguments->overrides, "key.sub=value, over the file");
  command->footer(
      "A masked token is shown as <word as what the model sees instead>; boxes are (cx, cy, w, h) in units of the image side.\n"
      "Foils: how many of each kind can be delivered, and of how many texts; a visit of the loader draws one a text.\n\n"
      "  fgvl data show configs/bccd.yaml --root bccd\n  fgvl data show mine.yaml --scan all --json");
  command->callback([arguments, &chosen] { chosen = [arguments] { return show(*arguments); }; });
}

}  // namespace fgvl::app
