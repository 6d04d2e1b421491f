#include "fgvl/train/explain.hpp"

#include <algorithm>
#include <map>
#include <set>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>
#include <torch/torch.h>

#include "core/live_bytes.hpp"
#include "fgvl/train/trainer.hpp"
#include "train/flop_count.hpp"
#include "train/optimizer.hpp"
#include "train/recording_pass.hpp"
#include "train/stages.hpp"

namespace fgvl::train {
namespace {

constexpr std::int64_t kPictures = 4;  // of each stream that are measured

/// What our terms compute, in the words of their papers.
std::string formula_of(const std::string& type) {
  static const std::map<std::string, std::string> kFormulas = {
      {"contrastive", "image-text contrast (ITC): softmax cross-entropy over similarities, both directions"},
      {"sigmoid_contrastive", "image-text contrast of pairs (SigLIP): sigmoid cross-entropy over similarities"},
      {"region_label_contrastive", "regions against distinct labels: softmax cross-entropy with several positives"},
      {"matching", "image-text matching (ITM): binary cross-entropy of fused pairs, true and negative"},
      {"masked_language", "masked language modelling (MLM): cross-entropy over masked tokens"},
      {"language_model", "language modelling (LM): cross-entropy over next tokens"},
      {"box_regression", "box regression: L1, and the overlap that `iou` names"},
      {"foil_matching", "foil ranking: softplus(score of foil - score of true text)"},
      {"position_tokens", "position tokens: cross-entropy over masked positions"},
  };
  const auto found = kFormulas.find(type);
  return found == kFormulas.end() ? "" : found->second;
}

/// What one pass over a few pictures of one stream did.
struct Measured {
  double flops = 0, bytes = 0;            ///< forward and backward; alive in between
  std::vector<StageRun> runs{};
  std::map<std::string, double> items{};  ///< by term: what its mean runs over
};

/// What a criterion keeps between steps (queues), put back when this ends: one measurement must not change the next.
class KeptBuffers {
 public:
  explicit KeptBuffers(torch::nn::Module& module) : buffers_(module.buffers()) {
    for (const Tensor& buffer : buffers_) copies_.push_back(buffer.clone());
  }
  ~KeptBuffers() {
    torch::NoGradGuard guard;
    for (std::size_t i = 0; i < buffers_.size(); ++i) buffers_[i].copy_(copies_[i]);
  }
  KeptBuffers(const KeptBuffers&) = delete;
  KeptBuffers& operator=(const KeptBuffers&) = delete;

 private:
  std::vector<Tensor> buffers_, copies_{};
};

/// What `terms` cost on `batch` at optimizer step `step`.
Measured measure(models::Model& model, losses::Criterion& criterion, const RegionBatch& batch, const RunConfig& config, const std::vector<std::string>& terms, std::int64_t step) {
  Measured measured;
  const KeptBuffers kept(criterion);
  const auto bytes = std::make_shared<LiveBytes>();
  const FlopCount count;
  const auto pass = model.begin(batch, {.seed = static_cast<std::uint64_t>(config.seed), .optimizer_step = step, .bf16 = config.train.precision == Precision::kBf16});
  RecordingPass recorder(*pass);
  Tensor total;
  {
    const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, bytes);
    for (const std::string& term : terms) {
      recorder.begin_term(term);
      const losses::Loss loss = criterion.find(term)->forward(recorder);
      for (const losses::Loss::Part& part : loss.parts()) {
        measured.items[term] = std::max(measured.items[term], part.count);
        total = total.defined() ? total + part.sum : part.sum;
      }
    }
    measured.bytes = static_cast<double>(bytes->live());
  }
  if (total.defined() && total.requires_grad()) total.backward();
  measured.flops = count.flops();
  measured.runs = recorder.runs();
  return measured;
}

std::string flops_text(double flops) {
  const char* units[] = {"", "k", "M", "G", "T", "P"};
  std::size_t unit = 0;
  for (; flops >= 1000 && unit < 5; ++unit) flops /= 1000;
  return absl::StrFormat("%.3g %sFLOP", flops, units[unit]);
}

std::string bytes_text(double bytes) { return bytes >= 1e9 ? absl::StrFormat("%.1f GB", bytes / 1e9) : absl::StrFormat("%.1f MB", bytes / 1e6); }

std::string count_text(double count) { return count < 10 ? absl::StrFormat("%.1f", count) : absl::StrFormat("%.0f", count); }

/// Columns as wide as their widest cell; the first is flush left, and so is the last, which may be long.
std::string table(const std::vector<std::vector<std::string>>& rows, const std::string& indent) {
  std::vector<std::size_t> widths(rows[0].size(), 0);
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line = indent;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string space(widths[i] - row[i].size(), ' ');
      const bool left = i == 0 || i + 1 == row.size();
      absl::StrAppend(&line, i == 0 ? "" : "  ", left ? "" : space, row[i], left ? space : "");
    }
    absl::StrAppend(&text, line.substr(0, line.find_last_not_of(' ') + 1), "\n");
  }
  return text;
}

std::string percent(double part, double whole) { return whole > 0 ? absl::StrFormat("%.0f%%", 100 * part / whole) : ""; }

/// As a person reads it: "rises over 100 steps, then falls on a line to 0".
std::string schedule_words(const ScheduleOptions& options) {
  std::string fall;
  switch (options.decay) {
    case Decay::kConstant: return options.warmup_steps > 0 ? absl::StrCat("rises over ", options.warmup_steps, " steps, then constant") : "constant";
    case Decay::kLinear: fall = "falls on a line"; break;
    case Decay::kCosine: fall = "falls on half a cosine"; break;
    case Decay::kStep: fall = absl::StrCat("times ", options.decay_factor, " every ", options.every_steps, " steps"); break;
  }
  const bool stairs = options.decay == Decay::kStep;
  if (!stairs || options.min_factor > 0) absl::StrAppend(&fall, stairs ? ", not below " : " to ", options.min_factor, options.min_factor > 0 ? " of that" : "");
  if (options.decay_steps > 0) absl::StrAppend(&fall, ", in the last ", options.decay_steps, " steps alone");
  return options.warmup_steps > 0 ? absl::StrCat("rises over ", options.warmup_steps, " steps, then ", fall) : fall;
}

class Explainer {
 public:
  Explainer(const RunConfig& config, Trainer& trainer, const std::vector<data::Stream>& streams, const std::vector<RegionBatch>& batches)
      : config_(config), model_(trainer.model()), criterion_(trainer.criterion()), streams_(streams), batches_(batches), stages_(config), freezer_(model_, criterion_, stages_) {
    criterion_.connect();
    model_.train();
    criterion_.train();
  }

  std::string text(const std::string& title) {
    const TrainOptions& train = config_.train;
    std::string text = absl::StrCat("What ", title, " minimises\n\n", train.steps, " optimizer steps of ", train.accumulate > 1 ? absl::StrCat(train.accumulate, " batches of ") : "",
                                    config_.data.loader.batch_size, " pictures; ", parameters(), "\n", "learning rate up to ", train.optimizer.lr, ": ",
                                    schedule_words(train.schedule), "\n");
    absl::StrAppend(&text, streams());
    if (stages_.spans().empty()) return text + stage(nullptr) + footnote();
    for (const StageSpan& span : stages_.spans()) {
      freezer_.enter(span);
      const std::int64_t steps = span.end - span.begin;
      absl::StrAppend(&text, "\nStage ", span.name, ": steps ", span.begin + 1, " to ", span.end, " (", percent(static_cast<double>(steps), static_cast<double>(train.steps)), " of the run)\n");
      if (!span.config.freeze.empty()) absl::StrAppend(&text, "  frozen here: ", absl::StrJoin(span.config.freeze, ", "), "\n");
      if (span.config.schedule) absl::StrAppend(&text, "  the learning rate has a schedule of its own here: ", schedule_words(*span.config.schedule), "\n");
      if (span.config.lr_factor != Schedule(1.0)) absl::StrAppend(&text, "  learning rate times ", span.config.lr_factor.words(), "\n");
      absl::StrAppend(&text, stage(&span));
    }
    return text + footnote();
  }

 private:
  std::string parameters() const {
    std::int64_t of_model = 0, of_losses = 0, trained = 0;
    for (const Tensor& parameter : model_.parameters()) of_model += parameter.numel(), trained += parameter.requires_grad() ? parameter.numel() : 0;
    for (const Tensor& parameter : criterion_.parameters()) of_losses += parameter.numel(), trained += parameter.requires_grad() ? parameter.numel() : 0;
    const double numbers = static_cast<double>(of_model + of_losses);
    return absl::StrFormat("%.3g M parameters, %.3g M of them in heads of losses; %s for weights, gradients and moments", numbers / 1e6, static_cast<double>(of_losses) / 1e6,
                           bytes_text(4 * numbers + 12 * static_cast<double>(trained)));
  }

  std::string streams() const {
    std::vector<std::vector<std::string>> rows = {{"stream", "records", "weight"}};
    for (const data::Stream& stream : streams_) rows.push_back({stream.name, absl::StrCat(stream.dataset->size()), stream.weight.words()});
    return absl::StrCat("\n", table(rows, "  "), config_.data.streams.size() > 1 ? config_.data.loader.mix == data::Mix::kBatches ? "  every batch comes from one stream, drawn by weight\n" : "  every batch holds rows of all streams by weight\n" : "");
  }

  /// Terms, costs and runs of one stage, or of the whole run.
  std::string stage(const StageSpan* span) {
    const std::int64_t begin = span != nullptr ? span->begin : 0, end = span != nullptr ? span->end : config_.train.steps;
    std::vector<std::string> terms, off;
    std::map<std::string, Schedule> weights;
    for (const auto& [name, loss] : config_.losses) {
      weights[name] = term_weight_in(span, name, loss.weight);
      (is_on(weights[name], begin, end) ? terms : off).push_back(name);
    }
    // Pictures a step of each stream, in the middle of the stage.
    const std::int64_t middle = begin + (end - begin) / 2;
    std::vector<double> pictures;
    double all = 0;
    for (const data::Stream& stream : streams_) all += pictures.emplace_back(stream_weight_in(span, stream.name, stream.weight).at(middle));
    std::string read;
    for (std::size_t i = 0; i < streams_.size() && span != nullptr && !span->config.streams.empty(); ++i) {
      const Schedule weight = stream_weight_in(span, streams_[i].name, streams_[i].weight);
      absl::StrAppend(&read, i == 0 ? "  streams here: " : "; ", streams_[i].name, " ", is_on(weight, begin, end) ? weight.words() : "is not read", i + 1 == streams_.size() ? "\n" : "");
    }
    for (double& number : pictures) number *= static_cast<double>(config_.data.loader.batch_size * config_.train.accumulate) / all;

    Cost whole = cost(terms, pictures, middle);
    std::vector<std::vector<std::string>> rows = {{"term", "counts a step", "alone of FLOP", "alone of memory", "what it is"}};
    double flops_left = whole.flops, bytes_left = whole.bytes;
    for (const std::string& term : terms) {
      std::vector<std::string> others;
      std::copy_if(terms.begin(), terms.end(), std::back_inserter(others), [&](const std::string& other) { return other != term; });
      const Cost without = cost(others, pictures, middle);
      const double flops = whole.flops - without.flops, bytes = whole.bytes - without.bytes;
      flops_left -= flops;
      bytes_left -= bytes;
      const std::string& type = type_of(term);
      const std::string formula = formula_of(type);
      rows.push_back({term, absl::StrCat(count_text(whole.items[term]), " (", whole.sources[term], ")"), percent(flops, whole.flops), percent(bytes, whole.bytes),
                      absl::StrCat(type, formula.empty() ? "" : ": ", formula)});
    }
    if (terms.size() > 1) rows.push_back({"shared", "", percent(flops_left, whole.flops), percent(bytes_left, whole.bytes), "what more than one term needs"});

    std::string text = absl::StrCat(read, "\n  total = ");
    std::string where;
    for (const std::string& term : terms) {
      const bool fixed = weights[term].constant().has_value();
      const bool plain = fixed && *weights[term].constant() == 1.0;
      absl::StrAppend(&text, term == terms[0] ? "" : " + ", fixed ? (plain ? "" : weights[term].words() + " ") : "w(" + term + ") ", term);
      if (!fixed) absl::StrAppend(&where, "  w(", term, "): ", weights[term].words(), "\n");
    }
    absl::StrAppend(&text, "\n", where, off.empty() ? "" : absl::StrCat("  switched off here: ", absl::StrJoin(off, ", "), "\n"), "\n", table(rows, "  "), "\n  a step runs, forward and backward: ",
                    flops_text(whole.flops), "; activations of a batch: ", bytes_text(whole.bytes / static_cast<double>(config_.train.accumulate)), "\n");
    std::vector<std::vector<std::string>> runs = {{"part of the model", "rows a step", "asked for by"}};
    for (const StageRun& run : whole.runs) {
      const auto rows_of = whole.rows.at(run.stage);
      if (rows_of > 0) runs.push_back({run.stage, count_text(rows_of), absl::StrJoin(run.terms, ", ")});
    }
    return absl::StrCat(text, "\n", table(runs, "  "));
  }

  struct Cost {
    double flops = 0, bytes = 0;                  ///< a step; all of its batches
    std::map<std::string, double> items{}, rows{};  ///< a step, by term | by part of the model
    std::map<std::string, std::string> sources{};   ///< by term: what it counts per picture of each stream
    std::vector<StageRun> runs{};                   ///< rows are not of a step; see `rows`
  };

  /// Of `terms`, where a step has `pictures` of each stream.
  Cost cost(const std::vector<std::string>& terms, const std::vector<double>& pictures, std::int64_t step) {
    Cost cost;
    for (std::size_t i = 0; i < streams_.size(); ++i) {
      if (pictures[i] == 0) continue;
      const Measured measured = measure(model_, criterion_, batches_[i], config_, terms, step);
      const double scale = pictures[i] / static_cast<double>(batches_[i].image_count());
      cost.flops += scale * measured.flops;
      cost.bytes += scale * measured.bytes;
      for (const auto& [term, items] : measured.items) {
        cost.items[term] += scale * items;
        const double each = items / static_cast<double>(batches_[i].image_count());
        if (each > 0) absl::StrAppend(&cost.sources[term], cost.sources[term].empty() ? "" : ", ", streams_[i].name, " ", count_text(each));
      }
      for (const StageRun& run : measured.runs) {
        cost.rows[run.stage] += scale * static_cast<double>(run.rows);
        auto known = std::find_if(cost.runs.begin(), cost.runs.end(), [&](const StageRun& other) { return other.stage == run.stage; });
        if (known == cost.runs.end()) {
          cost.runs.push_back(run);
          continue;
        }
        for (const std::string& term : run.terms) {
          if (std::find(known->terms.begin(), known->terms.end(), term) == known->terms.end()) known->terms.push_back(term);
        }
      }
    }
    for (const std::string& term : terms) {
      if (cost.sources[term].empty()) cost.sources[term] = "nothing";
    }
    return cost;
  }

  const std::string& type_of(const std::string& term) const {
    return std::find_if(config_.losses.begin(), config_.losses.end(), [&](const auto& loss) { return loss.first == term; })->second.term.type();
  }

  std::string footnote() const {
    return absl::StrCat("\n  Measured on ", batches_[0].image_count(), " pictures of each stream and scaled to the batch, in the middle of each stage. FLOP are those of matrix products, convolutions and attention, backward\n"
                        "  passes included; a multiplication with its addition counts 2. What grows with the square of a batch (similarities of all pairs) is left out of the scaling. Memory is what lives between\n"
                        "  forward and backward pass. \"Alone\" is what a step saves without the term;\n"
                        "  \"counts\" is what a term's mean runs over (rows, pairs, boxes or tokens), in brackets per picture of each stream.\n");
  }

  const RunConfig& config_;
  models::Model& model_;
  losses::Criterion& criterion_;
  const std::vector<data::Stream>& streams_;
  const std::vector<RegionBatch>& batches_;
  Stages stages_;
  StageFreezer freezer_;
};

}  // namespace

absl::StatusOr<std::string> explain(const RunConfig& given, const std::string& title) {
  RunConfig config = given;
  config.device = "cpu";
  config.init_from.clear();  // costs do not depend on the weights
  config.probes.clear();
  FGVL_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer, Trainer::make(config, {}));
  FGVL_ASSIGN_OR_RETURN(const std::vector<data::Stream> streams, data::open_streams(config.data, config.data.split));
  FGVL_ASSIGN_OR_RETURN(const data::LabelsPtr labels, data::make_labels(config.data.labels, *trainer->texts(), streams));
  std::vector<RegionBatch> batches;
  for (data::Stream stream : streams) {
    stream.weight = 1.0;
    data::LoaderOptions options = config.data.loader;
    options.batch_size = std::min(options.batch_size, kPictures);
    options.workers = 0;
    options.seed = static_cast<std::uint64_t>(config.seed);
    FGVL_ASSIGN_OR_RETURN(const std::unique_ptr<data::Loader> loader, data::Loader::make({stream}, config.data.image, trainer->texts(), options, labels));
    FGVL_ASSIGN_OR_RETURN(RegionBatch batch, loader->next());
    // A term that is limited to streams looks for the stream's place in the run.
    batch.text_stream.fill_(static_cast<std::int64_t>(batches.size()));
    batches.push_back(std::move(batch));
  }
  return Explainer(config, *trainer, streams, batches).text(title);
}

}  // namespace fgvl::train
