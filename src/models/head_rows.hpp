#pragma once
#include <vector>

#include "fgvl/core/tensor.hpp"

namespace fgvl::models {

// Note [Heads that move]
// Products of heads need [N, heads, L, d] in one piece. A CPU copies each head of each token there straight from rows of tokens and back, where selecting, splitting and joining by ATen's operators are several copies,
// whose operator for rows takes longer for a short row than the copy itself. Both functions are for tensors on the CPU. A slot is one of the N * L places of tokens.

/// P times [N, heads, L, d] (`shape`) out of rows [R, P * heads * d]: the token places[slot] in each slot. `own` [R] is the slot where each row stands; what other slots repeat gets no gradient.
std::vector<Tensor> split_rows(const Tensor& rows, const Tensor& places, const Tensor& own, at::IntArrayRef shape);

/// [K, heads * d] out of [N, heads, L, d]: what stands in slot slots[k]. A slot is taken once at most.
Tensor join_rows(const Tensor& heads, const Tensor& slots);

}  // namespace fgvl::models
