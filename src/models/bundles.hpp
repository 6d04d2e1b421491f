#pragma once
#include <torch/torch.h>

#include "fgvl/core/tensor.hpp"

namespace fgvl::models {

/// N pairs sorted into C bundles of up to `size` pairs that share a visual sequence. Attention runs a bundle at a time, so that the keys and values
/// of a sequence are copied once a bundle and not once a pair.
struct Bundles {
  std::int64_t size = 1;
  Tensor sequence{};      ///< [C] the sequence of each bundle
  Tensor slot_to_pair{};  ///< [C * size] the pair in each slot; an empty slot repeats the first pair of its bundle, and its output is dropped
  Tensor pair_to_slot{};  ///< [N]

  bool in_order = false;  ///< bundle c is of sequence c

  /// [N, ...] -> [C, size, ...].
  Tensor gather(const Tensor& of_pairs) const;
  /// [S, ...] of every sequence -> [C, ...] of every bundle's; the tensor itself where that is the same.
  Tensor of_bundles(const Tensor& of_sequences) const { return in_order && of_sequences.size(0) == sequence.size(0) ? of_sequences : of_sequences.index_select(0, sequence); }
};

/// `sequence_index`: [N] int64. The size that costs least by a rule of thumb; 1 where hardly any pairs share a sequence.
Bundles make_bundles(const Tensor& sequence_index);

}  // namespace fgvl::models
