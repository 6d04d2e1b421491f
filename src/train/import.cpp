#include "fgvl/train/import.hpp"

#include <algorithm>
#include <filesystem>

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <nlohmann/json.hpp>

#include "core/bounded_json.hpp"
#include "fgvl/core/config.hpp"
#include "fgvl/core/device.hpp"
#include "fgvl/models/pretrained.hpp"
#include "train/checkpoint_files.hpp"

namespace fgvl::train {
namespace {

namespace fs = std::filesystem;
using models::Setting;
using models::SettingSource;

absl::Status import_error(const std::string& path, const std::string& what) { return with_exit_code(absl::InvalidArgumentError(absl::StrCat(path, ": ", what)), ExitCode::kCheckpoint); }
absl::Status usage_error(const std::string& what) { return with_exit_code(absl::InvalidArgumentError(what), ExitCode::kUsage); }

/// How a family's official code prepares texts. Pictures: all resize to a square, bicubic, with CLIP's mean and standard deviation, which are our defaults.
struct Preparation {
  const char *family, *tokenizer, *prepare;
  std::int64_t max_words, max_tokens;  ///< where the configuration beside the weights has none
  bool position_tokens, add_sep;
  const char* source;
};
constexpr Preparation kPreparations[] = {{"xvlm", "wordpiece", "xvlm", 40, 40, false, false, "configs/Pretrain_XVLM_base_4m.yaml"},
                                         {"xvlm_finetuned", "wordpiece", "xvlm", 40, 40, false, false, "configs/Retrieval_coco.yaml"},
                                         {"x2vlm", "wordpiece", "x2vlm", 40, 40, false, true, "configs/pretrain/x2vlm_base_4m.yaml"},
                                         {"fgvl", "wordpiece", "xvlm", 30, 40, false, false, "this library's default"},
                                         {"albef", "wordpiece", "albef", 30, 30, false, false, "Retrieval.py of the official code"},
                                         {"albef_finetuned", "wordpiece", "albef", 30, 30, false, false, "Retrieval.py of the official code"},
                                         {"blip", "wordpiece", "blip", 30, 30, false, true, "models/blip_pretrain.py of the official code"},
                                         {"pevl", "wordpiece", "pevl", 200, 200, true, false, "the official pre-training"},
                                         {"clip", "clip_bpe", "none", 77, 77, false, true, "clip/clip.py of the official code"},
                                         {"open_clip", "clip_bpe", "none", 77, 77, false, true, "clip/clip.py of the official code"},
                                         {"clip_transformers", "clip_bpe", "none", 77, 77, false, true, "clip/clip.py of the official code"}};

void flatten(const nlohmann::json& json, const std::string& prefix, models::SavedConfiguration& saved) {
  for (const auto& [key, value] : json.items()) {
    const std::string name = prefix.empty() ? key : absl::StrCat(prefix, ".", key);
    if (value.is_object()) {
      flatten(value, name, saved);
    } else if (!value.is_array() && !value.is_null()) {
      saved[name] = value.is_string() ? value.get<std::string>() : value.dump();
    }
  }
}

models::SavedConfiguration saved_configuration(const CheckpointFile& file) {
  models::SavedConfiguration saved;
  const nlohmann::json json = parse_bounded_json(file.config_json);
  if (json.is_object()) flatten(json, "", saved);
  return saved;
}

/// As YAML, with the digits that read back to equal numbers.
std::string list_text(const std::vector<double>& numbers) { return nlohmann::json(numbers).dump(); }

/// The `data` section: what the model has to be shown.
void add_data(const Preparation& preparation, const models::SavedConfiguration& saved, Recognised& recognised) {
  std::vector<Setting>& settings = recognised.settings;
  if (const Setting* size = recognised.model.find("model.vision.options.image_size"); size != nullptr && size->source != SettingSource::kUnknown) {
    settings.push_back({"data.image.size", size->value, size->source, size->note});
  }
  const data::ImageOptions image;
  settings.push_back({"data.image.interpolation", "bicubic", SettingSource::kPublished, "as the official code"});
  settings.push_back({"data.image.mean", list_text(image.mean), SettingSource::kPublished, "CLIP's, as the official code"});
  settings.push_back({"data.image.std", list_text(image.std), SettingSource::kPublished, "CLIP's, as the official code"});
  settings.push_back({"data.tokenizer.type", preparation.tokenizer, SettingSource::kPublished, "as the official code"});
  if (std::string_view(preparation.tokenizer) == "clip_bpe") settings.push_back({"data.tokenizer.masking.probability", "0", SettingSource::kPublished, "CLIP masks no words"});
  if (preparation.position_tokens) settings.push_back({"data.tokenizer.options.position_tokens", "true", SettingSource::kPublished, "its vocabulary"});
  settings.push_back({"data.tokenizer.prepare", preparation.prepare, SettingSource::kPublished, "as the official code"});
  settings.push_back({"data.tokenizer.add_sep", preparation.add_sep ? "true" : "false", SettingSource::kPublished,
                      preparation.add_sep ? "texts end with an end token in the official code" : "texts end without [SEP] in the official code"});
  const auto add_length = [&](const char* key, std::int64_t published) {
    std::int64_t written = 0;
    const auto found = saved.find(key);
    const bool is_written = found != saved.end() && absl::SimpleAtoi(found->second, &written) && written > 0;
    Setting setting{absl::StrCat("data.tokenizer.", key), absl::StrCat(is_written ? written : published), is_written ? SettingSource::kConfiguration : SettingSource::kPublished, is_written ? "" : preparation.source};
    const std::int64_t rows = recognised.model.max_tokens;
    if (std::string_view(key) == "max_tokens" && rows > 0 && (is_written ? written : published) > rows) setting = {setting.key, absl::StrCat(rows), SettingSource::kTensors, ""};
    settings.push_back(std::move(setting));
  };
  add_length("max_words", preparation.max_words);
  add_length("max_tokens", preparation.max_tokens);
}

/// "key" of "key=value".
std::string key_of(const std::string& assignment) { return assignment.substr(0, assignment.find('=')); }

bool gives(const std::vector<std::string>& overrides, const std::string& key) {
  return std::any_of(overrides.begin(), overrides.end(), [&](const std::string& assignment) { return key_of(assignment) == key; });
}

/// Settings with the caller's in their places; what is still unknown is an error that says what to write.
absl::StatusOr<std::vector<Setting>> completed(const std::string& path, std::vector<Setting> settings, const std::vector<std::string>& overrides) {
  for (const std::string& assignment : overrides) {
    if (!absl::StrContains(assignment, '=')) return usage_error(absl::StrCat("argument '", assignment, "': expected key=value or key.sub=value"));
    const std::string key = key_of(assignment);
    const Setting given{key, assignment.substr(key.size() + 1), SettingSource::kGiven, ""};
    const auto found = std::find_if(settings.begin(), settings.end(), [&](const Setting& setting) { return setting.key == key; });
    if (found == settings.end()) {
      settings.push_back(given);
    } else {
      *found = given;
    }
  }
  std::vector<std::string> missing;
  for (const Setting& setting : settings) {
    if (setting.source == SettingSource::kUnknown) missing.push_back(absl::StrCat("\n  ", setting.key, "=...   ", setting.note));
  }
  if (!missing.empty()) return usage_error(absl::StrCat(path, ": what its tensors do not tell has to be given behind the other arguments:", absl::StrJoin(missing, "")));
  return settings;
}

absl::StatusOr<RunConfig> as_config(const std::vector<Setting>& settings, const std::vector<std::string>& overrides, const RunRegistries& registries) {
  FGVL_ASSIGN_OR_RETURN(config::Document document, config::Document::parse("", "what was deduced"));
  std::vector<std::string> deduced;
  for (const Setting& setting : settings) {
    if (setting.source != SettingSource::kGiven) deduced.push_back(absl::StrCat(setting.key, "=", setting.value));
  }
  FGVL_RETURN_IF_ERROR(document.override_with(deduced));
  FGVL_RETURN_IF_ERROR(document.override_with(overrides));
  return config::read(document, RunConfig(registries));
}

absl::StatusOr<data::TextPipelinePtr> open_texts(const std::string& path, const RunConfig& config, std::int64_t words) {
  if (config.data.tokenizer.vocabulary.empty()) {
    return usage_error(absl::StrCat(path, ": a file of weights has no tokenizer: name the vocabulary of ", words, " words that the model was trained with (--vocabulary vocab.txt)"));
  }
  absl::StatusOr<data::TokenizerPtr> tokenizer = data::open_tokenizer(config.data.tokenizer);
  if (!tokenizer.ok()) {
    const std::string& vocabulary = config.data.tokenizer.vocabulary;
    const bool is_named = absl::StartsWith(tokenizer.status().message(), vocabulary);
    return with_exit_code(is_named ? tokenizer.status() : annotate(tokenizer.status(), vocabulary), ExitCode::kUsage);
  }
  if ((*tokenizer)->size() != words) {
    return usage_error(absl::StrCat(config.data.tokenizer.vocabulary, ": a vocabulary of ", (*tokenizer)->size(), " words, but the model has embeddings of ", words, ": it was trained with another one"));
  }
  return std::make_shared<data::TextPipeline>(std::move(*tokenizer), config.data.tokenizer);
}

/// Model and losses of `config`. Sizes that no model can have are the file's fault, or the overrides'.
absl::StatusOr<std::pair<models::ModelPtr, std::shared_ptr<losses::Criterion>>> make(const std::string& path, const RunConfig& config, const data::TextPipeline& texts) {
  try {
    const models::ModelPtr model = models::make_model(config.model, text_context(texts.tokenizer()), static_cast<std::uint64_t>(config.seed));
    return std::pair(model, losses::make_criterion(config.losses, model->spec(), data::stream_names(config.data)));
  } catch (const c10::Error& error) {
    if (is_out_of_memory(error)) throw;
    return import_error(path, absl::StrCat("no model has these sizes: ", error.what_without_backtrace()));
  }
}

absl::Status check_folder(const fs::path& folder) {
  std::error_code error;
  if (!fs::exists(folder, error) || (fs::is_directory(folder, error) && fs::is_empty(folder, error))) return absl::OkStatus();
  return usage_error(absl::StrCat(folder.string(), ": exists already, and nothing is replaced; name another folder"));
}

}  // namespace

Recognised recognise(const CheckpointFile& file) {
  Recognised recognised;
  recognised.family = models::recognise(models::names_of(file.tensors));
  if (recognised.family == nullptr || recognised.family->rules.empty()) return recognised;
  const models::SavedConfiguration saved = saved_configuration(file);
  models::Translated ours = models::translate(file.tensors, *recognised.family, *models::find_name_map("fgvl"));
  std::erase_if(ours.tensors, [](const auto& tensor) { return models::is_objective_state(tensor.first); });  // what a model is does not depend on it
  recognised.model = models::deduce(ours.tensors, recognised.family->family, saved);
  recognised.settings = recognised.model.settings;
  const auto* preparation = std::find_if(std::begin(kPreparations), std::end(kPreparations), [&](const Preparation& one) { return recognised.family->family == one.family; });
  if (preparation == std::end(kPreparations)) {
    recognised.model.problems.push_back("how its pictures and texts are prepared is not known to this version");
  } else {
    add_data(*preparation, saved, recognised);
  }
  return recognised;
}

absl::StatusOr<Imported> import_checkpoint(const std::string& path, const std::string& folder_name, const ImportOptions& options, const RunRegistries& registries) {
  const fs::path folder = (fs::path(folder_name).lexically_normal() / "").parent_path();
  FGVL_RETURN_IF_ERROR(check_folder(folder));
  FGVL_ASSIGN_OR_RETURN(const CheckpointFile file, open_checkpoint(path));
  const Recognised recognised = recognise(file);
  if (recognised.family == nullptr) return import_error(path, absl::StrCat("its names belong to no known family of models (the first is \"", file.tensors.empty() ? "" : file.tensors.front().first, "\")"));
  if (recognised.family->rules.empty()) return import_error(path, absl::StrCat("these are weights of ", recognised.family->title, ", which this version cannot use yet"));
  if (!recognised.model.problems.empty()) return import_error(path, absl::StrCat("these are weights of ", recognised.family->title, ", but ", absl::StrJoin(recognised.model.problems, "; ")));

  Imported imported;
  FGVL_ASSIGN_OR_RETURN(imported.settings, completed(path, recognised.settings, options.overrides));
  FGVL_ASSIGN_OR_RETURN(RunConfig config, as_config(imported.settings, options.overrides, registries));
  if (!options.vocabulary.empty()) config.data.tokenizer.vocabulary = options.vocabulary;
  if (!options.merges.empty()) config.data.tokenizer.merges = options.merges;
  FGVL_ASSIGN_OR_RETURN(const data::TextPipelinePtr texts, open_texts(path, config, recognised.model.vocab_size));

  FGVL_ASSIGN_OR_RETURN(const auto made, make(path, config, *texts));
  const auto& [model, criterion] = made;
  const models::ModelInfo info = models::describe(*model, config.data.tokenizer.max_tokens);
  if (!gives(options.overrides, "data.image.size")) {
    config.data.image.size = info.image_size;
    for (Setting& setting : imported.settings) {
      if (setting.key == "data.image.size") setting.value = absl::StrCat(info.image_size);
    }
  }
  if (config.data.image.size != info.image_size) return usage_error(absl::StrCat("data.image.size: ", config.data.image.size, ", but the model sees pictures of ", info.image_size, " pixels a side"));
  if (config.data.tokenizer.max_tokens > info.max_tokens) return usage_error(absl::StrCat("data.tokenizer.max_tokens: ", config.data.tokenizer.max_tokens, ", but the model has positions for ", info.max_tokens));
  FGVL_ASSIGN_OR_RETURN(imported.table, initialize_from({path, config.init_allow_missing, config.init_allow_unexpected}, *model, *criterion));
  // They were about the official file; the folder holds exactly what its model has.
  config.init_allow_missing.clear();
  config.init_allow_unexpected.clear();

  CheckpointFiles files;
  std::map<std::string, std::string> metadata = {{"format", "fgvl 1"}};
  if (!file.config_json.empty()) metadata["config"] = file.config_json;
  FGVL_ASSIGN_OR_RETURN(files["model.safetensors"], to_safetensors(checkpoint_weights(*model, *criterion), metadata));
  files["config.yaml"] = config::to_yaml(config);
  files["init_from.txt"] = imported.table;
  for (auto& [name, content] : texts->tokenizer().files()) files[name] = std::move(content);
  FGVL_RETURN_IF_ERROR(write_checkpoint_folder(folder.string(), /*step=*/0, files));
  return imported;
}

}  // namespace fgvl::train
