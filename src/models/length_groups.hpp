#pragma once
#include <vector>

#include <torch/torch.h>

#include "fgvl/core/tensor.hpp"

namespace fgvl::models {

/// Texts of one batch in at most two groups of similar length, so that short texts do not pay for the padding of long ones.
class LengthGroups {
 public:
  /// `mask` [N, L] bool, true on real tokens, which stand first. One group where two would not save at least a tenth of the tokens.
  explicit LengthGroups(const Tensor& mask);

  struct Group {
    Tensor rows{};              ///< [n] int64, ascending; undefined for the only group, which has all
    std::int64_t length = 0;    ///< of its longest text
  };
  const std::vector<Group>& groups() const { return groups_; }

  /// The group's rows of something that has one a text; undefined stays undefined.
  Tensor rows_of(const Tensor& of_texts, const Group& group) const;
  /// The same of [N, L, ...], cut to the group's length.
  Tensor tokens_of(const Tensor& of_texts, const Group& group) const { return rows_of(of_texts.slice(1, 0, group.length), group); }

  /// `compute(group)` gives [n, length, D], or [n, M, D] for all groups alike; joined in the order of the texts, with zeros behind short ones.
  template <class Compute>
  Tensor joined(Compute&& compute) const {
    std::vector<Tensor> parts;
    for (const Group& group : groups_) parts.push_back(compute(group));
    return joined_parts(parts);
  }

 private:
  Tensor joined_parts(std::vector<Tensor>& parts) const;
  std::vector<Group> groups_{};
  Tensor place_{};  ///< [N] int64: where each text's row stands when the groups stand behind one another
};

}  // namespace fgvl::models
