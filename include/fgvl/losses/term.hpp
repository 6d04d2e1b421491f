#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <torch/nn/module.h>

#include "fgvl/core/config_visitor.hpp"
#include "fgvl/core/forward_pass.hpp"

namespace fgvl::losses {

class LossTerm;
using LossTermPtr = std::shared_ptr<LossTerm>;

/// What one term says of one batch: named parts, each a sum over items (pairs, boxes, masked tokens) and the number of items it ran over.
/// Sums and counts instead of means, so that the criterion can take the mean over all ranks.
class Loss {
 public:
  struct Part {
    std::string name;   ///< "" for a term with one part
    double weight = 1.0;
    Tensor sum{};       ///< scalar with gradient; unweighted
    double count = 0;   ///< local number of items; 0 contributes nothing, and its sum is an exact zero
  };
  Loss& part(std::string name, double weight, Tensor sum, double count) {
    parts_.push_back({std::move(name), weight, std::move(sum), count});
    return *this;
  }
  const std::vector<Part>& parts() const { return parts_; }

 private:
  std::vector<Part> parts_;
};

/// Finds the other terms of a criterion by name, for terms that refer to one ("temperature of: itc", "scores of: itm").
class TermLookup {
 public:
  virtual ~TermLookup() = default;
  /// Null when there is none.
  virtual LossTermPtr find(std::string_view name) const = 0;
};

/// One loss over a forward pass. A module, so that its temperature and heads train, move and save like any parameter.
class LossTerm : public torch::nn::Module {
 public:
  virtual Loss forward(ForwardPass& pass) = 0;
  /// Called once after all terms of a criterion exist and before the first forward. A reference that cannot be resolved throws
  /// c10::Error and says which names exist.
  virtual void connect(const TermLookup&) {}

  /// Called once before every optimizer step of a model with momentum encoders (FeatureSpec::momentum), together with theirs: a term that keeps momentum copies of its heads
  /// moves them now.
  virtual void update_momentum() {}

  /// Restricts the term to rows of these streams (indices into the run's streams); empty: all.
  void limit_to_streams(std::vector<std::int64_t> streams) { streams_ = std::move(streams); }

 protected:
  /// [N] int64 rows of the batch that this term may use and for which `condition` [T] bool holds (undefined: all); ascending.
  Tensor rows_where(const RegionBatch& batch, const Tensor& condition = {}) const;

 private:
  std::vector<std::int64_t> streams_{};
};

}  // namespace fgvl::losses
