#include "fgvl/train/run_config.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numbers>

#include <c10/util/Exception.h>

#include "train/stages.hpp"

namespace fgvl::train {

config::EnumNames<Decay> enum_names(Decay) { return {{Decay::kConstant, "constant"}, {Decay::kLinear, "linear"}, {Decay::kCosine, "cosine"}, {Decay::kStep, "step"}}; }
config::EnumNames<Update> enum_names(Update) { return {{Update::kTorch, "torch"}, {Update::kTransformers, "transformers"}}; }
config::EnumNames<Decayed> enum_names(Decayed) { return {{Decayed::kMatrices, "matrices"}, {Decayed::kXvlm, "xvlm"}}; }
config::EnumNames<Precision> enum_names(Precision) { return {{Precision::kFp32, "fp32"}, {Precision::kBf16, "bf16"}}; }

config::EnumNames<When> enum_names(When) { return {{When::kAlways, "always"}, {When::kDuring, "during"}, {When::kEnd, "end"}}; }

double schedule_factor(const ScheduleOptions& options, std::int64_t step, std::int64_t steps) {
  const double warmup = static_cast<double>(options.warmup_steps), now = static_cast<double>(step), last = static_cast<double>(steps);
  if (now < warmup) return (options.warmup_from_zero ? now : now + 1) / warmup;
  const double start = options.decay_steps > 0 ? std::max(warmup, last - static_cast<double>(options.decay_steps)) : warmup;
  const double done = std::clamp((now - start) / std::max(1.0, last - start), 0.0, 1.0);
  const auto above_min = [&](double left) { return options.min_factor + (1.0 - options.min_factor) * left; };
  switch (options.decay) {
    case Decay::kConstant: return 1.0;
    case Decay::kLinear: return above_min(1.0 - done);
    case Decay::kCosine: return above_min(0.5 * (1.0 + std::cos(std::numbers::pi * done)));
    case Decay::kStep: {
      TORCH_CHECK(options.every_steps > 0, "[schedule_factor] every_steps: expected at least 1 with decay step, got ", options.every_steps);
      const double since = options.decay_steps > 0 ? std::max(0.0, now - start) : now;
      return std::max(options.min_factor, std::pow(options.decay_factor, std::floor(since / static_cast<double>(options.every_steps))));
    }
  }
  return 1.0;
}

void visit_fields(config::Visitor& visitor, ScheduleOptions& options) {
  visitor("decay", options.decay, "after the warm-up; step: times decay_factor after every every_steps, as BLIP");
  visitor("warmup_steps", options.warmup_steps, "from 0 to the peak", config::kNonNegative);
  visitor("warmup_from_zero", options.warmup_from_zero, "the first step has a learning rate of 0, as X-VLM's");
  visitor("decay_steps", options.decay_steps, "the decay takes only the last steps; 0: everything after the warm-up", config::kNonNegative);
  visitor("min_factor", options.min_factor, "in units of the peak: a linear or cosine decay ends there, a step decay goes no lower", config::kFraction);
  visitor("decay_factor", options.decay_factor, "of a step decay", {1e-6, 1.0});
  visitor("every_steps", options.every_steps, "of a step decay: those of an epoch, as a rule, counted from step 0, the warm-up included", config::kNonNegative);
  visitor.check(options.decay != Decay::kStep || options.every_steps > 0, "every_steps: required with decay: step; give the steps after which the learning rate falls, at least 1");
}

void visit_fields(config::Visitor& visitor, ParameterGroup& group) {
  visitor("parameters", group.parameters, "names, with * and ?, as in a checkpoint (model.*, losses.*) or as X-VLM's");
  visitor("lr_factor", group.lr_factor, "their learning rate, in units of lr", config::kNonNegative);
}

void visit_fields(config::Visitor& visitor, OptimizerOptions& options) {
  visitor("lr", options.lr, "peak learning rate", config::kPositive);
  visitor("beta1", options.beta1, "of the first moment", {0.0, 0.99999});
  visitor("beta2", options.beta2, "of the second moment", {0.0, 0.999999});
  visitor("eps", options.eps, "added to the root of the second moment", config::kPositive);
  visitor("weight_decay", options.weight_decay, "decoupled, in units of the learning rate", config::kNonNegative);
  visitor("decayed", options.decayed, "weights of two and more dimensions, or by name as X-VLM");
  visitor("update", options.update, "AdamW of torch.optim, or of transformers 4 as X-VLM");
  visitor.entries("groups", options.groups, ParameterGroup{}, "parameters with a learning rate of their own, by name; a parameter belongs to the last that fits");
}

void visit_fields(config::Visitor& visitor, TrainOptions& options) {
  visitor("steps", options.steps, "optimizer steps", {1, 1e12});
  visitor("freeze", options.freeze, "names, with * and ?, of parameters that do not train, as in a checkpoint (model.*, losses.*) or as X-VLM's (vision_encoder.*)");
  visitor("optimizer", options.optimizer, "AdamW");
  visitor("schedule", options.schedule, "of the learning rate");
  visitor("clip_norm", options.clip_norm, "largest norm of all gradients together; 0: no clipping", config::kNonNegative);
  visitor("precision", options.precision, "of the encoders; losses and norms stay fp32");
  visitor("accumulate", options.accumulate, "batches a step", {1, 1e6});
  visitor("log_every", options.log_every, "steps", {1, 1e9});
  visitor("shares_every", options.shares_every, "steps between measurements of each term's share of the gradient (one backward pass a term more); 0: never", {0, 1e9});
  visitor("checkpoint_every", options.checkpoint_every, "steps; one is always written at the end", {1, 1e12});
  visitor("keep_checkpoints", options.keep_checkpoints, "the newest", {1, 1e6});
  visitor("max_non_finite", options.max_non_finite, "bad steps in a row before the run stops", {1, 1e9});
}

void visit_fields(config::Visitor& visitor, StageConfig& config) {
  visitor("steps", config.steps, "optimizer steps; 0, in the last stage only: to the end of the run", {0, 1e12});
  visitor.entries("losses", config.losses, "weight by term, in place of its own; null switches it off", config::kNonNegative);
  visitor.entries("streams", config.streams, "weight by stream, in place of its own; null: nothing is read from it", config::kNonNegative);
  visitor("freeze", config.freeze, "as train.freeze, in this stage only; values and moments are kept");
  visitor("lr_factor", config.lr_factor, "of the learning rate", config::kNonNegative);
  visitor("schedule", config.schedule, "of the learning rate over this stage alone; null: the run's goes on");
}

namespace {

/// A stage while its run is visited: what is wrong with it is said where it stands in the file.
struct VisitedStage {
  StageConfig config;
  const RunConfig* run;
  std::shared_ptr<std::int64_t> next_begin;  ///< where the stage that is visited next begins
};

void visit_fields(config::Visitor& visitor, VisitedStage& stage) {
  visit_fields(visitor, stage.config);
  const StageSpan span = span_of({"", stage.config}, *stage.next_begin, stage.run->train.steps);
  for (const std::string& problem : stage_problems(*stage.run, span)) visitor.check(false, problem);
  *stage.next_begin = span.end;
}

}  // namespace

void visit_fields(config::Visitor& visitor, ProbeConfig& config) {
  visit_fields(visitor, config.probe);
  visitor("when", config.when, "every probe_every steps and at the end, only before, or only at the end");
}

void visit_fields(config::Visitor& visitor, RunConfig& config) {
  visitor("format", config.format, "version of this file", {1, 1});
  visitor("seed", config.seed, "of everything random", config::kNonNegative);
  visitor("device", config.device, "auto, cpu, cuda or cuda:N");
  visitor("threads", config.threads, "of tensor operations; 0: as many as cores", {0, 4096});
  visitor("model", config.model, "what is trained");
  visitor("init_from", config.init_from, "weights to start from: an official checkpoint, a safetensors file, a folder or a run; every tensor must fit");
  visitor("init_allow_missing", config.init_allow_missing, "names, with * and ?, that the weights need not have");
  visitor("init_allow_unexpected", config.init_allow_unexpected, "names, with * and ?, of weights that are left out");
  visitor.entries("losses", config.losses, losses::TermConfig{Choice<losses::LossTermPtr, FeatureSpec>(config.registries.terms, ""), 1.0, {}}, "terms of the criterion by name; null removes one");
  visitor("data", config.data, "what it is trained on");
  visitor("train", config.train, "how it is trained");
  const VisitedStage prototype{{}, &config, std::make_shared<std::int64_t>(0)};
  std::vector<std::pair<std::string, VisitedStage>> stages;
  for (const auto& [name, stage] : config.stages) stages.emplace_back(name, VisitedStage{stage, prototype.run, prototype.next_begin});
  visitor.list("stages", stages, prototype, "parts of the run with an objective of their own, one after the other");
  config.stages.clear();
  for (const auto& [name, stage] : stages) config.stages.emplace_back(name, stage.config);
  const std::string wrong = run_problem(config);
  visitor.check(wrong.empty(), wrong);
  visitor("probe_every", config.probe_every, "steps between probes; 0: only at the end", config::kNonNegative);
  visitor.entries("probes", config.probes, ProbeConfig(config.registries.probes), "what is scored, by name; null removes one");
}

models::TextContext text_context(const data::Tokenizer& tokenizer) {
  const std::int64_t pad_id = tokenizer.pad_id();
  const auto token_id = [&words = tokenizer.vocabulary()](const std::string& token) -> std::int64_t {
    const auto found = std::find(words.begin(), words.end(), token);
    return found == words.end() ? -1 : found - words.begin();
  };
  return {.vocab_size = tokenizer.size(), .pad_id = pad_id == tokenizer.cls_id() || pad_id == tokenizer.sep_id() ? -1 : pad_id, .token_id = token_id};
}

}  // namespace fgvl::train
