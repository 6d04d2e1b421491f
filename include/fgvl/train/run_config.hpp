#pragma once
#include <string>
#include <utility>
#include <vector>

#include "fgvl/core/config.hpp"
#include "fgvl/models/region_vlm.hpp"
#include "fgvl/train/probe.hpp"

namespace fgvl::train {

enum class Decay { kConstant, kLinear, kCosine, kStep };
config::EnumNames<Decay> enum_names(Decay);

/// Learning rate over steps, in units of its peak: linear from 0 to 1 in `warmup_steps`, then constant; linear, or half a cosine, to `min_factor` at the last step; or in steps of its own, times `decay_factor`
/// after every `every_steps` (BLIP's `max(min_lr, init_lr * 0.9^epoch)`, salesforce/BLIP 470b41e, utils.py, where these are the steps of an epoch). Those count from step 0, the warm-up being part of the first.
struct ScheduleOptions {
  Decay decay = Decay::kLinear;
  std::int64_t warmup_steps = 0;
  bool warmup_from_zero = false;  ///< the first step has a learning rate of 0 and step `warmup_steps` is the first at the peak, as X-VLM's (scheduler.py)
  std::int64_t decay_steps = 0;  ///< the decay takes only the last steps, with the peak before; 0: everything after the warm-up
  double min_factor = 0.0;       ///< in [0, 1]: kLinear and kCosine end there, kStep goes no lower
  double decay_factor = 0.9;     ///< of kStep, in (0, 1]
  std::int64_t every_steps = 0;  ///< of kStep, which needs it: at least 1
};
void visit_fields(config::Visitor& visitor, ScheduleOptions& options);
/// Factor of the peak learning rate that step `step` (0-based) of `steps` uses. Throws c10::Error for kStep without `every_steps`.
double schedule_factor(const ScheduleOptions& options, std::int64_t step, std::int64_t steps);

/// torch.optim's AdamW | that of transformers 4, which X-VLM, ALBEF and PEVL trained with: eps is added before the bias correction, and decay acts on the updated value.
enum class Update { kTorch, kTransformers };
config::EnumNames<Update> enum_names(Update);

/// Which parameters are decayed: those of two and more dimensions | as X-VLM's optim.py chooses, by official names: all but those with `bias`, or with `weight` of a
/// `LayerNorm`, `norm`, `norm1` or `norm2`; so the temperature and the norms inside heads are decayed, relative position *bias* tables are not.
enum class Decayed { kMatrices, kXvlm };
config::EnumNames<Decayed> enum_names(Decayed);

/// Parameters with a learning rate of their own.
struct ParameterGroup {
  std::vector<std::string> parameters{};  ///< globs of our names ("model.*", "losses.*", as in a checkpoint) or of X-VLM's official ones
  double lr_factor = 1.0;                 ///< in units of lr
};
void visit_fields(config::Visitor& visitor, ParameterGroup& group);

/// AdamW (arXiv 1711.05101).
struct OptimizerOptions {
  double lr = 1e-4;
  double beta1 = 0.9, beta2 = 0.98;
  double eps = 1e-8;
  double weight_decay = 0.01;
  Decayed decayed = Decayed::kMatrices;
  Update update = Update::kTorch;
  std::vector<std::pair<std::string, ParameterGroup>> groups{};  ///< by name; a parameter belongs to the last that fits (X-VLM's init_params with lr_mult)
};
void visit_fields(config::Visitor& visitor, OptimizerOptions& options);

enum class Precision { kFp32, kBf16 };
config::EnumNames<Precision> enum_names(Precision);

struct TrainOptions {
  std::int64_t steps = 1000;
  std::vector<std::string> freeze{};   ///< globs of our names or of X-VLM's official ones: parameters that keep the value they start with, and cost no gradient and no optimizer state
  OptimizerOptions optimizer{};
  ScheduleOptions schedule{};
  double clip_norm = 1.0;              ///< largest norm of all gradients together; 0: no clipping
  Precision precision = Precision::kFp32;
  std::int64_t accumulate = 1;         ///< batches a step
  std::int64_t log_every = 10;
  std::int64_t shares_every = 0;       ///< steps between measurements of each term's share of the gradient, at one more backward pass a term; 0: never
  std::int64_t checkpoint_every = 500;
  std::int64_t keep_checkpoints = 2;   ///< the newest; older ones are removed
  std::int64_t max_non_finite = 10;    ///< steps in a row whose loss or gradient is not finite, before the run stops with exit code 5
};
void visit_fields(config::Visitor& visitor, TrainOptions& options);

/// A part of a run with an objective of its own: first captions, then regions. Terms, parameters and their moments exist in all stages, so that checkpoints of all have one shape.
/// Schedules of a stage count steps from its start.
struct StageConfig {
  std::int64_t steps = 0;  ///< optimizer steps; 0: to the end of the run, which only the last stage may say
  std::vector<std::pair<std::string, std::optional<Schedule>>> losses{};   ///< weights in place of the terms' own, by term; none: switched off
  std::vector<std::pair<std::string, std::optional<Schedule>>> streams{};  ///< weights in place of the streams' own, by stream; none: nothing is read from it
  std::vector<std::string> freeze{};             ///< as TrainOptions::freeze, in this stage only
  Schedule lr_factor = 1.0;                      ///< of the learning rate that the run has here
  std::optional<ScheduleOptions> schedule{};     ///< of this stage's steps alone, in place of the run's
};
/// Whoever reads a whole RunConfig also has the names checked against its terms and streams.
void visit_fields(config::Visitor& visitor, StageConfig& config);

enum class When { kAlways, kDuring, kEnd };  ///< every `probe_every` steps and at the end | not at the end | only at the end
config::EnumNames<When> enum_names(When);

struct ProbeConfig {
  explicit ProbeConfig(std::shared_ptr<const ProbeRegistry> registry) : probe(std::move(registry), "") {}
  Choice<absl::StatusOr<ProbePtr>, ProbeContext> probe;
  When when = When::kAlways;
};
void visit_fields(config::Visitor& visitor, ProbeConfig& config);

/// What a configuration file may name. Add your own entries before reading one.
struct RunRegistries {
  std::shared_ptr<losses::TermRegistry> terms = losses::builtin_terms();
  std::shared_ptr<data::DatasetRegistry> datasets = data::builtin_datasets();
  std::shared_ptr<ProbeRegistry> probes = std::make_shared<ProbeRegistry>();
};

/// A whole run: one configuration file.
struct RunConfig {
  explicit RunConfig(const RunRegistries& registries) : registries(registries), data(registries.datasets) {}

  RunRegistries registries;
  std::int64_t format = 1;
  std::int64_t seed = 0;
  std::string device = "auto";
  std::int64_t threads = 0;  ///< of tensor operations; 0: as many as cores
  models::ModelConfig model{};
  std::string init_from{};  ///< weights to start from: a file or folder of any kind that open_checkpoint reads, or a run; "": none
  std::vector<std::string> init_allow_missing{}, init_allow_unexpected{};  ///< globs of names
  losses::CriterionConfig losses{};
  data::DataConfig data;
  TrainOptions train{};
  std::vector<std::pair<std::string, StageConfig>> stages{};  ///< one after the other; none: the whole run is alike
  std::int64_t probe_every = 0;  ///< steps; 0: only at the end
  std::vector<std::pair<std::string, ProbeConfig>> probes{};
};
void visit_fields(config::Visitor& visitor, RunConfig& config);

/// What a model's text encoder must know of a tokenizer. A padding id that texts also start or end with (GPT-2's <|endoftext|>) trains like any other word.
/// The context looks tokens up in the tokenizer, which must outlive it.
models::TextContext text_context(const data::Tokenizer& tokenizer);

}  // namespace fgvl::train
