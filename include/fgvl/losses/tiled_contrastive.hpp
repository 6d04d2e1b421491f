#pragma once
#include "fgvl/core/tensor.hpp"

namespace fgvl::losses {

/// Which of N queries and M keys belong together, said by int64 names instead of masks, so that nothing of size N x M exists.
/// Pair (n, m) is a positive when query_id[n] == key_id[m] or (query_group[n], key_group[m]) is a row of `positive`; otherwise it is ignored (left out of every softmax and sum)
/// when (query_group[n], key_group[m]) is a row of `ignored`; otherwise it is a negative. Ids and groups are any int64 values; a row of `positive` or `ignored` may name groups that do not occur, and
/// may repeat. All tensors are on one device; M counts the keys of a queue behind the others.
struct PairRules {
  Tensor query_id{};     ///< [N] int64
  Tensor key_id{};       ///< [M] int64
  Tensor query_group{};  ///< [N] int64; this and key_group may be undefined when `positive` and `ignored` are
  Tensor key_group{};    ///< [M] int64
  Tensor positive{};     ///< [P, 2] int64 (query group, key group); undefined: none
  Tensor ignored{};      ///< [A, 2] int64 (query group, key group); undefined: none

  /// The same pairs with keys as queries and queries as keys.
  PairRules transposed() const;
  /// Row n with row n of `count` rows each, everything else a negative: InfoNCE as CLIP's.
  static PairRules diagonal(std::int64_t count, at::Device device = at::kCPU);
};

/// Targets (1 - alpha) * (uniform over a query's positives) + alpha * softmax(teacher similarities / temperature) over the keys that are not ignored: momentum distillation (ALBEF,
/// arXiv 2107.07651, eq. 6). The teacher carries no gradient, nor does the temperature in its softmax.
struct SoftTargets {
  double alpha = 0;   ///< 0: hard targets, and no teacher is read
  Tensor queries{};   ///< [N, E]
  Tensor keys{};      ///< [M, E], those of the queue included; undefined: the keys themselves
};

/// Queries against keys.
struct ContrastiveInput {
  Tensor queries{};      ///< [N, E] float32 or float64 (float16 and bfloat16: computed in float32); need not be unit rows
  Tensor keys{};         ///< [M, E], or [M - K, E] with a queue
  Tensor queue{};        ///< [K, E] further keys without gradient, behind `keys`; undefined: none
  Tensor temperature{};  ///< scalar by which similarities are divided, with gradient; > 0
  PairRules pairs{};
  SoftTargets soft{};
  bool both = false;     ///< also keys against queries, which share the product; without queue and soft targets only
};

/// Cross-entropies, one a query; with `both` also one a key. A row without a positive gives 0 and no gradient, with soft targets too.
struct ContrastiveLosses {
  Tensor to_keys{};     ///< [N]: of the softmax over the keys of each query
  Tensor to_queries{};  ///< [M]: of the softmax over the queries of each key; undefined without `both`
};

/// What multi_positive_cross_entropy says of queries * keys^T / temperature (and its transpose), computed tile by tile: similarities are never all in memory, forward keeps a log-sum-exp a row, and
/// backward computes the tiles again. At most four products of [N, E] and [E, M] in total, both directions together. Exact for any input: saturated logits, zero and non-unit rows.
/// N = 0 and M = 0 are allowed. Differentiable once, with respect to queries, keys and temperature.
/// Throws c10::Error, naming the field, for shapes, dtypes or devices that do not fit.
ContrastiveLosses tiled_contrastive(const ContrastiveInput& input);

/// Scalar: the sum over all pairs of -log sigmoid(y * (similarity * scale + bias)) with y = 1 for positives, -1 for negatives, ignored pairs left out: the pairwise loss of SigLIP (arXiv 2303.15343), tile by
/// tile. `scale` and `bias` are scalars with gradient. `queries` [N, E], `keys` [M, E]. Three products of [N, E] and [E, M] in total: the forward pass computes the gradients, too, where one is asked for.
/// Differentiable once. A float32 loss for float16 and bfloat16 rows. N = 0 and M = 0 are allowed. Throws c10::Error, naming the field, for shapes, dtypes or devices that do not fit.
struct SigmoidInput {
  Tensor queries{};  ///< [N, E]
  Tensor keys{};     ///< [M, E]
  Tensor scale{};    ///< scalar, with gradient
  Tensor bias{};     ///< scalar, with gradient
  PairRules pairs{};
};
Tensor tiled_sigmoid(const SigmoidInput& input);

}  // namespace fgvl::losses
