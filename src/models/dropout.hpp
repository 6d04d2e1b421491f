#pragma once
#include <utility>
#include <vector>

#include <torch/torch.h>

#include "fgvl/core/random.hpp"
#include "fgvl/core/tensor.hpp"

namespace fgvl::models {

/// Dropout of one stage of one pass, drawn from a stream of its own, so that a stage which does not run changes no other stage's numbers.
class Dropout {
 public:
  /// Those rows of a batch for which a branch runs.
  class Rows {
   public:
    Rows() = default;  ///< all
    /// Those of `per_row` [N, ...]; an undefined tensor stays so.
    Tensor of(const Tensor& per_row) const { return places_.defined() && per_row.defined() ? per_row.index_select(0, places_) : per_row; }

   private:
    friend class Dropout;
    explicit Rows(Tensor places) : places_(std::move(places)) {}
    Tensor places_{};  ///< [n] int64
  };

  /// No dropout at all: evaluation.
  Dropout() = default;
  Dropout(const GeneratorKey& key, at::Device device) : generator_(Generator(key).torch_generator(device)) {}

  /// Whether anything is dropped with this probability.
  bool drops(double probability) const { return generator_.defined() && probability > 0; }

  /// Will draw what this one will draw; neither moves the other.
  Dropout copy() const {
    Dropout other;
    if (generator_.defined()) other.generator_ = generator_.clone();
    return other;
  }

  /// Each element is dropped, or kept and divided by the probability of that.
  Tensor operator()(const Tensor& input, double probability);

  /// `stream + branch(stream, rows)` with stochastic depth (arXiv 1603.09382): each row of `stream` [N, ...] goes without its branch, or has it divided by the probability of that. On a CPU, where the draw is
  /// known before the branch runs, it runs for those rows alone that have it; `rows.of` cuts other tensors to them.
  template <class Branch>
  Tensor add_branch(const Tensor& stream, double probability, Branch&& branch) {
    if (!drops(probability)) return stream + branch(stream, Rows());
    const Tensor kept = at::empty({stream.size(0)}, stream.options()).bernoulli_(1 - probability, generator_);
    const double factor = 1 / (1 - probability);
    if (stream.is_cpu()) {
      const Rows rows(kept.nonzero().flatten());
      const std::int64_t count = rows.places_.numel();
      if (count == stream.size(0)) return at::add(stream, branch(stream, Rows()), factor);
      // Without any row, the branch's weights would have no gradient, where they have one of 0.
      if (count > 0) {
        const Tensor added = branch(rows.of(stream), rows);
        const at::ScalarType type = at::result_type(stream, added);
        return stream.to(type).index_add(0, rows.places_, added.to(type), factor);
      }
    }
    std::vector<std::int64_t> shape(static_cast<std::size_t>(stream.dim()), 1);
    shape[0] = stream.size(0);
    return stream + branch(stream, Rows()) * (kept * factor).view(shape);
  }

 private:
  at::Generator generator_{};
};

}  // namespace fgvl::models
