#include "fgvl/train/trainer.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>

#include <ATen/Parallel.h>
#include <absl/strings/str_cat.h>
#include <nlohmann/json.hpp>
#include <torch/torch.h>

#include "fgvl/core/device.hpp"
#include "fgvl/core/files.hpp"
#include "fgvl/data/tokenizers.hpp"
#include "fgvl/losses/queue_owner.hpp"
#include "fgvl/models/pretrained.hpp"
#include "fgvl/train/checkpoint.hpp"
#include "train/checkpoint_files.hpp"
#include "train/inference_scope.hpp"
#include "train/optimizer.hpp"
#include "train/run_log.hpp"
#include "train/stages.hpp"

namespace fgvl::train {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

}  // namespace

struct Trainer::Impl {
  Impl(const RunConfig& run_config, const TrainerOptions& trainer_options) : config(run_config), options(trainer_options) {}

  RunConfig config;
  TrainerOptions options;
  at::Device device = at::kCPU;
  data::TextPipelinePtr texts;
  std::unique_ptr<data::Loader> loader;
  models::ModelPtr model;
  std::shared_ptr<losses::Criterion> criterion;
  std::unique_ptr<AdamW> optimizer;
  std::vector<std::pair<std::string, std::pair<ProbePtr, When>>> probes;  ///< by name
  std::unique_ptr<RunLog> log;
  Stages stages;
  StageFreezer freezer;
  const StageSpan* stage = nullptr;  ///< that stands now; null before the first, and without stages
  std::int64_t step = 0, saved_step = -1, non_finite = 0, non_finite_total = 0;
  double train_seconds = 0;
  bool probed = false;  ///< the probes at the end have run
  std::int64_t images_trained = 0;
  Metrics last_metrics;
  std::string init_table;  ///< what became of the weights of init_from; empty when there were none
  std::string frozen_note;  ///< how many parameters train; empty where all do
  Progress silent;

  Progress& progress() { return options.progress != nullptr ? *options.progress : silent; }

  absl::Status build() {
    const auto seed = static_cast<std::uint64_t>(config.seed);
    if (config.losses.empty()) return absl::InvalidArgumentError("losses: at least one term is needed");
    if (!config.model.options.box_head) {
      const bool in_tokens = std::any_of(config.losses.begin(), config.losses.end(), [](const auto& loss) { return loss.second.term.type() == "position_tokens"; });
      for (const auto& [name, loss] : config.losses) {
        if (loss.term.type() == "box_regression") return absl::InvalidArgumentError(absl::StrCat("losses.", name, " needs predicted boxes, and model.box_head is false"));
      }
      for (const auto& [name, probe] : config.probes) {
        if (probe.probe.type() == "boxes" && !in_tokens) {
          return absl::InvalidArgumentError(absl::StrCat("probes.", name, " needs predicted boxes, and model.box_head is false; a loss of type position_tokens would predict them, too"));
        }
      }
    }
    if (config.data.split == data::Split::kHeldOut) return absl::InvalidArgumentError("data.split: held_out is for evaluation; train on train or all");
    FGVL_ASSIGN_OR_RETURN(std::vector<data::Stream> streams, data::open_streams(config.data, config.data.split));
    FGVL_ASSIGN_OR_RETURN(texts, data::make_text_pipeline(config.data, streams));
    config.data.loader.seed = seed;
    config.data.loader.batches_per_step = config.train.accumulate;
    config.data.loader.steps = config.train.steps;
    if (const std::string wrong = run_problem(config); !wrong.empty()) return absl::InvalidArgumentError(wrong);
    stages = Stages(config);
    for (const StageSpan& span : stages.spans()) {
      if (const auto problems = stage_problems(config, span); !problems.empty()) return absl::InvalidArgumentError(absl::StrCat("stages.", span.name, ".", problems[0]));
    }
    for (data::Stream& stream : streams) stream.weight = stages.stream_weight(stream.name, stream.weight);
    FGVL_ASSIGN_OR_RETURN(const data::LabelsPtr labels, data::make_labels(config.data.labels, *texts, streams));
    FGVL_ASSIGN_OR_RETURN(loader, data::Loader::make(std::move(streams), config.data.image, texts, config.data.loader, labels));
    try {
      device = parse_device(config.device);
      if (config.threads > 0) at::set_num_threads(static_cast<int>(config.threads));
      model = models::make_model(config.model, text_context(texts->tokenizer()), seed);
      criterion = losses::make_criterion(staged_losses(config), model->spec(), data::stream_names(config.data));
      const models::ModelInfo info = models::describe(*model, 1);
      if (info.image_size != config.data.image.size) {
        return absl::InvalidArgumentError(absl::StrCat("data.image.size is ", config.data.image.size, ", model.vision.options.image_size is ", info.image_size, ": they must be equal"));
      }
      if (config.data.tokenizer.max_tokens > info.max_tokens) {
        return absl::InvalidArgumentError(absl::StrCat("data.tokenizer.max_tokens is ", config.data.tokenizer.max_tokens, ", more than model.text.options.max_tokens = ", info.max_tokens,
                                                       ": the first longer text would not fit. Lower the one or raise the other"));
      }
      for (const std::string& name : criterion->names()) {
        const auto* owner = dynamic_cast<const losses::QueueOwner*>(criterion->find(name).get());
        if (owner == nullptr || owner->queue_rows() == 0 || owner->queue_rows() >= config.data.loader.batch_size) continue;
        return absl::InvalidArgumentError(absl::StrCat("losses.", name, ".options.queue.size is ", owner->queue_rows(), ", less than data.batch_size = ", config.data.loader.batch_size,
                                                       ": a batch would push out part of itself. Make the queue larger"));
      }
      model->to(device);
      criterion->to(device);
      if (const std::vector<std::string>& globs = config.train.freeze; !globs.empty()) {
        const Frozen frozen = freeze(*model, *criterion, globs);
        frozen_note = absl::StrCat("training ", frozen.trained, " of ", frozen.total, " parameters");
      }
      optimizer = std::make_unique<AdamW>(named_parameters(*model, *criterion), config.train.optimizer);
      freezer = StageFreezer(*model, *criterion, stages);
    } catch (const c10::Error& error) {
      if (is_out_of_memory(error)) throw;
      return absl::InvalidArgumentError(error.what_without_backtrace());
    }
    if (config.data.split == data::Split::kAll && !config.probes.empty()) progress().on_message("data.split is all: the probes score pictures that this run trains on; use data.split=train to hold some out");
    const ProbeContext context{std::make_shared<data::DataConfig>(config.data), data::Split::kHeldOut, texts};
    for (const auto& [name, probe] : config.probes) {
      absl::StatusOr<ProbePtr> made = probe.probe.make(context);
      if (!made.ok()) return annotate(made.status(), "probes." + name);
      probes.push_back({name, {std::move(*made), probe.when}});
    }
    return absl::OkStatus();
  }

  absl::Status prepare_folder() {
    std::error_code error;
    const bool used = fs::exists(options.out, error) && !fs::is_empty(options.out, error);
    if (used && !options.resume) {
      return absl::InvalidArgumentError(absl::StrCat(options.out, ": this folder already holds something; go on with --resume latest, choose another with --out, or remove it"));
    }
    if (!used) FGVL_RETURN_IF_ERROR(start_from_weights());
    fs::create_directories(options.out + "/checkpoints", error);
    if (error) return with_exit_code(absl::PermissionDeniedError(absl::StrCat(options.out, ": cannot create: ", error.message())), ExitCode::kCheckpoint);
    if (used) FGVL_RETURN_IF_ERROR(resume());
    if (used && saved_step < 0) FGVL_RETURN_IF_ERROR(start_from_weights());
    if (!init_table.empty()) FGVL_RETURN_IF_ERROR(with_exit_code(write_file_atomically(options.out + "/init_from.txt", init_table), ExitCode::kCheckpoint));
    FGVL_RETURN_IF_ERROR(with_exit_code(write_file_atomically(options.out + "/config.yaml", config::to_yaml(config)), ExitCode::kCheckpoint));
    FGVL_ASSIGN_OR_RETURN(RunLog opened, RunLog::open(options.out, step, config.train.steps));
    log = std::make_unique<RunLog>(std::move(opened));
    return absl::OkStatus();
  }

  /// Only where nothing is resumed: a checkpoint of the run itself holds what became of these weights.
  absl::Status start_from_weights() {
    if (config.init_from.empty()) return absl::OkStatus();
    absl::StatusOr<std::string> table = initialize_from({config.init_from, config.init_allow_missing, config.init_allow_unexpected}, *model, *criterion);
    if (!table.ok()) return annotate(table.status(), "init_from");
    init_table = std::move(*table);
    progress().on_message("started from " + init_table.substr(0, init_table.find('\n')));
    return absl::OkStatus();
  }

  absl::Status resume() {
    std::vector<std::string> notes;
    absl::StatusOr<std::string> folder = find_checkpoint(options.out, &notes);
    for (const std::string& note : notes) progress().on_message(note);
    if (!folder.ok()) {
      if (!absl::IsNotFound(folder.status())) return folder.status();
      progress().on_message("nothing to resume in " + options.out + ": starting from step 0");
      return absl::OkStatus();
    }
    FGVL_RETURN_IF_ERROR(check_vocabulary(*folder));
    FGVL_RETURN_IF_ERROR(load_weights(*folder, *model, *criterion));
    FGVL_ASSIGN_OR_RETURN(const NamedTensors moments, read_safetensors(*folder + "/optimizer.safetensors"));
    FGVL_RETURN_IF_ERROR(optimizer->load(moments));
    FGVL_ASSIGN_OR_RETURN(const std::string text, read_file(*folder + "/state.json"));
    data::LoaderState position;
    try {
      const auto state = nlohmann::json::parse(text);
      step = saved_step = state.at("step").get<std::int64_t>();
      non_finite = state.at("non_finite_in_a_row").get<std::int64_t>();
      non_finite_total = state.at("non_finite").get<std::int64_t>();
      position = state.at("loader").get<data::LoaderState>();
    } catch (const nlohmann::json::exception& error) {
      return with_exit_code(absl::DataLossError(absl::StrCat(*folder, "/state.json: not a trainer's state: ", error.what())), ExitCode::kCheckpoint);
    }
    if (step > config.train.steps) {
      return absl::InvalidArgumentError(absl::StrCat("train.steps is ", config.train.steps, ", but ", *folder, " stands at step ", step, ": nothing is left to train. Raise train.steps, or start in another folder"));
    }
    FGVL_RETURN_IF_ERROR(loader->restore(position));
    FGVL_RETURN_IF_ERROR(remove_checkpoints_after(options.out + "/checkpoints", step));
    progress().on_message(absl::StrCat("resumed from ", *folder));
    return absl::OkStatus();
  }

  /// Word i of the checkpoint must be word i now: a row of the word embedding means nothing else. Data that changed gives other words.
  absl::Status check_vocabulary(const std::string& folder) const {
    const absl::StatusOr<data::TokenizerPtr> saved = data::reopen_tokenizer(config.data.tokenizer.kind, folder);
    if (!saved.ok()) return with_exit_code(saved.status(), ExitCode::kCheckpoint);
    const std::string path = absl::StrCat(folder, "/", (*saved)->files().begin()->first);
    const std::vector<std::string>&before = (*saved)->vocabulary(), &now = texts->tokenizer().vocabulary();
    if (before == now) return absl::OkStatus();
    const auto differ = std::mismatch(before.begin(), before.end(), now.begin(), now.end());
    const auto word = [](auto place, const auto& words) { return place == words.end() ? std::string("nothing") : absl::StrCat("\"", *place, "\""); };
    return with_exit_code(absl::FailedPreconditionError(absl::StrCat(path, ": the vocabulary has changed since this checkpoint was written (", before.size(), " words then, ", now.size(), " now; word ",
                                                                     differ.first - before.begin(), " was ", word(differ.first, before), " and is ", word(differ.second, now),
                                                                     "), so that its word embeddings would stand for other words. Resume on the data it was trained on, or set data.tokenizer.vocabulary "
                                                                     "to a copy of that file")),
                          ExitCode::kCheckpoint);
  }

  absl::Status save() {
    if (saved_step == step) return absl::OkStatus();
    const nlohmann::ordered_json state = {{"step", step}, {"non_finite_in_a_row", non_finite}, {"non_finite", non_finite_total}, {"loader", loader->state()}};
    CheckpointFiles files;
    FGVL_ASSIGN_OR_RETURN(files["model.safetensors"], to_safetensors(checkpoint_weights(*model, *criterion), {{"format", "fgvl 1"}}));
    FGVL_ASSIGN_OR_RETURN(files["optimizer.safetensors"], to_safetensors(optimizer->state()));
    files["state.json"] = state.dump(2) + "\n";
    files["config.yaml"] = config::to_yaml(config);
    for (auto& [name, content] : texts->tokenizer().files()) files[name] = std::move(content);
    FGVL_RETURN_IF_ERROR(write_checkpoint(options.out + "/checkpoints", step, files, config.train.keep_checkpoints));
    saved_step = step;
    return absl::OkStatus();
  }

  absl::Status run_probes(bool last) {
    Metrics metrics;
    for (const auto& [name, entry] : probes) {
      const auto& [probe, when] = entry;
      if (when == (last ? When::kDuring : When::kEnd)) continue;
      // At the end everything is saved already, so that a stop need not wait for the other probes; a resumed run repeats them all.
      if (last && stopped()) return absl::OkStatus();
      const InferenceScope scope(*model, *criterion);
      absl::StatusOr<Metrics> result = probe->run({*model, *criterion, device});
      if (!result.ok()) return annotate(result.status(), "probes." + name);
      metrics.insert(metrics.end(), result->begin(), result->end());
    }
    probed = last;
    if (metrics.empty()) return absl::OkStatus();
    last_metrics = metrics;
    progress().on_probe(step, metrics);
    return log->probe(step, metrics);
  }

  /// One optimizer step over `accumulate` batches.
  absl::Status train_step() {
    const Clock::time_point start = Clock::now();
    double data_seconds = 0;
    StepLog entry;
    std::map<std::string, std::pair<double, double>> sums;  // name -> sum, count
    std::vector<std::string> order;
    losses::LossReport report;
    std::vector<GradientShare> shares;
    bool finite = true;
    std::int64_t images = 0;
    optimizer->zero_grad();
    model->update_momentum();
    criterion->update_momentum();
    const bool logged = (step + 1) % config.train.log_every == 0 || step + 1 == config.train.steps;
    for (std::int64_t micro = 0; micro < config.train.accumulate; ++micro) {
      const Clock::time_point waiting = Clock::now();
      absl::StatusOr<RegionBatch> batch = loader->next();
      data_seconds += seconds_since(waiting);
      FGVL_RETURN_IF_ERROR(log->skipped(step + 1, loader->take_skipped()));
      if (!batch.ok()) return batch.status();
      images += batch->image_count();
      const auto pass = model->begin(batch->to(device), {.seed = static_cast<std::uint64_t>(config.seed), .step = static_cast<std::uint64_t>(step * config.train.accumulate + micro),
                                                         .optimizer_step = step, .bf16 = config.train.precision == Precision::kBf16});
      report = criterion->forward(*pass);
      const double total = report.total.item<double>();
      finite = finite && std::isfinite(total);
      entry.total += total / static_cast<double>(config.train.accumulate);
      for (const auto& value : logged ? report.values : std::vector<losses::LossReport::Value>{}) {
        if (sums.count(value.name) == 0) order.push_back(value.name);
        sums[value.name].first += value.mean.item<double>() * value.count;
        sums[value.name].second += value.count;
      }
      // Of the last batch of the step.
      const bool measured = config.train.shares_every > 0 && (step + 1) % config.train.shares_every == 0 && micro + 1 == config.train.accumulate;
      if (finite && measured) shares = gradient_shares(report, model->parameters());
      if (finite && report.total.requires_grad()) (report.total / static_cast<double>(config.train.accumulate)).backward();
    }
    entry.gradient_norm = optimizer->clip(config.train.clip_norm);
    entry.lr = stages.learning_rate(step, config.train);
    if (finite && std::isfinite(entry.gradient_norm)) {
      optimizer->step(entry.lr);
      non_finite = 0;
    } else {
      ++non_finite;
      ++non_finite_total;
      progress().on_message(absl::StrCat("step ", step + 1, ": the loss or its gradient is not finite; the step is left out (", non_finite, " in a row)"));
      if (non_finite >= config.train.max_non_finite) {
        return with_exit_code(absl::AbortedError(absl::StrCat("stopped at step ", step + 1, ": ", non_finite, " steps in a row gave a loss or gradient that is not finite; the last checkpoint is from before. Lower train.optimizer.lr, or train with precision fp32")),
                              ExitCode::kNumerical);
      }
    }
    ++step;
    images_trained += images;
    entry.seconds = seconds_since(start);
    train_seconds += entry.seconds;
    if (logged) {
      entry.step = step;
      entry.epoch = loader->epoch();
      entry.data_seconds = data_seconds;
      entry.images_per_second = static_cast<double>(images) / entry.seconds;
      for (const std::string& name : order) entry.losses.emplace_back(name, sums[name].first / sums[name].second);
      FGVL_RETURN_IF_ERROR(log->step(entry));
    }
    if (!shares.empty()) FGVL_RETURN_IF_ERROR(log->shares(step, shares));
    progress().on_step({step, config.train.steps, static_cast<double>(images) / entry.seconds, logged ? &report : nullptr});
    return absl::OkStatus();
  }

  /// Where a stage begins, or a resumed run goes on in the middle of one.
  absl::Status enter_stage() {
    const StageSpan* now = stages.at(step);
    if (now == stage) return absl::OkStatus();
    stage = now;
    freezer.enter(*stage);
    train_unfrozen(*model);
    train_unfrozen(*criterion);
    progress().on_message(absl::StrCat("stage ", stage->name, ": steps ", stage->begin + 1, " to ", stage->end));
    return step == stage->begin ? log->stage(step, stage->name) : absl::OkStatus();
  }

  bool stopped() const { return options.stop != nullptr && options.stop->load(); }

  absl::Status train() {
    train_unfrozen(*model);
    train_unfrozen(*criterion);
    if (!frozen_note.empty()) progress().on_message(frozen_note);
    while (step < config.train.steps && !stopped()) {
      FGVL_RETURN_IF_ERROR(enter_stage());
      FGVL_RETURN_IF_ERROR(train_step());
      const bool last = step == config.train.steps;
      if (!last && config.probe_every > 0 && step % config.probe_every == 0) FGVL_RETURN_IF_ERROR(run_probes(false));
      if (last || step % config.train.checkpoint_every == 0) FGVL_RETURN_IF_ERROR(save());
    }
    if (step == config.train.steps) return run_probes(true);
    return save();
  }
};

Trainer::Trainer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Trainer::~Trainer() = default;

absl::StatusOr<std::unique_ptr<Trainer>> Trainer::make(const RunConfig& config, const TrainerOptions& options) {
  auto impl = std::make_unique<Impl>(config, options);
  FGVL_RETURN_IF_ERROR(impl->build());
  if (options.out.empty()) {
    FGVL_RETURN_IF_ERROR(impl->start_from_weights());
  } else {
    FGVL_RETURN_IF_ERROR(impl->prepare_folder());
  }
  return std::unique_ptr<Trainer>(new Trainer(std::move(impl)));
}

absl::StatusOr<TrainResult> Trainer::run() {
  if (impl_->options.out.empty()) return absl::FailedPreconditionError("Trainer::run: this trainer was made without an output folder");
  FGVL_RETURN_IF_ERROR(impl_->train());
  TrainResult result;
  result.interrupted = !impl_->probed;
  result.step = impl_->step;
  result.seconds = impl_->train_seconds;
  result.images_per_second = impl_->train_seconds > 0 ? static_cast<double>(impl_->images_trained) / impl_->train_seconds : 0;
  result.metrics = impl_->last_metrics;
  result.counts = impl_->loader->counts();
  return result;
}

models::Model& Trainer::model() { return *impl_->model; }
losses::Criterion& Trainer::criterion() { return *impl_->criterion; }
data::TextPipelinePtr Trainer::texts() const { return impl_->texts; }

}  // namespace fgvl::train
