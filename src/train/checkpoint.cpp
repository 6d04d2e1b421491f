#include "fgvl/train/checkpoint.hpp"

#include <algorithm>
#include <filesystem>

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "fgvl/core/checkpoint_file.hpp"
#include "fgvl/core/files.hpp"
#include "fgvl/models/pretrained.hpp"
#include "train/checkpoint_files.hpp"

namespace fgvl::train {
namespace {

namespace fs = std::filesystem;
constexpr int kFormat = 1;
constexpr char kManifest[] = "manifest.json";

absl::Status checkpoint_error(const std::string& path, const std::string& what) {
  return with_exit_code(absl::DataLossError(absl::StrCat(path, ": ", what)), ExitCode::kCheckpoint);
}

absl::Status as_checkpoint_error(const absl::Status& status) { return status.ok() ? status : with_exit_code(status, ExitCode::kCheckpoint); }

/// Checkpoints by step, the newest first.
std::vector<std::pair<std::int64_t, std::string>> checkpoints_in(const fs::path& folder) {
  std::vector<std::pair<std::int64_t, std::string>> all;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (const std::int64_t step = checkpoint_step(entry->path().string()); step >= 0) all.emplace_back(step, entry->path().string());
  }
  std::sort(all.rbegin(), all.rend());
  return all;
}

struct Manifest {
  struct File {
    std::string name, hash;
    std::size_t size = 0;
  };
  std::int64_t step = 0;
  std::vector<File> files;
};

absl::StatusOr<Manifest> read_manifest(const std::string& folder) {
  const std::string path = (fs::path(folder) / kManifest).string();
  const absl::StatusOr<std::string> text = read_file(path);
  if (!text.ok()) return as_checkpoint_error(text.status());
  Manifest manifest;
  try {
    const auto json = nlohmann::json::parse(*text);
    if (const int format = json.at("format"); format != kFormat) return checkpoint_error(path, absl::StrCat("format ", format, ", this build reads ", kFormat));
    manifest.step = json.at("step");
    for (const auto& [name, entry] : json.at("files").items()) {
      manifest.files.push_back({fs::path(name).filename().string(), entry.at("xxh64"), entry.at("size")});
    }
  } catch (const nlohmann::json::exception& error) {
    return checkpoint_error(path, absl::StrCat("not a checkpoint's manifest: ", error.what()));
  }
  return manifest;
}

absl::Status write_beside(const fs::path& beside, std::int64_t step, const CheckpointFiles& files) {
  std::error_code error;
  fs::remove_all(beside, error);
  fs::create_directories(beside, error);
  if (error) return checkpoint_error(beside.string(), absl::StrCat("cannot create: ", error.message()));
  nlohmann::ordered_json manifest = {{"format", kFormat}, {"step", step}, {"files", nlohmann::ordered_json::object()}};
  for (const auto& [name, content] : files) {
    FGVL_RETURN_IF_ERROR(as_checkpoint_error(write_file_atomically((beside / name).string(), content)));
    manifest["files"][name] = {{"size", content.size()}, {"xxh64", hash_bytes(content)}};
  }
  return as_checkpoint_error(write_file_atomically((beside / kManifest).string(), manifest.dump(2) + "\n"));
}

/// Writes to `beside`, which is this library's own, and renames.
absl::Status put_in_place(const fs::path& folder, const fs::path& beside, std::int64_t step, const CheckpointFiles& files, bool replace) {
  const fs::path parent_path = folder.has_parent_path() ? folder.parent_path() : fs::path(".");
  std::error_code error;
  const absl::Status written = write_beside(beside, step, files);
  if (!written.ok()) {
    fs::remove_all(beside, error);
    return written;
  }
  if (replace) fs::remove_all(folder, error);
  fs::rename(beside, folder, error);
  if (error) {
    const std::string reason = error.message();
    fs::remove_all(beside, error);
    return checkpoint_error(folder.string(), absl::StrCat("cannot rename into place: ", reason));
  }
  if (const int parent = ::open(parent_path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); parent >= 0) {
    ::fsync(parent);
    ::close(parent);
  }
  return absl::OkStatus();
}

}  // namespace

std::int64_t checkpoint_step(const std::string& folder) {
  std::int64_t step = -1;
  const std::string name = (fs::path(folder) / "").parent_path().filename().string();  // with or without a slash at the end
  return name.rfind("step_", 0) == 0 && absl::SimpleAtoi(name.substr(5), &step) ? step : -1;
}

absl::Status write_checkpoint_folder(const std::string& folder, std::int64_t step, const CheckpointFiles& files) {
  const fs::path path(folder);
  return put_in_place(path, path.parent_path() / ("." + path.filename().string() + ".fgvl_partial"), step, files, /*replace=*/false);
}

absl::Status write_checkpoint(const std::string& checkpoints_folder, std::int64_t step, const CheckpointFiles& files, std::int64_t keep) {
  const fs::path folder = fs::path(checkpoints_folder) / absl::StrCat("step_", step);
  FGVL_RETURN_IF_ERROR(put_in_place(folder, folder.string() + ".tmp", step, files, /*replace=*/true));
  std::error_code error;
  // What was just written is one of those kept, whatever else lies there.
  auto others = checkpoints_in(checkpoints_folder);
  std::erase_if(others, [&](const auto& other) { return other.first == step; });
  for (std::size_t i = static_cast<std::size_t>(keep) - 1; i < others.size(); ++i) fs::remove_all(others[i].second, error);
  return absl::OkStatus();
}

absl::Status remove_checkpoints_after(const std::string& checkpoints_folder, std::int64_t step) {
  std::error_code error;
  std::vector<fs::path> removed;
  for (const auto& [found, path] : checkpoints_in(checkpoints_folder)) {
    if (found > step) removed.push_back(path);
  }
  for (fs::directory_iterator entry(checkpoints_folder, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->path().extension() == ".tmp") removed.push_back(entry->path());
  }
  for (const fs::path& path : removed) {
    fs::remove_all(path, error);
    if (error) return checkpoint_error(path.string(), absl::StrCat("cannot be removed: ", error.message()));
  }
  return absl::OkStatus();
}

absl::Status verify_checkpoint(const std::string& folder) {
  FGVL_ASSIGN_OR_RETURN(const Manifest manifest, read_manifest(folder));
  for (const Manifest::File& entry : manifest.files) {
    const std::string file = (fs::path(folder) / entry.name).string();
    const absl::StatusOr<std::string> content = read_file(file);
    if (!content.ok()) return as_checkpoint_error(content.status());
    if (entry.size != content->size() || entry.hash != hash_bytes(*content)) return checkpoint_error(file, "damaged: its size or hash differs from manifest.json");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> find_checkpoint(const std::string& path, std::vector<std::string>* notes) {
  std::error_code error;
  if (!fs::is_directory(path, error)) return with_exit_code(absl::NotFoundError(absl::StrCat(path, ": no such folder; expected a run or a checkpoint")), ExitCode::kCheckpoint);
  if (fs::exists(fs::path(path) / kManifest, error)) {
    FGVL_RETURN_IF_ERROR(verify_checkpoint(path));
    return path;
  }
  const auto all = checkpoints_in(fs::path(path) / "checkpoints");
  for (const auto& [step, folder] : all) {
    const absl::Status valid = verify_checkpoint(folder);
    if (valid.ok()) return folder;
    if (notes != nullptr) notes->push_back(absl::StrCat("passed over a damaged checkpoint: ", valid.message()));
  }
  if (all.empty()) return with_exit_code(absl::NotFoundError(absl::StrCat(path, ": no checkpoint in it")), ExitCode::kCheckpoint);
  return checkpoint_error(path, absl::StrCat("no valid checkpoint in it: all of its ", all.size(), " are damaged. Restore one from a copy, or start anew in another folder"));
}

NamedTensors run_weights(const models::Model& model, const losses::Criterion& criterion) {
  NamedTensors weights = models::named_state(model, "model.");
  for (auto& entry : models::named_state(criterion, "losses.")) weights.push_back(std::move(entry));
  return weights;
}

NamedTensors checkpoint_weights(const models::Model& model, const losses::Criterion& criterion) {
  NamedTensors weights = run_weights(model, criterion);
  const std::vector<std::string> names = models::checkpoint_names(models::names_of(weights));
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i].first = names[i];
  return weights;
}

absl::Status load_weights(const std::string& checkpoint, models::Model& model, losses::Criterion& criterion) {
  FGVL_ASSIGN_OR_RETURN(const CheckpointFile file, open_checkpoint((fs::path(checkpoint) / "model.safetensors").string()));
  const NamedTensors targets = run_weights(model, criterion);
  const models::LoadReport report = models::load_named(targets, file.tensors, {.names = models::find_name_map("xvlm"), .text_layers = models::text_layers_of(models::names_of(file.tensors)), .done = [&](const Tensor& tensor) { file.release(tensor); }});
  if (report.ok()) return absl::OkStatus();
  return with_exit_code(absl::InvalidArgumentError(absl::StrCat(checkpoint, ": the checkpoint belongs to another model or other losses:", report.problems())), ExitCode::kCheckpoint);
}

absl::StatusOr<std::string> initialize_from(const InitFrom& from, models::Model& model, losses::Criterion& criterion) {
  std::string path = from.path;
  std::error_code error;
  if (fs::exists(fs::path(path) / kManifest, error) || fs::exists(fs::path(path) / "checkpoints", error)) {
    FGVL_ASSIGN_OR_RETURN(path, find_checkpoint(path));
  }
  FGVL_ASSIGN_OR_RETURN(const CheckpointFile file, open_checkpoint(path));
  const std::vector<std::string> names = models::names_of(file.tensors);
  const models::NameMap* map = models::recognise(names);
  if (map == nullptr || map->rules.empty()) {
    const std::string what = map == nullptr ? "its names belong to no known family" : absl::StrCat("these are weights of ", map->title, ", whose names this version cannot translate");
    return with_exit_code(absl::InvalidArgumentError(absl::StrCat(path, ": cannot start from it: ", what, "; docs/checkpoints.md lists the families that are read (the first name is \"", names.empty() ? "" : names.front(), "\")")), ExitCode::kCheckpoint);
  }
  const NamedTensors targets = run_weights(model, criterion);
  const auto reshape = [&](const std::string& name, const Tensor& stored, at::IntArrayRef wanted) {
    // A table that does not train (sine and cosine) is right as the model made it.
    for (const auto& buffer : model.named_buffers()) {
      if ("model." + buffer.key() == name && name.ends_with(".pos_embed")) return buffer.value().clone();
    }
    return models::fit_position_table(name, stored, wanted);
  };
  const models::LoadReport report = models::load_named(targets, file.tensors,
                                                       {.names = map, .text_layers = models::text_layers_of(*map, names, models::names_of(targets)), .new_objective = true, .allow_missing = from.allow_missing, .allow_unexpected = from.allow_unexpected,
                                                        .reshape = reshape,
                                                        .done = [&](const Tensor& tensor) { file.release(tensor); }});
  if (!report.ok()) {
    return with_exit_code(absl::InvalidArgumentError(absl::StrCat(path, ": its weights do not fit the model of this configuration (name what may differ in init_allow_missing and init_allow_unexpected):", report.problems())),
                          ExitCode::kCheckpoint);
  }
  return absl::StrCat(path, ": ", format_name(file.format), ", names of ", map->title, "\n\n", report.table());
}

absl::StatusOr<LoadedRun> load_run(const std::string& path, const RunRegistries& registries, const std::vector<std::string>& overrides, std::vector<std::string>* notes) {
  FGVL_ASSIGN_OR_RETURN(const std::string folder, find_checkpoint(path, notes));
  absl::StatusOr<config::Document> document = config::Document::load((fs::path(folder) / "config.yaml").string());
  if (!document.ok()) return as_checkpoint_error(document.status());
  FGVL_RETURN_IF_ERROR(document->override_with(overrides));
  FGVL_ASSIGN_OR_RETURN(RunConfig config, config::read(*document, RunConfig(registries)));
  absl::StatusOr<data::TokenizerPtr> tokenizer = data::reopen_tokenizer(config.data.tokenizer.kind, folder);
  if (!tokenizer.ok()) return as_checkpoint_error(tokenizer.status());
  auto texts = std::make_shared<data::TextPipeline>(std::move(*tokenizer), config.data.tokenizer);
  FGVL_ASSIGN_OR_RETURN(const Manifest manifest, read_manifest(folder));
  const auto seed = static_cast<std::uint64_t>(config.seed);
  models::ModelPtr model = models::make_model(config.model, text_context(texts->tokenizer()), seed);
  auto criterion = losses::make_criterion(config.losses, model->spec(), data::stream_names(config.data));
  FGVL_RETURN_IF_ERROR(load_weights(folder, *model, *criterion));
  model->eval();
  criterion->eval();
  return LoadedRun{folder, manifest.step, std::move(config), std::move(texts), std::move(model), std::move(criterion)};
}

}  // namespace fgvl::train
