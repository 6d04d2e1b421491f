#pragma once
#include <concepts>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fgvl/core/initialize.hpp"
#include "fgvl/core/registry.hpp"
#include "fgvl/core/schedule.hpp"
#include "fgvl/losses/temperature.hpp"
#include "fgvl/losses/term.hpp"

namespace fgvl::losses {

template <class O>
concept TermOptions = requires(const O& options, const FeatureSpec& spec) {
  { make_term(options, spec) } -> std::same_as<LossTermPtr>;
};

/// What was computed this step, and only that.
struct LossReport {
  struct Value {
    std::string name;    ///< "itc", or "box.giou" for a part
    Tensor mean;         ///< detached scalar: sum over all ranks / count over all ranks
    double count = 0;    ///< over all ranks
    double weight = 1.0; ///< term weight x part weight, as it entered the total
  };
  Tensor total{};              ///< scalar; with gradient, also on batches that give every term nothing to do, unless no term has one; undefined only when the criterion has no term
  std::vector<Value> values{}; ///< parts whose global count is 0, and those of terms whose weight is 0 at this step, are left out
  std::vector<std::pair<std::string, Tensor>> shares{}; ///< term -> what it adds to the total, with gradient: they sum to it. Terms that were not computed are left out
  /// The mean of one part, or nothing when it was not computed.
  std::optional<double> mean(std::string_view name) const;
};

/// The weighted list of terms that is trained.
/// total = sum over parts of term weight * part weight * (sum / count), counts summed over ranks. Each rank's gradient, averaged over
/// ranks as data parallelism does, equals that of one process with the whole batch: local sums are scaled by the number of ranks.
/// A term's weight may change with the optimizer steps; while it is exactly 0 the term is not computed, and stands in no report.
class Criterion : public torch::nn::Module, private TermLookup {
 public:
  explicit Criterion(FeatureSpec spec);

  /// Throws c10::Error for an empty, dotted or repeated name.
  Criterion& add(std::string name, LossTermPtr term, const Schedule& weight = 1.0, std::vector<std::int64_t> streams = {});
  /// Makes the term; its heads start as `initialize` draws them from the spec's seed, whatever else was made before.
  template <TermOptions O>
  Criterion& add(std::string name, const O& options, const Schedule& weight = 1.0) {
    LossTermPtr term = make_term(options, spec_);
    initialize(*term, spec_.seed, spec_.initializer_range, name);
    return add(std::move(name), std::move(term), weight);
  }

  /// Resolves what terms say of one another; throws c10::Error for a name that does not exist. `forward` does it when nobody did.
  void connect();

  LossReport forward(ForwardPass& pass);
  /// LossTerm::update_momentum() of every term.
  void update_momentum();

  LossTermPtr find(std::string_view name) const override;
  std::vector<std::string> names() const;
  const FeatureSpec& spec() const { return spec_; }

 private:
  struct Entry {
    std::string name;
    LossTermPtr term;
    Schedule weight;
  };
  FeatureSpec spec_;
  std::vector<Entry> entries_;
  std::vector<std::shared_ptr<Temperature>> temperatures_;  ///< of all terms; one may read another's
  bool connected_ = false;
};

using TermRegistry = Registry<LossTermPtr, FeatureSpec>;
/// Ours: contrastive, sigmoid_contrastive, region_label_contrastive, matching, masked_language, language_model, box_regression, foil_matching.
std::shared_ptr<TermRegistry> builtin_terms();

/// One entry of the `losses:` section.
struct TermConfig {
  Choice<LossTermPtr, FeatureSpec> term;
  Schedule weight = 1.0;               ///< over optimizer steps
  std::vector<std::string> streams{};  ///< names of the streams whose rows it uses; empty: all
};
void visit_fields(config::Visitor& visitor, TermConfig& config);

/// The `losses:` section; the entry's name is the term's name.
using CriterionConfig = std::vector<std::pair<std::string, TermConfig>>;
/// `stream_names`: of the run, in the order of RegionBatch::text_stream. Throws c10::Error for a stream that does not exist.
std::shared_ptr<Criterion> make_criterion(const CriterionConfig& config, const FeatureSpec& spec, const std::vector<std::string>& stream_names = {});

}  // namespace fgvl::losses
