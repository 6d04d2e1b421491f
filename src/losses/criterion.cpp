#include "fgvl/losses/criterion.hpp"

#include <algorithm>

#include <torch/torch.h>

#include "fgvl/losses/box_regression.hpp"
#include "fgvl/losses/contrastive.hpp"
#include "fgvl/losses/foil_matching.hpp"
#include "fgvl/losses/language_model.hpp"
#include "fgvl/losses/masked_language.hpp"
#include "fgvl/losses/matching.hpp"
#include "fgvl/losses/position_tokens.hpp"
#include "fgvl/losses/region_label_contrastive.hpp"
#include "fgvl/losses/sigmoid_contrastive.hpp"

namespace fgvl::losses {

Tensor LossTerm::rows_where(const RegionBatch& batch, const Tensor& condition) const {
  Tensor usable = condition;
  if (!streams_.empty()) {
    TORCH_CHECK(batch.text_stream.defined(), "[LossTerm] a term is limited to streams, but batch.text_stream is undefined");
    const Tensor of_streams = at::isin(batch.text_stream, torch::tensor(streams_, torch::kLong).to(batch.text_stream.device()));
    usable = usable.defined() ? usable.logical_and(of_streams) : of_streams;
  }
  if (usable.defined()) return usable.nonzero().squeeze(1);
  return at::arange(batch.text_count(), batch.text_to_image.options());
}

std::optional<double> LossReport::mean(std::string_view name) const {
  for (const Value& value : values) {
    if (value.name == name) return value.mean.item<double>();
  }
  return std::nullopt;
}

Criterion::Criterion(FeatureSpec spec) : spec_(spec) {}

Criterion& Criterion::add(std::string name, LossTermPtr term, const Schedule& weight, std::vector<std::int64_t> streams) {
  TORCH_CHECK(!name.empty() && name.find('.') == std::string::npos, "[Criterion::add] name: expected a word without dots, got '", name, "'");
  TORCH_CHECK(find(name) == nullptr, "[Criterion::add] name: there already is a term '", name, "'");
  TORCH_CHECK(term != nullptr, "[Criterion::add] term: null, for '", name, "'");
  term->limit_to_streams(std::move(streams));
  register_module(name, term);
  entries_.push_back({std::move(name), std::move(term), weight});
  connected_ = false;
  return *this;
}

void Criterion::connect() {
  if (connected_) return;
  for (const Entry& entry : entries_) entry.term->connect(*this);
  temperatures_.clear();
  for (const auto& module : modules(/*include_self=*/false)) {
    if (auto temperature = std::dynamic_pointer_cast<Temperature>(module)) temperatures_.push_back(std::move(temperature));
  }
  connected_ = true;
}

LossReport Criterion::forward(ForwardPass& pass) {
  connect();
  for (const auto& temperature : temperatures_) temperature->move_to(pass.step());
  struct Part {
    const Entry* entry;
    std::string name;
    double weight;
    Tensor sum;
    double count;
  };
  std::vector<Part> parts;
  for (const Entry& entry : entries_) {
    const double weight = entry.weight.at(pass.step());
    if (weight == 0) continue;
    const Loss loss = entry.term->forward(pass);
    for (const Loss::Part& part : loss.parts()) {
      const std::string name = part.name.empty() ? entry.name : entry.name + "." + part.name;
      parts.push_back({&entry, name, weight * part.weight, part.sum, part.count});
    }
  }
  LossReport report;
  if (parts.empty()) {
    if (!entries_.empty()) report.total = at::zeros({}, pass.batch().text_ids.options().dtype(at::kFloat));  // every term rests at this step
    return report;
  }

  // One exchange: counts decide the means, sums are for the log.
  Collective& collective = pass.collective();
  std::vector<double> counts;
  std::vector<Tensor> sums;
  for (const Part& part : parts) {
    counts.push_back(part.count);
    sums.push_back(part.sum.detach().to(at::kDouble));
  }
  Tensor global_sums = at::stack(sums), global_counts = torch::tensor(counts, torch::kFloat64);
  if (collective.size() > 1) {
    const Tensor both = collective.all_reduce_sum(at::stack({global_sums, global_counts.to(global_sums.device())}));
    global_sums = both[0];
    global_counts = both[1].to(at::kCPU);
  }
  const double ranks = static_cast<double>(collective.size());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const double count = global_counts.const_data_ptr<double>()[i];
    // A rank without items still adds its exact zero, so that the parameters of the term take part in the backward pass of every rank.
    const Tensor share = parts[i].sum * (count > 0 ? parts[i].weight * ranks / count : 0.0);
    report.total = report.total.defined() ? report.total + share : share;
    if (report.shares.empty() || report.shares.back().first != parts[i].entry->name) {
      report.shares.emplace_back(parts[i].entry->name, share);
    } else {
      report.shares.back().second = report.shares.back().second + share;
    }
    if (count > 0) report.values.push_back({parts[i].name, global_sums[static_cast<std::int64_t>(i)] / count, count, parts[i].weight});
  }
  return report;
}

void Criterion::update_momentum() {
  for (const Entry& entry : entries_) entry.term->update_momentum();
}

LossTermPtr Criterion::find(std::string_view name) const {
  for (const Entry& entry : entries_) {
    if (entry.name == name) return entry.term;
  }
  return nullptr;
}

std::vector<std::string> Criterion::names() const {
  std::vector<std::string> names;
  for (const Entry& entry : entries_) names.push_back(entry.name);
  return names;
}

std::shared_ptr<TermRegistry> builtin_terms() {
  auto registry = std::make_shared<TermRegistry>();
  const auto add = [&]<class O>(const char* name, const O& defaults) {
    registry->add(name, [](const O& options, const FeatureSpec& spec) { return make_term(options, spec); }, defaults);
  };
  add("contrastive", ContrastiveOptions{});
  add("sigmoid_contrastive", SigmoidContrastiveOptions{});
  add("region_label_contrastive", RegionLabelContrastiveOptions{});
  add("matching", MatchingOptions{});
  add("masked_language", MaskedLanguageOptions{});
  add("position_tokens", PositionTokensOptions{});
  add("language_model", LanguageModelOptions{});
  add("box_regression", BoxRegressionOptions{});
  add("foil_matching", FoilMatchingOptions{});
  return registry;
}

void visit_fields(config::Visitor& visitor, TermConfig& config) {
  visit_fields(visitor, config.term);
  visitor("weight", config.weight, "in the total, over optimizer steps; while it is 0 the term is not computed", config::kNonNegative);
  visitor("streams", config.streams, "names of the streams whose rows it uses; empty: all");
}

std::shared_ptr<Criterion> make_criterion(const CriterionConfig& config, const FeatureSpec& spec, const std::vector<std::string>& stream_names) {
  auto criterion = std::make_shared<Criterion>(spec);
  for (const auto& [name, term] : config) {
    std::vector<std::int64_t> streams;
    for (const std::string& stream : term.streams) {
      const auto found = std::find(stream_names.begin(), stream_names.end(), stream);
      TORCH_CHECK(found != stream_names.end(), "losses.", name, ".streams: there is no stream '", stream, "' in data.streams");
      streams.push_back(found - stream_names.begin());
    }
    LossTermPtr made = term.term.make(spec);
    initialize(*made, spec.seed, spec.initializer_range, name);
    criterion->add(name, std::move(made), term.weight, streams);
  }
  criterion->connect();
  return criterion;
}

}  // namespace fgvl::losses
